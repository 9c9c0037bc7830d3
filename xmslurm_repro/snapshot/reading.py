"""Reading the files of a work tree, all that have to be, while others may be writing them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import cast

from xmslurm_repro.ports.progress import Progress, SilentProgress
from xmslurm_repro.ports.store import ObjectBatch
from xmslurm_repro.snapshot.cache import Known, Stamp
from xmslurm_repro.snapshot.content import ContentReader, MovedError

_TICK_NS = 20_000_000
"""Longer than any kernel takes from one time that it gives to files to the next."""
_NS_PER_BYTE = 5
"""How long one write may go on: 200 MB/s."""
_AT_ONCE = 128
"""After so many files one looks up: at the progress, and at how the disk keeps pace."""
_MANY = 512
"""So many files may be worth asking for ahead."""

Unread = tuple[bytes, Stamp, str | None, dict[bytes, Stamp]]
"""A path, its stamp, how git would name its bytes where that is asked, and where stamps are."""


@dataclass(kw_only=True)
class Reading:
    """
    What came of reading.

    Attributes:
        files: What is known of each file, by path; what was known before, too.
        moved: What was not what it had been when it was found.
        unreadable: What could not be read, with the reason.
    """

    files: dict[bytes, Known]
    moved: set[bytes] = field(default_factory=set)
    unreadable: dict[bytes, str] = field(default_factory=dict)

    def read(
        self,
        root: bytes,
        unread: list[Unread],
        batch: ObjectBatch,
        *,
        began_ns: int,
        progress: Progress | None,
    ) -> None:
        """
        Read files into *batch*.

        Args:
            root: The work tree.
            unread: Which; empty afterwards. What becomes known of a file takes the place of its
                stamp, with which it begins, since there are many.
            batch: Where their bytes go.
            began_ns: What the file system's clock said before they were found.
            progress: Told of bytes read.
        """
        if not unread:
            return
        # In order of their paths, so that neighbours share a block in the store; the first is
        # the last, to be taken away.
        unread.sort(key=itemgetter(0), reverse=True)
        total = sum(found[2] for _, found, _, _ in unread)
        with (
            _told(progress, total) as advance,
            _open_folder(root) as folder,
            _asking_ahead(folder, unread) as look,
        ):
            reader, young = ContentReader(folder=folder, batch=batch), list[bytes]()
            while unread:
                size_bytes = 0
                for _ in range(min(_AT_ONCE, len(unread))):
                    path, found, hash_name, stamps = unread.pop()
                    size_bytes += found[2]
                    known = self._one(reader, path, found, hash_name)
                    if known is not None:
                        self.files[path] = known
                        stamps[path] = cast("Stamp", known)
                        if _is_young(found, began_ns):
                            young.append(path)
                advance(size_bytes)
                look(len(unread))
            for path in self._unsettled(reader, young):
                self.moved.add(path)
                del self.files[path]

    def _one(
        self, reader: ContentReader, path: bytes, found: Stamp, hash_name: str | None
    ) -> Known | None:
        try:
            return reader.read(path, found, hash_name=hash_name)
        except MovedError:
            self.moved.add(path)
        except OSError as error:
            self.unreadable[path] = error.strerror or str(error)
        return None

    def _unsettled(self, reader: ContentReader, young: list[bytes]) -> list[bytes]:
        """
        Which of the files *young* are not what was read of them.

        A file gets its time when a write begins, and with most kernels the same one within a
        tick: its stamp says nothing of a write that goes on while we read. Its bytes do, a
        moment later.
        """
        if young:
            time.sleep(_TICK_NS / 1e9)  # noqa: TID251 (for the file system's clock, not ours)
        return [path for path in young if not reader.is_still(path, self.files[path])]


def _is_young(found: Stamp, began_ns: int) -> bool:
    """Whether a write that gave a file its stamp may still be under way."""
    mtime_ns, ctime_ns, size_bytes, _, mode = found
    newest_ns = max(ctime_ns, mtime_ns)
    if newest_ns + size_bytes * _NS_PER_BYTE <= began_ns - _TICK_NS:
        return False
    # A link's text is written at once, with the link.
    return not stat.S_ISLNK(mode)


@contextmanager
def _asking_ahead(folder: int, unread: list[Unread]) -> Iterator[Callable[[int], None]]:
    if len(unread) < _MANY:
        yield lambda left: None
        return
    from xmslurm_repro.snapshot.ahead import Ahead  # noqa: PLC0415 (most captures read little)

    with Ahead(folder, unread) as ahead:
        yield ahead.look


@contextmanager
def _open_folder(path: bytes) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _told(progress: Progress | None, total: int) -> Iterator[Callable[[int], None]]:
    task = (progress or SilentProgress()).start("read the work tree", total=total)
    try:
        yield task.advance
    finally:
        task.finish()
