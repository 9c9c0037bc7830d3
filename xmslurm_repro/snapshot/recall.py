"""What the last capture saw, so that one of an unchanged tree need only look again.

A snapshot follows from the names in every folder that was walked, the bytes of every file that
was captured, a few files of git's (index, HEAD, configuration, rules) and what was asked for.
While the stamps of all these are the same, so is the snapshot; then nothing of git's is parsed,
no folder is listed and no tree is built.

Nothing is remembered of a capture that met something as new as itself: it may change unseen.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from xmslurm_repro.errors import FormatError, NoRepositoryError
from xmslurm_repro.model.canonical import Json, canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.snapshot import Origin, Snapshot
from xmslurm_repro.snapshot.cache import (
    SUM,
    Known,
    Stamp,
    Witnesses,
    cache_file,
    index_witness,
    load_checked,
    save_checked,
    settled_before,
    witness,
)
from xmslurm_repro.snapshot.repository import Repository, find_repository, repository_at

if TYPE_CHECKING:
    from xmslurm_repro.ports.store import ObjectStore

_MAGIC = b"xmslurm-recall/1\n"
_LENGTHS = struct.Struct("<QQ")
_STAMP = attrgetter("st_mtime_ns", "st_ctime_ns", "st_size", "st_ino", "st_mode")
_STAMP_BYTES = 40
_AT_ONCE = 4096
_ENOUGH_FOR_TWO = 4096
"""From how many paths on a second process finds its half sooner than it is made."""


class Recall:
    """The memory of one work tree's last capture."""

    def __init__(self, start: Path, *, cache_dir: Path, asked: Json) -> None:
        """
        Find the memory of the work tree that holds *start*.

        Args:
            start: A folder.
            cache_dir: Where it is.
            asked: Everything else that a capture depends on, such as its options.
        """
        try:
            root = find_repository(start).root
        except (NoRepositoryError, OSError):
            root = os.fsencode(start.resolve())
        self._root = root
        self._path = cache_file(cache_dir, root, "recall")
        self._asked = asked

    def snapshot(self, store: ObjectStore) -> Snapshot | None:
        """The snapshot that a capture would make now, or ``None`` if that cannot be told."""
        body = load_checked(self._path, _MAGIC)
        if body is None:
            return None
        size, names_size = _LENGTHS.unpack_from(body)
        begin = _LENGTHS.size + size
        end = begin + names_size
        try:
            header = Reader.of_json(body[_LENGTHS.size : begin], str(self._path))
            if header.field("asked").value != self._asked or not _is_git_as_it_was(header):
                return None
            places: list[str] = header.field("places").value
            if not store.has_places(places):
                return None
            if not _is_same(self._root, body[begin:end], body[end:]):
                return None
            return _snapshot(header)
        except (FormatError, ValueError, OSError):
            # What wrote it knew another Origin, or the repository cannot be read: whoever looks
            # at everything says so.
            return None

    def remember(
        self,
        snapshot: Snapshot,
        *,
        repositories: Iterable[Repository],
        witnesses: Witnesses,
        seen: Mapping[bytes, Stamp | Known],
        places: Iterable[str],
        before_ns: int,
    ) -> None:
        """
        Remember *snapshot* and what it follows from, if all that is old enough.

        Args:
            snapshot: What was captured.
            repositories: Of the work tree and those nested in it.
            witnesses: Of files outside the work tree, from before they were read.
            seen: Stamps by path from the root: folders, from before they were listed, files and
                links, and rules that were not captured.
            places: Where the store keeps every object of the snapshot.
            before_ns: What the file system's clock said when the capture began.
        """
        limit = settled_before(before_ns)
        is_old = all(found[0] < limit and found[1] < limit for found in seen.values())
        if not is_old or not all(_is_older(text, limit) for text in witnesses.values()):
            return
        document: Json = {
            "asked": self._asked,
            "repositories": [_fields(repository) for repository in repositories],
            "witnesses": dict(witnesses),
            "places": [*sorted(places)],
            "root": str(snapshot.root),
            "file_count": snapshot.file_count,
            "size_bytes": snapshot.size_bytes,
            "origin": snapshot.origin.to_json(),
        }
        try:
            header = canonical_json(document)
            stamps = array("q", chain.from_iterable(found[:5] for found in seen.values()))
        except (ValueError, OverflowError):
            # A path of git's that is not UTF-8, or an inode beyond 2**63: look at all each time.
            return
        names = b"\0".join(seen)
        body = bytearray(_LENGTHS.pack(len(header), len(names)) + header)
        body += names
        body += memoryview(stamps).cast("B")
        save_checked(self._path, _MAGIC, body)


