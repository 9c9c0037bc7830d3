"""The body of an upload."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO, cast

from xmslurm_repro.ports.progress import ProgressTask

_CHUNK_BYTES = 1 << 20


class HighWater:
    """Tells *task* how far a blob has come, however often its first bytes are sent again."""

    def __init__(self, task: ProgressTask) -> None:
        self._task = task
        self._told = 0

    def reach(self, position: int) -> None:
        """Say that all up to *position* was sent at least once."""
        if position > self._told:
            self._task.advance(position - self._told)
            self._told = position


def blob_body(
    source: BinaryIO,
    water: HighWater,
    check: Callable[[], None],
    *,
    begin: int = 0,
    end: int | None = None,
) -> BinaryIO:
    """
    A blob, from *begin* to *end*, that is read to be sent.

    *check* is called before each piece, and may raise. It takes *source* over and closes it.
    """
    source.seek(begin)
    return cast("BinaryIO", _BlobBody(source, water, check, end))


class _BlobBody(io.RawIOBase):
    """See `blob_body`."""

    def __init__(
        self, source: BinaryIO, water: HighWater, check: Callable[[], None], end: int | None
    ) -> None:
        super().__init__()
        self._source, self._water, self._check, self._end = source, water, check, end

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is, so that it can be sent again."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read as files do."""
        self._check()
        if self._end is not None:
            left = self._end - self._source.tell()
            size = left if size < 0 else min(size, left)
        data = self._source.read(size)
        self._water.reach(self._source.tell())
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek as files do."""
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """Where it stands."""
        return self._source.tell()

    def close(self) -> None:
        """Close the source too."""
        self._source.close()
        super().close()
