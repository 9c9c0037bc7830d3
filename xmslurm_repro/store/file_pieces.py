"""Reading files piece by piece, and nothing of their holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from xmslurm_repro.ports.store import Updatable
from xmslurm_repro.store.hashing import Blake3Hasher

_CHUNK_BYTES = 1024 * 1024
_ZEROS = bytes(_CHUNK_BYTES)


def feed(piece: bytes | memoryview | int, *takers: Updatable | None) -> None:
    """Give *takers* what is in a piece."""
    chunks = _zeros(piece) if isinstance(piece, int) else (piece,)
    for chunk in chunks:
        for taker in takers:
            if taker is not None:
                taker.update(chunk)


def _zeros(count: int) -> Iterator[memoryview]:
    zeros = memoryview(_ZEROS)
    while count > 0:
        yield zeros[:count]
        count -= len(_ZEROS)


def file_pieces(descriptor: int, size_bytes: int) -> Iterator[memoryview | int]:
    """
    What an open file holds, from its beginning: bytes that are valid until the next is asked
    for, or how many zeros there are where it has a hole, of which nothing is read.

    One byte more than *size_bytes* comes of a file that has more.
    """
    buffer, at, end = bytearray(_CHUNK_BYTES), 0, size_bytes + 1
    data_ends = 0
    while at < end:
        if at >= data_ends:
            data, data_ends = _next_data(descriptor, at, size_bytes)
            if data > at:
                yield min(data, end) - at
                at = data
                continue
        view = memoryview(buffer)[: min(_CHUNK_BYTES, end - at)]
        count = os.preadv(descriptor, (view,), at)
        if count == 0:
            return
        yield view[:count]
        at += count


def _next_data(descriptor: int, at: int, size_bytes: int) -> tuple[int, int]:
    """Where data begins and ends, from *at* on; all is data where nobody can tell."""
    try:
        begin = os.lseek(descriptor, at, os.SEEK_DATA)
        return begin, os.lseek(descriptor, begin, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO and at < size_bytes:
            # A hole up to the end, which is where the file ends now.
            return min(size_bytes, os.fstat(descriptor).st_size), size_bytes
        return at, size_bytes + 1


def hash_file(descriptor: int, size_bytes: int) -> bytes:
    """The 32 bytes of the BLAKE3 of an open file, or of another one if it has another size."""
    hasher = Blake3Hasher()
    for piece in file_pieces(descriptor, size_bytes):
        feed(piece, hasher)
    return hasher.raw()
