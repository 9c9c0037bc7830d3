"""What was learnt at the last capture, so that this one need not read it again.

Nothing here is ever trusted blindly: a damaged file is as good as none, and losing all of it
costs time only.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from xmslurm_repro.errors import StoreError
from xmslurm_repro.snapshot.witnesses import (
    checked_digits,
    load_checked,
    memory_name,
    settled_before,
)
from xmslurm_repro.store.files import Temporary, make_folder, remove_stale

_MAGIC = b"xmslurm-stat-cache/2\n"
_RECORD = struct.Struct("<qqqQI32s32s")
_COUNTS = struct.Struct("<QQ")
_PADDING = bytes(32 - 20)
NO_ID = bytes(32)
"""Stands for a git object id that is not known."""


class Stamp(NamedTuple):
    """What stat(2) says of a file or link; while it is the same, so are the bytes."""

    mtime_ns: int
    ctime_ns: int
    size_bytes: int
    inode: int
    mode: int


class Known(NamedTuple):
    """
    What is known of a file: its stamp, the BLAKE3 of its bytes, and the id that git would give
    these bytes (padded to 32 bytes; `NO_ID` where nobody asked).
    """

    mtime_ns: int
    ctime_ns: int
    size_bytes: int
    inode: int
    mode: int
    blake3: bytes
    object_id: bytes


def stamp(found: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode)


class StatCache:
    """
    What is known of the files of one work tree.

    Attributes:
        known: By path from its root.
        places: Where the store kept all their bytes; see `ObjectStore.places`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known: dict[bytes, Known] = {}
        self.places: frozenset[str] = frozenset()
        body = load_checked(path, _MAGIC)
        if body is not None:
            self._decode(body)

    def save(self, known: Mapping[bytes, Known], *, places: frozenset[str], before_ns: int) -> None:
        """
        Remember *known* instead, but for files so new that they may change unseen. What was known
        is let go of.

        Args:
            known: By path.
            places: Where the store keeps the bytes of all of *known*.
            before_ns: What the file system's clock said when the capture began.
        """
        limit = settled_before(before_ns)

        def kept() -> Iterator[tuple[bytes, Known]]:
            # Each time anew: one more table of all paths is 5 MB for Linux.
            return (
                (path, record)
                for path, record in known.items()
                if record[0] < limit and record[1] < limit
            )

        count, before = sum(1 for _ in kept()), self.known
        self.known = {}
        if (
            places == self.places
            and count == len(before)
            and all(before.get(path) == record for path, record in kept())
        ):
            return
        del before
        where = "\n".join(sorted(places)).encode()
        # One buffer that grows: thousands of pieces would take twice the memory for a moment.
        body = bytearray(_COUNTS.pack(count, len(where)) + where)
        for _, record in kept():
            body += _RECORD.pack(*record)
        body += b"\0".join(path for path, _ in kept())
        save_checked(self._path, _MAGIC, body)

    def _decode(self, body: bytes) -> None:
        count, where = _COUNTS.unpack_from(body)
        begin = _COUNTS.size + where
        end = begin + count * _RECORD.size
        self.places = frozenset(body[_COUNTS.size : begin].decode().splitlines())
        records = map(Known._make, _RECORD.iter_unpack(memoryview(body)[begin:end]))
        self.known = dict(zip(body[end:].split(b"\0"), records, strict=False))


def known_git_ids(path: Path, width: int) -> dict[bytes, bytes]:
    """
    Ids that git would give contents, by their BLAKE3, as the `StatCache` in *path* knows them.

    Args:
        path: Its file.
        width: How many bytes an id has: 20 or 32.
    """
    body = load_checked(path, _MAGIC)
    if body is None:
        return {}
    count, where = _COUNTS.unpack_from(body)
    begin = _COUNTS.size + where
    records = _RECORD.iter_unpack(memoryview(body)[begin : begin + count * _RECORD.size])
    # One work tree may hold repositories of both kinds; the shorter ids are padded.
    is_padded = width < len(NO_ID)
    return {
        digest: object_id[:width]
        for *_, digest, object_id in records
        if object_id != NO_ID and object_id.endswith(_PADDING) == is_padded
    }


def now_ns(folder: Path) -> int:
    """
    What the clock of *folder*'s file system says, which stamps files; not this process's.

    Raises:
        StoreError: If no file can be made there.
    """
    make_folder(folder, is_durable=False)
    file = Temporary(folder)
    try:
        return file.path.stat().st_mtime_ns
    finally:
        file.discard()


def cache_file(folder: Path, root: bytes, kind: str) -> Path:
    """Where in *folder* to remember something about the work tree *root*."""
    return folder / memory_name(root, kind)


def save_checked(path: Path, magic: bytes, body: bytes | bytearray | None) -> None:
    """
    Let *path* hold *magic*, a digest and *body*; nothing happens for no body.

    Not synced, and errors are no errors: losing it costs time only.
    """
    if body is None:
        return
    with suppress(OSError, StoreError):
        make_folder(path.parent, is_durable=False)
        remove_stale(path.parent)
        file = Temporary(path.parent)
        try:
            file.write(magic + checked_digits(body) + b"\n")
            file.write(memoryview(body))
            file.flush()
            file.publish(path)
        finally:
            file.discard()
