"""Does a file hold something that should not be copied about?"""

from __future__ import annotations

import os
import re

_LARGEST_BYTES = 64 * 1024
"""Keys and tokens are kept in small files; reading large ones would cost more than it finds."""

# The forms are what the issuers document for their own scanners.
_FORMS = (
    ("a private key", rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("an AWS access key", rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("a GitHub token", rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22})"),
    ("a GitLab token", rb"\bglpat-[A-Za-z0-9_-]{20}"),
    ("a Hugging Face token", rb"\bhf_[A-Za-z0-9]{34}\b"),
    ("a Slack token", rb"\bxox[abeoprs]-[A-Za-z0-9-]{10}"),
    ("a Google API key", rb"\bAIza[0-9A-Za-z_-]{35}"),
    ("a PyPI token", rb"\bpypi-AgE[A-Za-z0-9_-]{50}"),
    ("an API key", rb"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{40}"),
)
_ANY = re.compile(b"|".join(b"(" + form + b")" for _, form in _FORMS))


def without_tokens(text: str, instead: str) -> str:
    """*text* with *instead* in place of each key or token in it that we know."""
    return _ANY.sub(instead.encode(), text.encode("utf-8", "surrogateescape")).decode(
        "utf-8", "surrogateescape"
    )


def secret_inside(place: bytes, size_bytes: int) -> str | None:
    """
    What secret the file *place* holds, such as ``a private key``; ``None`` for none that we know.

    Large files and those that hold a NUL are not looked into. One that cannot be read is not
    judged: whoever captures it says so.
    """
    if size_bytes > _LARGEST_BYTES:
        return None
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(descriptor, _LARGEST_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    found = None if b"\0" in data else _ANY.search(data)
    return None if found is None or found.lastindex is None else _FORMS[found.lastindex - 1][0]
