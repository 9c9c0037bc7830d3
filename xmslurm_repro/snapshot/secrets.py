"""Does a file hold something that should not be copied about?"""

from __future__ import annotations

import os
import re
from functools import cache

_LARGEST_BYTES = 64 * 1024
"""Keys and tokens are kept in small files; reading large ones would cost more than it finds."""
_LARGEST_NOTEBOOK_BYTES = 1024 * 1024
"""Notebooks hold their results too, and tokens more often than anything."""

_NOBODY_S = (
    rb"(?:pass(?:word|wd|phrase)?|pw[d]?|secret|token|user(?:name)?|your\w*|my\w*|x+|\*+|\.+|"
    rb"change\w*|example|dummy|fake|test\w*|postgres|root|admin|guest|hunter2)"
)
"""What stands for a password in documents and tests."""

# Each form with a text that whatever has it has too, which is found a hundred times as fast.
# The forms are what the issuers document for their own scanners.
_FORMS: tuple[tuple[str, tuple[bytes, ...], bytes], ...] = (
    ("a private key", (b"PRIVATE KEY",), rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("a private key", (b"PuTTY-User-Key",), rb"PuTTY-User-Key-File-\d"),
    ("a private key", (b"AGE-SECRET-KEY-1",), rb"AGE-SECRET-KEY-1[0-9A-Z]{50}"),
    ("a private key", (b"client-key-data",), rb"client-key-data:\s*[A-Za-z0-9+/=]{20}"),
    # Amazon's own documents use keys that end in EXAMPLE.
    ("an AWS access key", (b"AKIA", b"ASIA"),
     rb"\b(?:AKIA|ASIA)(?![0-9A-Z]{9}EXAMPLE\b)[0-9A-Z]{16}\b"),
    ("an AWS secret key", (b"ecret_access_key", b"SECRET_ACCESS_KEY", b"ecretAccessKey"),
     rb"(?i:secret_?access_?key)[\"'\]]*\s*[:=]\s*[\"']?[A-Za-z0-9/+]{40}\b"),
    ("a GitHub token", (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
     rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22})"),
    ("a GitLab token", (b"glpat-",), rb"\bglpat-[A-Za-z0-9_-]{20}"),
    ("a Hugging Face token", (b"hf_",), rb"\bhf_[A-Za-z0-9]{34}\b"),
    ("a Slack token", (b"xox",), rb"\bxox[abeoprs]-[A-Za-z0-9-]{10}"),
    ("a Slack address", (b"hooks.slack.com",),
     rb"hooks\.slack\.com/services/T\w+/B\w+/[A-Za-z0-9]{20}"),
    ("a Google API key", (b"AIza", b"GOCSPX-"), rb"\b(?:AIza[0-9A-Za-z_-]{35}|GOCSPX-[\w-]{28})"),
    ("a PyPI token", (b"pypi-AgE",), rb"\bpypi-AgE[A-Za-z0-9_-]{50}"),
    ("an npm token", (b"npm_", b"_authToken", b"_password"),
     rb"\bnpm_[A-Za-z0-9]{36}\b|:_(?:authToken|password)\s*=\s*[^\s$]{8}"),
    ("an API key", (b"sk-",),
     rb"(?<![\w-])sk-(?:(?:ant|proj|svcacct|admin|or-v1)-[A-Za-z0-9_-]{40}|[A-Za-z0-9]{40})"),
    ("an API key", (b"k_live_", b"SG.", b"r8_", b"dapi", b"hvs.", b"dop_v1_"),
     (rb"\b(?:[sr]k_live_[A-Za-z0-9]{20}|SG\.[\w-]{16,}\.[\w-]{16}|r8_[A-Za-z0-9]{37}\b|"
      rb"dapi[0-9a-f]{32}\b|hvs\.[\w-]{24}|dop_v1_[0-9a-f]{64})")),
    ("an API key", (b"andb_api_key", b"WANDB_API_KEY"),
     rb"(?i:wandb_api_key)[\"'\]]*\s*[:=,]\s*[\"']?[0-9a-f]{40}\b"),
    ("an Azure account key", (b"AccountKey=",), rb"AccountKey=[A-Za-z0-9+/]{86}=="),
    ("a JSON web token", (b"eyJ",), rb"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20}"),
    ("a login of a registry", (b'"auth"',), rb'"auth"\s*:\s*"[A-Za-z0-9+/]{8,}={0,2}"'),
    ("a password in an address", (b"://",),
     rb"://[^/\s:@'\"<{$]+:(?!" + _NOBODY_S
     + rb"@)[^/\s:@'\"<{$]{6,}@(?!localhost|127\.|example\.)\w"),
)  # fmt: skip

_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----")


@cache
def _compiled(form: bytes) -> re.Pattern[bytes]:
    return re.compile(form)


def _secret_in(data: bytes) -> str | None:
    for what, hints, form in _FORMS:
        if any(hint in data for hint in hints) and _compiled(form).search(data):
            return what
    return None


def without_tokens(text: str, instead: str) -> str:
    """*text* with *instead* in place of each key or token in it that we know."""
    data = text.encode("utf-8", "surrogateescape")
    for _, hints, form in _FORMS:
        if any(hint in data for hint in hints):
            data = _compiled(form).sub(instead.encode(), data)
    return data.decode("utf-8", "surrogateescape")


def secret_inside(place: bytes, size_bytes: int) -> str | None:
    """
    What secret the file *place* holds, such as ``a private key``; ``None`` for none that we know.

    Large files and those that hold a NUL are not looked into. One that cannot be read is not
    judged: whoever captures it says so.
    """
    data = _read(place, size_bytes)
    return None if data is None or b"\0" in data else _secret_in(data)


def is_public(place: bytes, size_bytes: int) -> bool:
    """Whether the file *place*, whatever its name, holds certificates and public keys only."""
    data = _read(place, size_bytes)
    return data is not None and _PEM.search(data) is not None and b"PRIVATE KEY" not in data


def _read(place: bytes, size_bytes: int) -> bytes | None:
    limit = _LARGEST_NOTEBOOK_BYTES if place.endswith(b".ipynb") else _LARGEST_BYTES
    if size_bytes > limit:
        return None
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, limit)
    except OSError:
        return None
    finally:
        os.close(descriptor)
