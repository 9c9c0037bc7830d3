"""Putting our prefix in the place of the one that a conda package was built with.

As conda does it (``conda/core/portability.py``): in texts by plain replacement; in binaries the C
string that holds the prefix becomes shorter and is filled up with zeros, so that no offset moves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator


def replaced_text(data: memoryview, old: bytes, new: bytes) -> Iterator[memoryview]:
    """The pieces of *data* with *new* for every *old*."""
    begin = 0
    for found in re.finditer(re.escape(old), data):
        yield data[begin : found.start()]
        yield memoryview(new)
        begin = found.end()
    yield data[begin:]


def replaced_binary(data: memoryview, old: bytes, new: bytes) -> Iterator[memoryview]:
    """
    The pieces of *data* with *new* for every *old*, as long as before.

    Raises:
        ValueError: If *new* is longer than *old*.
    """
    if len(new) > len(old):
        raise ValueError("the prefix that it was built with is shorter than ours")
    begin = 0
    for found in re.finditer(re.escape(old) + rb"[^\0]*", data):
        text = found.group()
        yield data[begin : found.start()]
        yield memoryview(text.replace(old, new).ljust(len(text), b"\0"))
        begin = found.end()
    yield data[begin:]
