"""What the last capture of a work tree saw, read back: is all that still so?

A snapshot follows from the names in every folder that was walked, the bytes of every file that
was captured, a few files of git's (index, HEAD, configuration, rules) and what was asked for.
While the stamps of all these are the same, so is the snapshot; then nothing of git's is parsed,
no folder is listed and no tree is built.

This module and what it imports make no values and import no library, so that an unchanged tree
is recognized before Python has loaded the rest of us. `snapshot.recall` writes what it reads.
"""

from __future__ import annotations

import marshal
import os
import struct

from xmslurm_repro import __version__
from xmslurm_repro.snapshot.git_folders import folders_at, simple_root
from xmslurm_repro.snapshot.looking import LISTING_BYTES, STAMP_BYTES, find_changed
from xmslurm_repro.snapshot.witnesses import Witnesses, is_as_witnessed, load_checked, memory_name
from xmslurm_repro.store.boots import are_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Known to type checkers by its name; `typing` itself takes 2 ms.
    from collections.abc import Mapping, Sequence
    from typing import Any

    Asked = tuple[Any, ...]
    """All that a capture depends on beside the work tree."""

MAGIC = b"xmslurm-recall/4\n"
LENGTHS = struct.Struct("<QQ")
KIND = "recall"
"""What the names of files end in that hold such a memory."""

_OF_GIT = (
    "HOME",
    "XDG_CONFIG_HOME",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
)
"""The variables that `git_settings` reads."""


def asked_for(
    environment: Mapping[str, str],
    *,
    allow_unborn: bool,
    allow_no_repository: bool,
    choice: object = None,
) -> Asked:
    """
    What is asked of a capture.

    Args:
        environment: See `snapshot.capture`, as for all of these.
        allow_unborn: Likewise.
        allow_no_repository: Likewise.
        choice: Of a `Choice` its `to_json`.
    """
    variables = tuple(environment.get(name) for name in _OF_GIT)
    return (__version__, allow_unborn, allow_no_repository, choice, variables)


class Memory:
    """
    The memory of one work tree's last capture.

    Attributes:
        repositories: Root, git folder and common folder of each repository in it.
        witnesses: Of files outside the work tree.
        places: Where the store keeps every object of the snapshot.
        root: The snapshot's digest.
        file_count: How many files and links it has.
        size_bytes: The sum of their sizes.
        origin: Its `Origin` as JSON.
        recent: Files that had changed lately, each with its number.
        folder_count: The first so many of `names` are folders.
        rule_count: And the next so many are rules that were not captured.
        names: Every path that was looked at, with NULs in between.
        listings: Of each folder what tells the names in it; see `snapshot.looking`.
        stamps: Their stamps; see `snapshot.looking`.
    """

    # No dataclass: that alone costs more than to recognize a small tree.
    __slots__ = (
        "asked",
        "file_count",
        "folder_count",
        "listings",
        "names",
        "origin",
        "places",
        "recent",
        "repositories",
        "root",
        "rule_count",
        "size_bytes",
        "stamps",
        "witnesses",
    )

    def __init__(self, body: bytes) -> None:
        """
        Take it apart.

        Raises:
            ValueError: If it is none, as are the other errors that `recall` knows of.
        """
        size, names_size = LENGTHS.unpack_from(body)
        begin = LENGTHS.size + size
        end = begin + names_size
        self.asked: Asked
        self.repositories: Sequence[tuple[bytes, bytes, bytes]]
        self.witnesses: Witnesses
        self.places: Sequence[str]
        self.root: str
        self.file_count: int
        self.size_bytes: int
        self.origin: bytes
        self.recent: Sequence[tuple[bytes, int]]
        self.folder_count: int
        self.rule_count: int
        (
            self.asked,
            self.repositories,
            self.witnesses,
            self.places,
            self.root,
            self.file_count,
            self.size_bytes,
            self.origin,
            self.recent,
            self.folder_count,
            self.rule_count,
        ) = marshal.loads(body[LENGTHS.size : begin])  # noqa: S302 (a digest says it is ours)
        self.names = body[begin:end]
        begin, end = end, end + self.folder_count * LISTING_BYTES
        self.listings = body[begin:end]
        self.stamps = memoryview(body)[end:]

    def is_of(self, asked: Asked) -> bool:
        """Whether it is of what is asked for now, and git's own files are as they were."""
        return (
            self.asked == asked
            and all(folders_at(found[0]) == found for found in self.repositories)
            and all(is_as_witnessed(path, text) for path, text in self.witnesses.items())
        )


