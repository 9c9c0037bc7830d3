"""What HEAD's commit holds, read by the library and remembered until HEAD moves."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from xmslurm_repro.errors import FormatError
from xmslurm_repro.snapshot.cache import save_checked
from xmslurm_repro.snapshot.commit_tree import quick_root_tree
from xmslurm_repro.snapshot.git_storage import hash_name_of, open_objects
from xmslurm_repro.snapshot.index import Index, IndexEntry
from xmslurm_repro.snapshot.repository import Repository
from xmslurm_repro.snapshot.witnesses import load_checked

_ROOT_MAGIC = b"xmslurm-head/1\n"
_TREE_MAGIC = b"xmslurm-head-tree/1\n"

HeadTree = Mapping[bytes, tuple[int, bytes]]
"""Mode and object id of every file, link and submodule of a commit, by path."""


class _OfIndex(HeadTree):
    """A commit that equals the index. Nothing is copied, which would take 20 MB for Linux."""

    def __init__(self, entries: Mapping[bytes, IndexEntry]) -> None:
        self._entries = entries

    def __getitem__(self, path: bytes) -> tuple[int, bytes]:
        entry = self._entries[path]
        return entry.mode, entry.object_id

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, path: object) -> bool:
        return path in self._entries


def head_tree(repository: Repository, commit: str, index: Index, cache_file: Path) -> HeadTree:
    """
    What *commit* holds.

    Where git noted in the index that it equals the commit's tree, the index is the answer and
    no object is read; so it is after every commit until something is staged.

    Args:
        repository: Where the commit is.
        commit: Its id in hexadecimal.
        index: The repository's.
        cache_file: Where to remember, without its last suffix.

    Raises:
        FormatError: If objects are missing or damaged.
    """
    tree = root_tree(repository, commit, cache_file.with_suffix(".head"))
    if index.tree == bytes.fromhex(tree) and not index.unmerged:
        return _OfIndex(index.entries)
    return _entries(repository, tree, cache_file.with_suffix(".tree"))


def some_of_head(
    repository: Repository,
    commit: str,
    index: Index,
    wanted: Collection[bytes],
    cache_file: Path,
) -> HeadTree | None:
    """
    What *commit* holds of a few paths; ``None`` where all of it has to be read to tell.

    Args:
        repository: Where the commit is.
        commit: Its id in hexadecimal.
        index: What `read_some` said of the same paths.
        wanted: From the repository's root.
        cache_file: Where `head_tree` remembers.

    Raises:
        FormatError: If the commit cannot be read.
    """
    tree = root_tree(repository, commit, cache_file.with_suffix(".head"))
    if index.tree == bytes.fromhex(tree) and not index.unmerged:
        return _OfIndex(index.entries)
    body = load_checked(cache_file.with_suffix(".tree"), _TREE_MAGIC)
    if body is None or not body.startswith(tree.encode() + b"\0"):
        return None
    found: dict[bytes, tuple[int, bytes]] = {}
    for path in wanted:
        ending, at = b" %s\0" % path, 0
        # The end of another path may read the same, up to a blank.
        while path not in found and (at := body.find(ending, at)) >= 0:
            record = body[body.rindex(b"\0", 0, at) + 1 : at + len(ending) - 1]
            mode, digits, whole = _words(record)
            if whole == path:
                found[path] = _known(mode, digits)
            at += 1
    return found


def root_tree(repository: Repository, commit: str, cache_file: Path) -> str:
    """
    The id of *commit*'s tree.

    Raises:
        FormatError: If the commit cannot be read.
    """
    body = load_checked(cache_file, _ROOT_MAGIC)
    if body is not None:
        known_commit, _, tree = body.decode("ascii").partition(" ")
        if known_commit == commit:
            return tree
    tree = quick_root_tree(repository, commit) or read_root_tree(repository, commit)
    save_checked(cache_file, _ROOT_MAGIC, f"{commit} {tree}".encode())
    return tree


def _entries(repository: Repository, tree: str, cache_file: Path) -> HeadTree:
    body = load_checked(cache_file, _TREE_MAGIC)
    if body is not None and body.startswith(tree.encode()):
        records = body.split(b"\0")[1:-1]
        return {path: _known(mode, digits) for mode, digits, path in map(_words, records)}
    found = _read_entries(repository, tree)
    records = [b"%o %s %s\0" % (mode, oid.hex().encode(), p) for p, (mode, oid) in found.items()]
    save_checked(cache_file, _TREE_MAGIC, tree.encode() + b"\0" + b"".join(records))
    return found


def _words(record: bytes) -> list[bytes]:
    return record.split(b" ", 2)


def _known(mode: bytes, digits: bytes) -> tuple[int, bytes]:
    return int(mode, 8), bytes.fromhex(digits.decode("ascii"))


def read_root_tree(repository: Repository, commit: str) -> str:
    """
    The id of *commit*'s tree, read from the repository.

    Raises:
        FormatError: If the commit cannot be read.
    """
    from dulwich.objects import Commit, ObjectID  # noqa: PLC0415 (costs 40 ms)

    try:
        with open_objects(repository, hash_name_of(commit)) as objects:
            found = objects[ObjectID(commit.encode())]
    except Exception as error:
        raise _unreadable(repository, f"commit {commit}", error) from error
    if not isinstance(found, Commit):
        raise _unreadable(repository, f"commit {commit}", ValueError("it is no commit"))
    tree: bytes = found.tree
    return tree.decode("ascii")


def _read_entries(repository: Repository, tree: str) -> HeadTree:
    from dulwich.objects import ObjectID  # noqa: PLC0415 (costs 40 ms)

    entries: dict[bytes, tuple[int, bytes]] = {}
    try:
        with open_objects(repository, hash_name_of(tree)) as objects:
            contents = objects.iter_tree_contents(ObjectID(tree.encode()), max_depth=None)
            for entry in contents:
                if entry.path is not None and entry.mode is not None and entry.sha is not None:
                    entries[entry.path] = entry.mode, bytes.fromhex(entry.sha.decode("ascii"))
    except Exception as error:
        raise _unreadable(repository, f"tree {tree}", error) from error
    return entries


def _unreadable(repository: Repository, what: str, error: Exception) -> FormatError:
    # The library raises a dozen unrelated types here, from KeyError to zlib.error.
    return FormatError(
        f"{os.fsdecode(repository.git_dir)}: cannot read {what}: {error!r}",
        hint="Run `git fsck` in the repository; a partial clone may need `git fetch` first.",
    )
