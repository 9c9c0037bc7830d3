"""Canonical tar archives: the same tree gives the same bytes, for ever.

Own headers (POSIX.1-2017, pax(1), "ustar interchange format"), because the bytes are
identities and a library's bytes are its business to change: Python's ``tarfile`` did in 3.9.
Nothing here may change a byte without a new layout version; ``tests/golden`` holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, TypeAlias

from xmslurm_repro.errors import IntegrityError

Write: TypeAlias = Callable[[bytes | memoryview], object]

FILE = b"0"
HARD_LINK = b"1"
SYMLINK = b"2"
CHARACTER_DEVICE = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"

MTIME = 1
"""The modification time of every member, in seconds. Some tools read 0 as "not set"."""

END = bytes(1024)
"""What ends an archive. No padding to records of 10240 bytes: no reader asks for it."""

_BLOCK = 512
_CHUNK = 1 << 20
_NAME_FIELD = 100
_MAX_SIZE = 0o77777777777
_MAX_ID = 0o7777777
_PAX = b"x"
_PAX_NAME = b"././@PaxHeader"
_MAGIC = b"ustar\x0000"


def padding(size_bytes: int) -> bytes:
    """The zeros that follow *size_bytes* of content, up to the next whole block."""
    return bytes(-size_bytes % _BLOCK)


def member_header(
    path: bytes,
    *,
    kind: bytes = FILE,
    size_bytes: int = 0,
    mode: int = 0o644,
    target: bytes = b"",
    owner: tuple[int, int] = (0, 0),
    xattrs: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """
    The bytes that stand before a member's content: an extended header if need be, and its own.

    An extended (PAX) header is written for what the plain one cannot say: names over 100
    bytes or in UTF-8 beyond ASCII, sizes from 8 GiB, owners above 2097151, and *xattrs*. A
    short name that is no UTF-8 is written raw, as every reader takes it.

    Args:
        path: Relative, ``/`` between components; a directory's without its final slash.
        kind: One of the type flags above.
        size_bytes: Of the content that follows.
        mode: Permission bits.
        target: Of a link.
        owner: Numbers of user and group.
        xattrs: Extended attributes, name and value.

    Raises:
        ValueError: If *path* is absolute, empty, or has an empty, ``.`` or ``..`` component.
    """
    _check_path(path)
    name = path + b"/" if kind == DIRECTORY else path
    records: list[bytes] = []
    if _needs_record(name):
        records.append(_record(b"path", name))
    if _needs_record(target):
        records.append(_record(b"linkpath", target))
    if size_bytes > _MAX_SIZE:
        records.append(_record(b"size", b"%d" % size_bytes))
    for keyword, number in zip((b"uid", b"gid"), owner, strict=True):
        if number > _MAX_ID:
            records.append(_record(keyword, b"%d" % number))
    records += [_record(b"SCHILY.xattr." + key, value) for key, value in sorted(xattrs)]
    plain = _ustar(
        name,
        kind,
        size_bytes if size_bytes <= _MAX_SIZE else 0,
        mode,
        target,
        tuple(number if number <= _MAX_ID else 0 for number in owner),
    )
    if not records:
        return plain
    records.sort(key=_keyword)
    body = b"".join(records)
    extended = _ustar(_PAX_NAME, _PAX, len(body), 0o644, b"", (0, 0))
    return extended + body + padding(len(body)) + plain


class TarWriter:
    """
    Writes members in the order in which they come; whoever calls sorts them.

    Every member has mtime 1 and owner 0; directories and executables are 0755, other files
    0644, links 0777.
    """

    def __init__(self, write: Write) -> None:
        """Send the archive's bytes to *write*, piece by piece."""
        self._write = write

    def directory(self, path: bytes) -> None:
        """Add a directory."""
        self._write(member_header(path, kind=DIRECTORY, mode=0o755))

    def symlink(self, path: bytes, target: bytes) -> None:
        """Add a symbolic link; *target* is kept as it is."""
        self._write(member_header(path, kind=SYMLINK, mode=0o777, target=target))

    def file(self, path: bytes, size_bytes: int, executable: bool, source: BinaryIO) -> None:
        """
        Add a file and read *source* to its end.

        Raises:
            IntegrityError: If *source* has more or less than *size_bytes*.
        """
        mode = 0o755 if executable else 0o644
        self._write(member_header(path, size_bytes=size_bytes, mode=mode))
        self.content(path, size_bytes, source)

    def content(self, path: bytes, size_bytes: int, source: BinaryIO) -> None:
        """Add what follows a header: all of *source* and the padding; raises as `file`."""
        left = size_bytes
        while left:
            chunk = source.read(min(left, _CHUNK))
            if not chunk:
                break
            self._write(chunk)
            left -= len(chunk)
        # Read past the end also when all is there: a verified stream speaks up only then.
        if left or source.read(1):
            found = f"ended after {size_bytes - left} bytes" if left else "is longer"
            raise IntegrityError(f"{_shown(path)} should have {size_bytes} bytes, but {found}")
        self._write(padding(size_bytes))

    def finish(self) -> None:
        """End the archive."""
        self._write(END)


def _check_path(path: bytes) -> None:
    if b"\0" in path:
        raise ValueError(f"{path!r} holds a NUL")
    if not path or any(part in {b"", b".", b".."} for part in path.split(b"/")):
        raise ValueError(f"{path!r} is no relative path in normal form")


def _needs_record(text: bytes) -> bool:
    if len(text) > _NAME_FIELD:
        return True
    if text.isascii():
        return False
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _record(keyword: bytes, value: bytes) -> bytes:
    # Each record begins with its own length, the digits of the length included.
    rest = b" " + keyword + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(rest) + len(b"%d" % length) != length:
        length = len(rest) + len(b"%d" % length)
    return b"%d" % length + rest


def _keyword(record: bytes) -> bytes:
    return record.split(b" ", 1)[1]


def _ustar(
    name: bytes, kind: bytes, size_bytes: int, mode: int, target: bytes, owner: tuple[int, ...]
) -> bytes:
    uid, gid = owner
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name[:_NAME_FIELD].ljust(_NAME_FIELD, b"\0"),
        mode,
        uid,
        gid,
        size_bytes,
        MTIME,
    )
    tail = b"%s%s%s%s0000000\x000000000\0%s" % (
        kind,
        target[:_NAME_FIELD].ljust(_NAME_FIELD, b"\0"),
        _MAGIC,
        bytes(64),
        bytes(167),
    )
    checksum = sum(head) + sum(tail) + 8 * 0x20
    return b"%s%06o\0 %s" % (head, checksum, tail)


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