def work_tree_of(start: str | os.PathLike[str]) -> bytes | None:
    """The root of the work tree that holds *start*, if that is easily told; see `simple_root`."""
    try:
        return simple_root(os.fsencode(os.path.realpath(start)))
    except OSError:
        return None


def recall(root: bytes | None, *, cache_dir: str | os.PathLike[str], asked: Asked) -> Memory | None:
    """
    The memory of the work tree *root*, if git's own files there are as they were.

    The files of the work tree itself are not looked at.

    Args:
        root: See `work_tree_of`; nothing is remembered of ``None``.
        cache_dir: Where it is remembered.
        asked: See `asked_for`.
    """
    if root is None:
        return None
    body = load_checked(os.path.join(cache_dir, memory_name(root, KIND)), MAGIC)
    if body is None:
        return None
    try:
        memory = Memory(body)
        return memory if memory.is_of(asked) else None
    except (ValueError, TypeError, EOFError, struct.error, OSError):
        # What wrote it knew another form, or the repository cannot be read: whoever looks at
        # everything says so.
        return None


class Looked:
    """
    What a look at a work tree found, for `snapshot.capture` to go on from.

    Attributes:
        root: The work tree.
        memory: Of the last capture that the same was asked of; git's own files are as they were.
        changed: Which paths in memory have other stamps; ``None`` for many.
    """

    __slots__ = ("changed", "memory", "root")

    def __init__(self, root: bytes, memory: Memory, changed: list[int] | None) -> None:
        """Hold what was found."""
        self.root, self.memory, self.changed = root, memory, changed


def look(
    start: str | os.PathLike[str],
    *,
    objects: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str],
    asked: Asked,
) -> Looked | None:
    """
    What changed since `snapshot.capture` was called last; ``None`` where it did not remember.

    For programs that have one thread: the current folder is another one meanwhile.

    Args:
        start: A folder in the work tree.
        objects: The folder of the `DiskObjectStore`.
        cache_dir: What was given to that call.
        asked: See `asked_for`.
    """
    known = _remembered(start, objects, cache_dir, asked)
    if known is None:
        return None
    root, memory = known
    changed = find_changed(root, memory.names, memory.stamps, may_go=True)
    return Looked(root, memory, changed)


def unchanged(
    start: str | os.PathLike[str],
    *,
    objects: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str],
    asked: Asked,
) -> Memory | None:
    """What `snapshot.capture` would find, if nothing has changed since; see `look`."""
    known = _remembered(start, objects, cache_dir, asked)
    if known is None:
        return None
    root, memory = known
    # What was edited lately is edited again, more often than not.
    if not all(_has_stamp(root, memory, path, number) for path, number in memory.recent):
        return None
    is_same = find_changed(root, memory.names, memory.stamps, most=0, may_go=True) == []
    return memory if is_same else None


def _remembered(
    start: str | os.PathLike[str],
    objects: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str],
    asked: Asked,
) -> tuple[bytes, Memory] | None:
    """The work tree and what is remembered of it, as long as its objects are there."""
    root = work_tree_of(start)
    memory = recall(root, cache_dir=cache_dir, asked=asked)
    if root is None or memory is None or not are_there(os.fspath(objects), memory.places):
        return None
    return root, memory


def _has_stamp(root: bytes, memory: Memory, path: bytes, number: int) -> bool:
    stamp = memory.stamps[number * STAMP_BYTES : (number + 1) * STAMP_BYTES]
    return find_changed(root, path, stamp, most=0) == []
