"""Remotes as others may read of them: without what lets one in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from xmslurm_repro.snapshot.secrets import without_tokens

if TYPE_CHECKING:
    from dulwich.config import StackedConfig

_HIDDEN = "…"
_SSH = {"ssh", "git+ssh", "ssh+git"}
_LOGIN = re.compile(r"[^/@:\s'\"]+:[^/@\s'\"]*@")
_HELPER = re.compile(r"([A-Za-z0-9][A-Za-z0-9.+-]*)::(.*)", re.DOTALL)


def remotes_of(config: StackedConfig) -> dict[str, str]:
    """
    Name to URL of every remote, as git would use it (``url.<base>.insteadOf``), without
    credentials. Where one pushes to another place, that is there as ``<name> (push)``.
    """
    bases = _bases(config)
    remotes: dict[str, str] = {}
    for section in config.sections():
        if len(section) != 2 or section[0].lower() != b"remote":
            continue
        name = section[1].decode("utf-8", "backslashreplace")
        for key, label in ((b"url", name), (b"pushurl", f"{name} (push)")):
            url = _first(config, section, key)
            if url is not None:
                text = _rewritten(url, bases).decode("utf-8", "backslashreplace")
                remotes[label] = without_credentials(text)
    return remotes


def _bases(config: StackedConfig) -> dict[bytes, bytes]:
    """What URLs may begin with, and what that stands for."""
    bases: dict[bytes, bytes] = {}
    for section in config.sections():
        if len(section) == 2 and section[0].lower() == b"url":
            for short in config.get_multivar(section, b"insteadOf"):
                bases[short] = section[1]
    return bases


def _first(config: StackedConfig, section: tuple[bytes, ...], key: bytes) -> bytes | None:
    # Of several URLs git fetches from the first.
    return next(iter(config.get_multivar(section, key)), None)


def _rewritten(url: bytes, bases: dict[bytes, bytes]) -> bytes:
    best = max((short for short in bases if url.startswith(short)), key=len, default=None)
    return url if best is None else bases[best] + url[len(best) :]


def without_credentials(url: str) -> str:
    """
    A remote's URL without what must not be recorded: passwords, tokens, queries, commands.

    A user name is kept for SSH, where it is part of the address and no secret; with HTTP it
    may be a token. ``host:path`` and paths are returned as they are.
    """
    url = url.strip()
    helper = _HELPER.fullmatch(url)
    if helper is not None:
        # What follows "ext::" is a command line, where anything may stand.
        rest = _HIDDEN if helper[1] == "ext" else without_credentials(helper[2])
        return f"{helper[1]}::{rest}"
    if "://" in url:
        url = _of_scheme(url)
    if url.startswith(("/", ".")) and not url.startswith("//"):
        return url
    return without_tokens(_LOGIN.sub("", url), _HIDDEN)


def _of_scheme(url: str) -> str:
    scheme, _, address = url.partition("://")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        # A bracket without its pair, or a password with a slash: we cannot tell what is secret.
        _, at, host = address.rpartition("@")
        return f"{scheme}://{host.partition('?')[0]}" if at and "[" not in host else f"{scheme}://…"
    login, at, host = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    kept = f"{user}@{host}" if at and user and parts.scheme in _SSH else host
    path = parts.path.partition(";")[0] if "=" in parts.path.partition(";")[2] else parts.path
    return urlunsplit((parts.scheme, kept, path, "", ""))
