"""Writing packs: bytes are copied once, into a block, and compressed beside whoever reads them."""

from __future__ import annotations

import os
import struct
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from queue import SimpleQueue
from typing import TYPE_CHECKING

from xmslurm_repro.store.files import Temporary
from xmslurm_repro.store.hashing import blake3_hex

if TYPE_CHECKING:
    from zstandard import ZstdCompressor

LEVEL = 3
"""Compression level of what is compressed while its writer waits, which is little."""
BULK_LEVEL = 1
"""
Compression level of full blocks. On source code level 3 takes half as long again and saves an
eighth of the space; on what does not compress both take as long.
"""

FULL_BYTES = 2 * 1024 * 1024
"""
How many raw bytes are written as one block. Blocks of 4 MiB, the most that there may be, save
half a percent and take twice the memory; of 1 MiB they cost one to two percent.
"""

HEADER = b"xmslurm-pack/1\n"
SKIPPABLE = struct.Struct("<4sI")
SKIPPABLE_MAGIC = b"\x50\x2a\x4d\x18"
_MOST_WORKERS = 4
_FIRST_BYTES = 256 * 1024
"""How large the first block is at first: to clear all of one would take a small batch longest."""


def compress(data: bytes | memoryview) -> bytes:
    """One zstd frame that holds *data* and says how much that is. Its bytes are no identity."""
    return _compressors().of(LEVEL).compress(data)


class _Compressors(threading.local):
    """Compressors for each thread: to make one takes longer than to compress a small file."""

    def __init__(self) -> None:
        self._made: dict[int, ZstdCompressor] = {}

    def of(self, level: int) -> ZstdCompressor:
        found = self._made.get(level)
        if found is None:
            import zstandard  # noqa: PLC0415 (costs 3 ms)

            found = self._made[level] = zstandard.ZstdCompressor(level=level)
        return found


@cache
def _compressors() -> _Compressors:
    return _Compressors()


@cache
def _frame_of_zeros() -> bytes:
    return compress(bytes(FULL_BYTES))


class _Block:
    """A block on its way: raw bytes first, and a frame when it is ready."""

    __slots__ = ("buffer", "error", "frame", "is_ready", "size", "start")

    def __init__(self, buffer: bytearray, size: int, start: int) -> None:
        self.buffer = buffer
        self.size = size
        self.start = start
        self.frame = b""
        self.error: BaseException | None = None
        self.is_ready = threading.Event()

    def run(self) -> None:
        try:
            whole = memoryview(self.buffer)[: self.size]
            self.frame = _compressors().of(BULK_LEVEL).compress(whole)
        except BaseException as error:
            self.error = error
        self.is_ready.set()


