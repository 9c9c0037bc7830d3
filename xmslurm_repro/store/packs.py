"""Packs: many objects in one file that ``zstd``, ``grep``, ``tail`` and ``head`` can read.

A pack is zstd frames ("blocks") that hold the raw bytes of objects one behind the other, and
then a skippable frame (RFC 8878, 3.1.2) that holds the index as text. ``zstd -dc`` skips the
index, so it gives exactly the raw bytes that the index's offsets count. The format is described
in ``docs/reference/format-objects.md``.
"""

from __future__ import annotations

import os
import struct
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from xmslurm_repro.errors import FormatError
from xmslurm_repro.store.blocks import BLOCK_BYTES, SUFFIX, BlockCache
from xmslurm_repro.store.files import Temporary, sync_folder
from xmslurm_repro.store.hashing import blake3_hex

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

LEVEL = 3
"""Compression level: 0.3 GB/s a core, a fifth smaller than level 1 on source code."""

_HEADER = b"xmslurm-pack/1\n"
_OBJECT_BYTES = 64 + 1 + 15 + 1 + 15 + 1
_BLOCK_LINE_BYTES = 5 + 1 + 15 + 1 + 15 + 1
_END_BYTES = 3 + 1 + 15 + 1 + 15 + 1 + 64 + 1
_OBJECT_DIGITS = struct.Struct(f"64s{_OBJECT_BYTES - 64}x")
_SKIPPABLE = struct.Struct("<4sI")
_SKIPPABLE_MAGIC = b"\x50\x2a\x4d\x18"


def compress(data: bytes) -> bytes:
    """One zstd frame that holds *data* and says how much that is. Its bytes are no identity."""
    return _compressors().compressor.compress(data)


class _Compressors(threading.local):
    """A compressor for each thread: to make one takes longer than to compress a small file."""

    def __init__(self) -> None:
        import zstandard  # noqa: PLC0415 (costs 8 ms)

        self.compressor = zstandard.ZstdCompressor(level=LEVEL)


@cache
def _compressors() -> _Compressors:
    return _Compressors()


