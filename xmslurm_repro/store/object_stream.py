"""Reading what must be what its name says."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

from xmslurm_repro.errors import DigestMismatchError, StoreError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.store.hashing import Blake3Hasher

_CHUNK_BYTES = 1024 * 1024


def verified(
    chunks: Iterable[bytes | memoryview], digest: Digest, where: str
) -> Iterator[bytes | memoryview]:
    """
    Pass on *chunks*, the last of them only when all together have the name *digest*.

    Raises:
        DigestMismatchError: If they have not, or cannot be decompressed.
        StoreError: If they cannot be read.
    """
    import zstandard  # noqa: PLC0415 (costs 8 ms)

    hasher, held = Blake3Hasher(), None
    try:
        for chunk in chunks:
            if held is not None:
                yield held
            hasher.update(chunk)
            held = chunk
    except zstandard.ZstdError as error:
        raise _mismatch(digest, where, hasher) from error
    except OSError as error:
        raise StoreError(f"cannot read {where}: {error.strerror or error}") from error
    if hasher.digest() != digest:
        raise _mismatch(digest, where, hasher)
    if held is not None:
        yield held


def _mismatch(digest: Digest, where: str, hasher: Blake3Hasher) -> DigestMismatchError:
    got = hasher.digest()
    return DigestMismatchError(where, want=str(digest), got=str(got), size_bytes=hasher.size_bytes)


def verified_stream(chunks: Iterable[bytes | memoryview], digest: Digest, where: str) -> BinaryIO:
    """A stream of `verified` chunks."""
    raw = _ChunkStream(verified(chunks, digest, where))
    return cast("BinaryIO", io.BufferedReader(raw, buffer_size=256 * 1024))


class _ChunkStream(io.RawIOBase):
    def __init__(self, chunks: Iterator[bytes | memoryview]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast("bytearray", buffer)).cast("B")
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
        super().close()


def loose_chunks(file: BinaryIO) -> Iterator[bytes | memoryview]:
    """The raw bytes of an open loose object, which is closed at the end."""
    import zstandard  # noqa: PLC0415 (costs 8 ms)

    with file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
        while chunk := reader.read(_CHUNK_BYTES):
            yield chunk