class _Workers:
    """Threads that compress. `concurrent.futures` takes 10 ms to import, which a launch waits."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._waiting: SimpleQueue[_Block | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, block: _Block) -> None:
        self._waiting.put(block)

    def close(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (block := self._waiting.get()) is not None:
            block.run()


class PackWriter:
    """
    Writes one pack. Nothing is to be seen of it before it is published.

    Memory is bounded: a few blocks and 80 bytes for each object, whatever is added.

    Args:
        begin: Makes the file, when the first block is full.
    """

    def __init__(self, begin: Callable[[], Temporary]) -> None:
        self._begin = begin
        self._file: Temporary | None = None
        self._buffer = bytearray(_FIRST_BYTES)
        self._view = memoryview(self._buffer)
        self._fill = 0
        # Where the block under way begins in the raw bytes.
        self._base = 0
        self._digests: list[bytes] = []
        self._starts = array("Q")
        self._sizes = array("Q")
        self._blocks: list[tuple[int, int]] = []
        self._written_bytes = 0
        self._workers: _Workers | None = None
        self._underway: deque[_Block] = deque()
        self._spare: list[bytearray] = []

    @property
    def position(self) -> int:
        """How many raw bytes there are so far."""
        return self._base + self._fill

    @property
    def object_count(self) -> int:
        """How many objects were named so far."""
        return len(self._digests)

    def room(self, size: int) -> memoryview:
        """
        Room for an object of up to *size* bytes in one block. What is written there counts if
        `add` says so next.
        """
        if self._fill + size > len(self._view):
            self._make_room(size)
        return self._view[self._fill : self._fill + size]

    def add(self, digest: bytes, size: int) -> None:
        """Name the first *size* bytes of the last `room` as an object."""
        self._digests.append(digest)
        self._starts.append(self._base + self._fill)
        self._sizes.append(size)
        self._fill += size

    def rest(self) -> memoryview:
        """The rest of the block, for a part of an object. What `advance` says counts."""
        if self._fill == len(self._view) or len(self._view) < FULL_BYTES:
            self._make_room(1)
        return self._view[self._fill :]

    def advance(self, size: int) -> None:
        """Let the first *size* bytes of the last `rest` be raw bytes of the pack."""
        self._fill += size

    def append(self, data: bytes | memoryview) -> int:
        """Add bytes of an object; return where in the raw bytes they begin."""
        start, data = self.position, memoryview(data)
        while data:
            rest = self.rest()
            count = min(len(rest), len(data))
            rest[:count] = data[:count]
            self.advance(count)
            data = data[count:]
        return start

    def append_zeros(self, count: int) -> None:
        """Add zeros of an object. Whole blocks of them are compressed once."""
        zeros = memoryview(bytes(min(count, FULL_BYTES)))
        while count:
            if self.rest() and self._fill == 0 and count >= FULL_BYTES:
                self._flush_zeros()
                count -= FULL_BYTES
                continue
            size = min(count, FULL_BYTES - self._fill)
            self.append(zeros[:size])
            count -= size

    def close_object(self, digest: bytes, start: int) -> None:
        """Name what was appended since *start*."""
        self._digests.append(digest)
        self._starts.append(start)
        self._sizes.append(self.position - start)

    def small_objects(self) -> Iterator[tuple[bytes, memoryview]]:
        """All objects with their bytes, if no block was ever full."""
        for digest, start, size in zip(self._digests, self._starts, self._sizes, strict=True):
            yield digest, self._view[start : start + size]

    def finish(self) -> tuple[Temporary, str]:
        """Write what is left; return the file, whole but not published, and the pack's name."""
        if self._workers is not None and self._fill:
            self._flush()
        while self._underway:
            self._write_oldest()
        if self._fill:
            self._write_block(self._base, compress(self._view[: self._fill]))
        file, index = self._open(), self._index()
        file.write(SKIPPABLE.pack(SKIPPABLE_MAGIC, len(index)))
        file.write(index)
        file.flush()
        return file, blake3_hex(index)

    def discard(self) -> None:
        """Let go of everything; remove what was not published. Idempotent."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None
        if self._file is not None:
            self._file.discard()
        self._underway.clear()
        self._spare.clear()

    def _open(self) -> Temporary:
        if self._file is None:
            self._file = self._begin()
        return self._file

    def _make_room(self, size: int) -> None:
        if len(self._view) < FULL_BYTES:
            begun = self._view[: self._fill]
            self._buffer = bytearray(FULL_BYTES)
            self._view = memoryview(self._buffer)
            self._view[: self._fill] = begun
        if self._fill + size > FULL_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._workers is None:
            self._workers = _Workers(min(_MOST_WORKERS, _cpu_count()))
        block = _Block(self._buffer, self._fill, self._base)
        self._underway.append(block)
        self._workers.submit(block)
        self._base += self._fill
        self._fill = 0
        # One waits, so that no worker ever does; more would only take memory.
        while len(self._underway) > self._workers.count + 1:
            self._write_oldest()
        self._buffer = self._spare.pop() if self._spare else bytearray(FULL_BYTES)
        self._view = memoryview(self._buffer)

    def _flush_zeros(self) -> None:
        block = _Block(bytearray(), FULL_BYTES, self._base)
        block.frame = _frame_of_zeros()
        block.is_ready.set()
        self._underway.append(block)
        self._base += FULL_BYTES
        while len(self._underway) > _MOST_WORKERS:
            self._write_oldest()

    def _write_oldest(self) -> None:
        block = self._underway.popleft()
        block.is_ready.wait()
        if block.error is not None:
            raise block.error
        if block.buffer:
            self._spare.append(block.buffer)
        self._write_block(block.start, block.frame)

    def _write_block(self, start: int, frame: bytes) -> None:
        self._blocks.append((start, self._written_bytes))
        self._open().write(frame)
        self._written_bytes += len(frame)

    def _index(self) -> memoryview:
        # One buffer that grows: thousands of pieces would take twice the memory for a moment.
        index = bytearray(HEADER)
        digests, starts, sizes = self._digests, self._starts, self._sizes
        for number in sorted(range(len(digests)), key=digests.__getitem__):
            index += b"%s %015d %015d\n" % (
                digests[number].hex().encode(),
                starts[number],
                sizes[number],
            )
        for start, position in [*self._blocks, (self.position, self._written_bytes)]:
            index += b"block %015d %015d\n" % (start, position)
        counts = (len(digests), len(self._blocks) + 1, _digits(index))
        index += b"end %015d %015d %s\n" % counts
        return memoryview(index)


def _digits(index: bytearray) -> bytes:
    # A buffer that somebody looks into cannot grow.
    with memoryview(index) as view:
        return blake3_hex(view).encode()


def _cpu_count() -> int:
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
