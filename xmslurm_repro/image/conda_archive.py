"""Reading a conda package: ``.conda`` (a zip of two tars) or ``.tar.bz2`` (one).

Formats: the conda project's "package specification" and CEP 26 of its enhancement proposals. The
payload is unpacked into a temporary file, from which files are then taken in any order, mapped
and not read, so that the size of a package costs disk and no memory.
"""

from __future__ import annotations

import bz2
import mmap
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from types import TracebackType
from typing import IO, BinaryIO

from xmslurm_repro.store.unpack import unpack_zstd

_CHUNK = 1 << 20
_MAX_INFO_BYTES = 256 << 20
_INFO = "info/"


class CondaError(Exception):
    """A conda package that cannot be read."""


class CondaArchive:
    """A package that is open; use it in a ``with`` block."""

    def __init__(self, stream: BinaryIO, filename: str) -> None:
        """Read the package *filename* from *stream*, which can seek."""
        self._stream = stream
        self._filename = filename
        self._spool: IO[bytes] | None = None
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> CondaArchive:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the temporary file."""
        if self._tar is not None:
            self._tar.close()
        if self._spool is not None:
            self._spool.close()

    def info(self) -> dict[str, bytes]:
        """
        The files below ``info/`` that lie directly in it, by name.

        Raises:
            CondaError: If the package cannot be read.
        """
        with _told_apart():
            if not self._filename.endswith(".conda"):
                return _files_of(self._payload())
            with zipfile.ZipFile(self._stream) as archive:
                held = BytesIO()
                size = 0
                with archive.open(_member(archive, "info-")) as source:
                    for piece in unpack_zstd(source):  # type: ignore[arg-type]
                        size += len(piece)
                        if size > _MAX_INFO_BYTES:
                            raise CondaError("its description is larger than 256 MiB")
                        held.write(piece)
            held.seek(0)
            with tarfile.TarFile(fileobj=held) as tar:
                return _files_of(tar)

    def members(self) -> dict[str, tarfile.TarInfo]:
        """
        The payload's members by name; what stands twice counts as it stands last.

        Raises:
            CondaError: If the package cannot be read.
        """
        with _told_apart():
            return {_clean(member.name): member for member in self._payload()}

    def pieces(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        """The bytes of a file in pieces, for which no memory is needed."""
        source = self._payload().extractfile(member)
        while source is not None and (data := source.read(_CHUNK)):
            yield data

    def mapped(self, member: tarfile.TarInfo) -> memoryview:
        """The bytes of a file, mapped; they go when nobody looks at them any more."""
        self._payload()
        if member.size == 0 or self._spool is None:
            return memoryview(b"")
        skip = member.offset_data % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(
            self._spool.fileno(),
            skip + member.size,
            access=mmap.ACCESS_READ,
            offset=member.offset_data - skip,
        )
        return memoryview(mapped)[skip:]

    def _payload(self) -> tarfile.TarFile:
        if self._tar is None:
            self._spool = tempfile.TemporaryFile(prefix="xmslurm-conda-")  # noqa: SIM115
            if self._filename.endswith(".conda"):
                with (
                    zipfile.ZipFile(self._stream) as archive,
                    archive.open(_member(archive, "pkg-")) as source,
                ):
                    for piece in unpack_zstd(source):  # type: ignore[arg-type]
                        self._spool.write(piece)
            else:
                self._stream.seek(0)
                with bz2.BZ2File(self._stream) as unpacked:
                    _copy(unpacked.read, self._spool)
            self._spool.flush()
            self._spool.seek(0)
            self._tar = tarfile.TarFile(fileobj=self._spool)
        return self._tar


def _copy(read: Callable[[int], bytes], target: IO[bytes]) -> None:
    while data := read(_CHUNK):
        target.write(data)


def _member(archive: zipfile.ZipFile, prefix: str) -> zipfile.ZipInfo:
    found = [
        one
        for one in archive.infolist()
        if one.filename.startswith(prefix) and one.filename.endswith(".tar.zst")
    ]
    if len(found) != 1:
        raise CondaError(f"it has {len(found)} parts {prefix}*.tar.zst instead of one")
    return found[0]


def _files_of(tar: tarfile.TarFile) -> dict[str, bytes]:
    found = {}
    for member in tar:
        name = _clean(member.name)
        below = name.removeprefix(_INFO)
        if name == below or "/" in below or not member.isfile():
            continue
        content = tar.extractfile(member)
        found[below] = content.read(_MAX_INFO_BYTES) if content else b""
    return found


def _clean(name: str) -> str:
    return name.removeprefix("./").rstrip("/")


@contextmanager
def _told_apart() -> Iterator[None]:
    """Turn what the readers of archives raise into `CondaError`."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        raise CondaError(f"it cannot be read: {error}") from error
