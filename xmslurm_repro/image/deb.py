"""Debian's binary packages, read without dpkg: deb(5)."""

from __future__ import annotations

import bz2
import gzip
import lzma
import posixpath
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

import zstandard

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
_MAX_CONTROL_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """
    What a package says of itself.

    Attributes:
        text: Its control file.
        files: All its control members by name, the control file too.
    """

    text: str
    files: dict[str, bytes]

    @property
    def scripts(self) -> tuple[str, ...]:
        """Its maintainer scripts that there are."""
        return tuple(name for name in _SCRIPTS if name in self.files)

    def field(self, name: str) -> str:
        """A field of one line; empty where it is not there."""
        for line in self.text.splitlines():
            if line.startswith(f"{name}:"):
                return line.partition(":")[2].strip()
        return ""


class DebError(Exception):
    """No Debian package, or a broken one."""


def read_control(stream: BinaryIO) -> Control:
    """
    Read the control part of the package in *stream*, which can seek.

    Raises:
        DebError: If it is none.
    """
    with _explained(), _member(stream, "control.tar") as source:
        files = {}
        with tarfile.TarFile.open(fileobj=source, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and member.size <= _MAX_CONTROL_BYTES:
                    files[posixpath.normpath(member.name).lstrip("/")] = content.read()
    if "control" not in files:
        raise DebError("it has no control file")
    text = files["control"].decode("utf-8", "replace").strip() + "\n"
    return Control(text=text, files=files)


def spool_data(stream: BinaryIO, spool: BinaryIO) -> list[tarfile.TarInfo]:
    """
    Append the data part of the package in *stream*, uncompressed, to *spool*.

    Returns:
        Its members; ``offset_data`` is the position in *spool*.

    Raises:
        DebError: If it is broken.
    """
    begin = spool.seek(0, 2)
    with _explained():
        with _member(stream, "data.tar") as source:
            shutil.copyfileobj(source, spool, 1 << 20)
        spool.seek(begin)
        with tarfile.TarFile.open(fileobj=spool, mode="r:", errors="surrogateescape") as archive:
            return archive.getmembers()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zstandard.ZstdError) as error:
        raise DebError(f"it cannot be read: {error}") from error


@contextmanager
def _member(stream: BinaryIO, stem: str) -> Iterator[BinaryIO]:
    """The member of the outer archive whose name begins with *stem*, uncompressed."""
    stream.seek(0)
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise DebError("it is no Debian package")
    while header := stream.read(_HEADER_BYTES):
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58]
        if len(header) != _HEADER_BYTES or not size.strip().isdigit():
            break
        size_bytes = int(size)
        if name.startswith(stem):
            yield _uncompressed(name, cast(BinaryIO, _Window(stream, size_bytes)))
            return
        stream.seek(size_bytes + size_bytes % 2, 1)
    raise DebError(f"it has no {stem}")


def _uncompressed(name: str, source: BinaryIO) -> BinaryIO:
    suffix = name.rpartition(".")[2]
    if suffix == "xz":
        return cast(BinaryIO, lzma.LZMAFile(source))
    if suffix == "gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=source))
    if suffix == "bz2":
        return cast(BinaryIO, bz2.BZ2File(source))
    if suffix == "zst":
        reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
        return cast(BinaryIO, reader)
    if suffix == "tar":
        return source
    raise DebError(f"{name} is compressed in a way that is not known here")


class _Window:
    """A part of a stream, from where it stands."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream, self._left = stream, size_bytes

    def read(self, size: int = -1) -> bytes:
        """Read as files do, up to the part's end."""
        data = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is not."""
        return False

    closed = False