def _fields(repository: Repository) -> Json:
    return [os.fsdecode(repository.root), *_git_folders(repository)]


def _git_folders(repository: Repository | None) -> list[Json]:
    if repository is None:
        return []
    return [os.fsdecode(repository.git_dir), os.fsdecode(repository.common_dir)]


def _is_older(text: str | None, limit_ns: int) -> bool:
    if text is None or text.startswith(SUM):
        return True
    return all(int(word) < limit_ns for word in text.split(" ")[:2])


def _is_git_as_it_was(header: Reader) -> bool:
    repositories: list[list[str]] = header.field("repositories").value
    witnesses: dict[str, str | None] = header.field("witnesses").value
    return all(
        _git_folders(repository_at(os.fsencode(root))) == folders for root, *folders in repositories
    ) and all(_witness_like(text, path) == text for path, text in witnesses.items())


def _witness_like(text: str | None, path: str) -> str | None:
    return index_witness(path) if text and text.startswith(SUM) else witness(path)


def _snapshot(header: Reader) -> Snapshot:
    return Snapshot(
        root=Digest.parse(header.field("root").text()),
        file_count=int(header.field("file_count").value),
        size_bytes=int(header.field("size_bytes").value),
        origin=Origin.from_json(header.field("origin")),
    )


def _is_same(root: bytes, names: bytes, stamps: bytes) -> bool:
    """Whether the paths *names* below *root* have these *stamps*."""
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        if len(stamps) < _ENOUGH_FOR_TWO * _STAMP_BYTES or not _may_fork():
            return _have(folder, names, stamps)
        return _have_by_two(folder, names, stamps)
    finally:
        os.close(folder)


def _have(folder: int, names: bytes, stamps: bytes) -> bool:
    look = partial(os.stat, dir_fd=folder, follow_symlinks=False)
    paths = names.split(b"\0")
    try:
        for begin in range(0, len(paths), _AT_ONCE):
            end = begin + _AT_ONCE
            # No Python between one file and the next: it would take as long as the system.
            now = array("q", chain.from_iterable(map(_STAMP, map(look, paths[begin:end]))))
            if now.tobytes() != stamps[begin * _STAMP_BYTES : end * _STAMP_BYTES]:
                return False
    except (OSError, OverflowError):
        return False
    return True


def _have_by_two(folder: int, names: bytes, stamps: bytes) -> bool:
    """Like `_have`, with a forked process for the second half."""
    middle = names.find(b"\0", len(names) // 2)
    cut = (names.count(b"\0", 0, middle) + 1) * _STAMP_BYTES
    child = os.fork()
    if child == 0:
        status = 2
        try:
            status = 0 if _have(folder, names[middle + 1 :], stamps[cut:]) else 1
        finally:
            # Nothing of the parent's may run here: no handler, no flush.
            os._exit(status)
    is_same = _have(folder, names[:middle], stamps[:cut])
    try:
        _, status = os.waitpid(child, 0)
    except ChildProcessError:
        # Somebody in this process waits for every child.
        return False
    return is_same and status == 0


def _may_fork() -> bool:
    # A fork of a process with threads may deadlock, and Python warns of it since 3.12.
    threading = sys.modules.get("threading")
    is_alone = threading is None or threading.active_count() == 1
    return sys.platform == "linux" and is_alone and len(os.sched_getaffinity(0)) > 1
