"""Putting a split index together (``core.splitIndex``; gitformat-index(5), "Split index").

The shared file holds most entries; the index itself holds a base's name, two bitmaps over its
entries (gone, replaced) and the entries that replace or join them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

Entry = TypeVar("Entry")

_WORD_BITS = 64


def base_name(link: bytes, id_bytes: int) -> bytes | None:
    """What the file with the shared entries is called; ``None`` for an index without one."""
    name = link[:id_bytes]
    if len(name) != id_bytes:
        raise ValueError("its link is cut short")
    return b"sharedindex." + name.hex().encode() if any(name) else None


def merge(
    link: bytes,
    id_bytes: int,
    shared: Sequence[tuple[bytes, Entry]],
    own: Iterable[tuple[bytes, Entry]],
) -> list[tuple[bytes, Entry]]:
    """
    All entries, sorted by path.

    Args:
        link: The body of the ``link`` extension.
        id_bytes: The size of object ids.
        shared: Path and entry of the shared file, in its order.
        own: Path and entry of the index; those that replace others have no path.

    Raises:
        ValueError: If the parts do not fit.
    """
    rest = link[id_bytes:]
    gone: set[int] = set()
    replaced: list[int] = []
    if rest:
        deleted, at = _bits(rest, 0)
        gone.update(deleted)
        bits, at = _bits(rest, at)
        replaced = sorted(bits)
    found = dict(enumerate(shared))
    replacing = iter(replaced)
    joined: list[tuple[bytes, Entry]] = []
    for path, entry in own:
        if path:
            joined.append((path, entry))
            continue
        number = next(replacing, None)
        if number is None or number not in found:
            raise ValueError("it replaces an entry that is not there")
        found[number] = found[number][0], entry
    kept = [item for number, item in found.items() if number not in gone]
    return sorted([*kept, *joined], key=lambda item: item[0])


def _bits(data: bytes, at: int) -> tuple[list[int], int]:
    """The bits that are set in an EWAH bitmap, and where it ends."""
    bit_count, word_count = struct.unpack_from(">II", data, at)
    begin = at + 8
    words = struct.unpack_from(f">{word_count}Q", data, begin)
    found = [bit for bit in _set_bits(words) if bit < bit_count]
    # The position of the last marker follows, which only a writer needs.
    return found, begin + 8 * word_count + 4


def _set_bits(words: Sequence[int]) -> Iterator[int]:
    at, bit = 0, 0
    while at < len(words):
        marker = words[at]
        run = (marker >> 1) & 0xFFFFFFFF
        literals = marker >> 33
        if marker & 1:
            yield from range(bit, bit + run * _WORD_BITS)
        bit += run * _WORD_BITS
        for word in words[at + 1 : at + 1 + literals]:
            yield from (bit + number for number in range(_WORD_BITS) if word >> number & 1)
            bit += _WORD_BITS
        at += 1 + literals