class PackWriter:
    """
    Writes one pack. Nothing is to be seen of it before `finish`.

    Memory is bounded: a few blocks, whatever is added.
    """

    def __init__(self, folder: Path, temporary_in: Path) -> None:
        self._folder = folder
        self._file = Temporary(temporary_in)
        # What the next block will hold, not joined yet: bytes are copied once.
        self._pieces: list[bytes | memoryview] = []
        self._held_bytes = 0
        self._objects: list[tuple[str, int, int]] = []
        self._blocks: list[tuple[int, int]] = []
        self._raw_bytes = 0
        self._written_bytes = 0
        self._workers = min(4, os.cpu_count() or 1)
        self._pool: ThreadPoolExecutor | None = None
        self._underway: deque[tuple[int, Future[bytes]]] = deque()

    def add(self, digits: str, data: bytes) -> None:
        """Add a whole object that fits into one block; it will not straddle two."""
        if self._held_bytes and self._held_bytes + len(data) > BLOCK_BYTES:
            self._flush()
        start = self.append(data)
        self.close_object(digits, start)

    def append(self, data: bytes | memoryview) -> int:
        """Add bytes of an object; return where in the raw bytes they begin."""
        start = self._raw_bytes
        if self._held_bytes + len(data) >= BLOCK_BYTES:
            data = memoryview(data)
        while self._held_bytes + len(data) >= BLOCK_BYTES:
            room = BLOCK_BYTES - self._held_bytes
            self._hold(data[:room])
            self._flush()
            data = data[room:]
        if data:
            self._hold(data)
        return start

    def _hold(self, piece: bytes | memoryview) -> None:
        self._pieces.append(piece)
        self._held_bytes += len(piece)
        self._raw_bytes += len(piece)

    def close_object(self, digits: str, start: int) -> None:
        """Name what was appended since *start*."""
        self._objects.append((digits, start, self._raw_bytes - start))

    def finish(self) -> Path:
        """Publish the pack: afterwards it is there and safe on disk."""
        if self._pool is None and self._pieces:
            self._write_block(0, compress(b"".join(self._pieces)))
        elif self._pieces:
            self._flush()
        while self._underway:
            self._write_oldest()
        index = self._index()
        self._file.write(_SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(index)))
        self._file.write(index)
        self._file.sync()
        path = self._folder / (blake3_hex(index) + SUFFIX)
        self._file.publish(path)
        sync_folder(self._folder)
        return path

    def discard(self) -> None:
        """Let go of everything; remove what was not finished. Idempotent."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._file.discard()

    def _flush(self) -> None:
        block = b"".join(self._pieces)
        start = self._raw_bytes - self._held_bytes
        self._pieces.clear()
        self._held_bytes = 0
        if self._pool is None:
            # Costs 10 ms of start-up, which a launch after a small edit need not pay.
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

            self._pool = ThreadPoolExecutor(self._workers)
        self._underway.append((start, self._pool.submit(compress, block)))
        while len(self._underway) > 2 * self._workers:
            self._write_oldest()

    def _write_oldest(self) -> None:
        start, future = self._underway.popleft()
        self._write_block(start, future.result())

    def _write_block(self, start: int, frame: bytes) -> None:
        self._blocks.append((start, self._written_bytes))
        self._file.write(frame)
        self._written_bytes += len(frame)

    def _index(self) -> bytes:
        objects = b"".join(
            b"%s %015d %015d\n" % (digits.encode(), start, size)
            for digits, start, size in sorted(self._objects)
        )
        blocks = b"".join(
            b"block %015d %015d\n" % block
            for block in [*self._blocks, (self._raw_bytes, self._written_bytes)]
        )
        body = _HEADER + objects + blocks
        counts = (len(self._objects), len(self._blocks) + 1, blake3_hex(body).encode())
        return body + b"end %015d %015d %s\n" % counts


class Pack:
    """
    A pack on disk. Its index is read and checked at once, its blocks when they are asked for.

    Raises:
        FormatError: If the index is damaged.
        OSError: If the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as file:
            self._index, self._objects, blocks = _read_index(file.fileno(), path)
        at = len(_HEADER) + self._objects * _OBJECT_BYTES
        lines = self._index[at : at + blocks * _BLOCK_LINE_BYTES].split(b"\n")[:-1]
        self._starts = [int(line[6:21]) for line in lines]
        self._positions = [int(line[22:37]) for line in lines]

    def digits(self) -> Iterator[bytes]:
        """The digits of every object's name, in order."""
        begin = len(_HEADER)
        objects = memoryview(self._index)[begin : begin + self._objects * _OBJECT_BYTES]
        return (digits for (digits,) in _OBJECT_DIGITS.iter_unpack(objects))

    def extent(self, number: int) -> tuple[int, int]:
        """Where object *number* begins in the raw bytes, and its size."""
        begin = len(_HEADER) + number * _OBJECT_BYTES
        line = self._index[begin : begin + _OBJECT_BYTES]
        return int(line[65:80]), int(line[81:96])

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
        with open(self.path, "rb", buffering=0) as file:
            frame = os.pread(file.fileno(), self._positions[number + 1] - position, position)
        # A damaged header may claim any size, and the library would allocate it.
        if zstandard.frame_content_size(frame) > BLOCK_BYTES:
            raise zstandard.ZstdError("a block claims to be larger than blocks are")
        block = zstandard.ZstdDecompressor().decompress(frame, max_output_size=BLOCK_BYTES)
        cache.put(self.path, number, block)
        return block


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
    length = len(_HEADER) + objects * _OBJECT_BYTES + blocks * _BLOCK_LINE_BYTES
    index = os.pread(descriptor, length, max(0, size - _END_BYTES - length))
    if (
        len(index) != length
        or not index.startswith(_HEADER)
        or blake3_hex(index) != digits.decode()
    ):
        raise FormatError(
            f"{path}: its index is damaged",
            hint="Restore the file from a copy of the store.",
        )
    return index, objects, blocks
