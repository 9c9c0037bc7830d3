"""Reading layers of others, whatever they are compressed with."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, BinaryIO, cast

import zstandard

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER = 1 << 20


def open_uncompressed(stream: BinaryIO) -> BinaryIO:
    """
    The uncompressed bytes of *stream*: gzip, zstd, or neither, as its first bytes say.

    Media types lie in practice (skopeo#2343), the bytes do not. Damage shows while reading, as
    `OSError`, `EOFError` or ``zlib.error``.
    """
    head = stream.read(4)
    stream.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if head == b"\x28\xb5\x2f\xfd":
        return io.BufferedReader(_Zstd(stream), _BUFFER)
    return stream


class _Zstd(io.RawIOBase):
    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._reader = zstandard.ZstdDecompressor().stream_reader(
            stream, read_across_frames=True, closefd=False
        )

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        try:
            data = self._reader.read(len(view))
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from error
        view[: len(data)] = data
        return len(data)
