"""Packs: many objects in one file that ``zstd``, ``grep``, ``tail`` and ``head`` can read.

A pack is zstd frames ("blocks") that hold the raw bytes of objects one behind the other, and
then a skippable frame (RFC 8878, 3.1.2) that holds the index as text. ``zstd -dc`` skips the
index, so it gives exactly the raw bytes that the index's offsets count. The format is described
in ``docs/reference/format-objects.md``.
"""

from __future__ import annotations

import os
import stat
import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from xmslurm_repro.errors import FormatError
from xmslurm_repro.store.blocks import BLOCK_BYTES, BlockCache
from xmslurm_repro.store.hashing import blake3_hex
from xmslurm_repro.store.pack_writer import HEADER

_OBJECT_BYTES = 64 + 1 + 15 + 1 + 15 + 1
_BLOCK_LINE_BYTES = 5 + 1 + 15 + 1 + 15 + 1
_END_BYTES = 3 + 1 + 15 + 1 + 15 + 1 + 64 + 1
_OBJECT_DIGITS = struct.Struct(f"64s{_OBJECT_BYTES - 64}x")


class Pack:
    """
    A pack on disk. Its index is read and checked at once, its blocks when they are asked for.

    Args:
        path: The file.
        later: Where the file may have gone meanwhile; see `store.unsynced`.

    Raises:
        FormatError: If the index is damaged.
        OSError: If the file cannot be read.
    """

    def __init__(self, path: Path, later: Path | None = None) -> None:
        self.path = path
        self._later = later
        # Not to wait for whoever might write, should it be a FIFO.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FormatError(f"{path}: not a pack: it is no file")
            self._index, self._objects, blocks = _read_index(descriptor, path)
        finally:
            os.close(descriptor)
        at = len(HEADER) + self._objects * _OBJECT_BYTES
        lines = self._index[at : at + blocks * _BLOCK_LINE_BYTES].split(b"\n")[:-1]
        self._starts = [int(line[6:21]) for line in lines]
        self._positions = [int(line[22:37]) for line in lines]

    def digits(self) -> Iterator[bytes]:
        """The digits of every object's name, in order."""
        begin = len(HEADER)
        objects = memoryview(self._index)[begin : begin + self._objects * _OBJECT_BYTES]
        return (digits for (digits,) in _OBJECT_DIGITS.iter_unpack(objects))

    def number_of(self, digits: bytes) -> int | None:
        """The number of the object of that name, or ``None`` if it is not here."""
        low, high = 0, self._objects
        while low < high:
            middle = (low + high) // 2
            begin = len(HEADER) + middle * _OBJECT_BYTES
            found = self._index[begin : begin + len(digits)]
            if found == digits:
                return middle
            low, high = (middle + 1, high) if found < digits else (low, middle)
        return None

    def extent(self, number: int) -> tuple[int, int]:
        """Where object *number* begins in the raw bytes, and its size."""
        begin = len(HEADER) + number * _OBJECT_BYTES
        line = self._index[begin : begin + _OBJECT_BYTES]
        return int(line[65:80]), int(line[81:96])

    @property
    def is_unsynced(self) -> bool:
        """Whether it was not safe on disk when it was found."""
        return self._later is not None

    def settle(self) -> bool:
        """Look for it where it goes when it is safe on disk; false if it was there before."""
        if self._later is None:
            return False
        self.path, self._later = self._later, None
        return True

    def is_there(self) -> bool:
        """Whether the file is still there."""
        return os.path.exists(self.path) or bool(self._later and os.path.exists(self._later))

    def chunks(self, start: int, size: int, cache: BlockCache) -> Iterator[bytes | memoryview]:
        """
        The raw bytes from *start*, block by block.

        Raises:
            zstandard.ZstdError: If a block cannot be decompressed.
            OSError: If the file cannot be read.
        """
        number = bisect_right(self._starts, start) - 1
        while size > 0:
            block = self._block(number, cache)
            begin = start - self._starts[number]
            piece = memoryview(block)[begin : begin + size]
            if not piece:
                return
            yield piece
            start += len(piece)
            size -= len(piece)
            number += 1

    def _block(self, number: int, cache: BlockCache) -> bytes:
        import zstandard  # noqa: PLC0415 (costs 8 ms)

        known = cache.get(self.path, number)
        if known is not None:
            return known
        if number + 1 >= len(self._positions):
            return b""
        position = self._positions[number]
        descriptor = self._open()
        try:
            frame = os.pread(descriptor, self._positions[number + 1] - position, position)
        finally:
            os.close(descriptor)
        # A damaged header may claim any size, and the library would allocate it.
        if zstandard.frame_content_size(frame) > BLOCK_BYTES:
            raise zstandard.ZstdError("a block claims to be larger than blocks are")
        block = zstandard.ZstdDecompressor().decompress(frame, max_output_size=BLOCK_BYTES)
        cache.put(self.path, number, block)
        return block

    def _open(self) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC
        if self._later is not None:
            with suppress(FileNotFoundError):
                return os.open(self.path, flags)
            return os.open(self._later, flags)
        return os.open(self.path, flags)


def _read_index(descriptor: int, path: Path) -> tuple[bytes, int, int]:
    size = os.fstat(descriptor).st_size
    end = os.pread(descriptor, _END_BYTES, max(0, size - _END_BYTES))
    words = end.split(b" ")
    try:
        if words[0] != b"end" or len(end) != _END_BYTES:
            raise ValueError("it has no end")
        objects, blocks, digits = int(words[1]), int(words[2]), words[3].strip()
    except (ValueError, IndexError) as error:
        raise FormatError(f"{path}: not a pack, or cut short: {error}") from error
    length = len(HEADER) + objects * _OBJECT_BYTES + blocks * _BLOCK_LINE_BYTES
    index = os.pread(descriptor, length, max(0, size - _END_BYTES - length))
    if len(index) != length or not index.startswith(HEADER) or blake3_hex(index) != digits.decode():
        raise FormatError(
            f"{path}: its index is damaged",
            hint="Restore the file from a copy of the store.",
        )
    return index, objects, blocks
