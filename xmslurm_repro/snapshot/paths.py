"""Paths are bytes; people read text."""

from __future__ import annotations


def shown(path: bytes) -> str:
    """The path as text: valid Unicode whatever the bytes are, which need not be UTF-8."""
    return path.decode("utf-8", "backslashreplace")
