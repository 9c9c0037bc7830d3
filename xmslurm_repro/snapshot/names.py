"""Names that are not what they seem to some file systems."""

from __future__ import annotations

import re

# What HFS+ overlooks in a name (git's utf8.c, next_hfs_char), and what NTFS makes of short names,
# trailing dots and blanks, and streams (git's path.c, is_ntfs_dotgit).
_OVERLOOKED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_NTFS = re.compile(r"(?:\.git|git~1)[ .]*(?::.*)?", re.IGNORECASE | re.DOTALL)


def may_be_git_s(name: bytes) -> bool:
    """Whether the file system of some machine takes *name* for ``.git``; git refuses it, too."""
    if b"git" not in name.lower() and name.isascii():
        return False
    text = _OVERLOOKED.sub("", name.decode("utf-8", "replace"))
    return _NTFS.fullmatch(text) is not None
