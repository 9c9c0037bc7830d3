"""Taking apart what others have compressed with zstd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_CHUNK_BYTES = 1 << 20
_MAX_WINDOW_BYTES = 1 << 27
"""What level 22 of zstd asks for; more would be an attack on our memory."""


def unpack_zstd(source: BinaryIO) -> Iterator[bytes]:
    """
    The content of zstd frames, one behind the other, in pieces.

    Raises:
        ValueError: If it is something else, or ends too early.
    """
    import zstandard  # noqa: PLC0415 (costs 8 ms)

    unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    frame = unpacker.decompressobj()
    whole = True
    try:
        while data := source.read(_CHUNK_BYTES):
            while data:
                yield frame.decompress(data)
                whole, data = frame.eof, frame.unused_data
                if whole:
                    frame = unpacker.decompressobj()
    except zstandard.ZstdError as error:
        raise ValueError(f"not zstd: {error}") from error
    if not whole:
        raise ValueError("the zstd frame ends too early")
