"""Reading captured trees: walk one, look into it, compare two."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from xmslurm_repro.errors import FormatError, MissingObjectError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.snapshot import DEEPEST, EntryKind, PathEntry, TreeEntry, decode_node
from xmslurm_repro.ports.store import ObjectStore


class StoredTree:
    """
    A `Tree` whose nodes are read when they are needed, each once.

    Every method may raise `MissingObjectError`, `DigestMismatchError` or, for an object that is
    no node, `FormatError`.
    """

    def __init__(self, store: ObjectStore, root: Digest) -> None:
        self._store = store
        self._root = root
        self._nodes: dict[Digest, tuple[TreeEntry, ...]] = {}

    @property
    def root(self) -> Digest:
        """The snapshot's identity."""
        return self._root

    def entries(self) -> Iterable[PathEntry]:
        """Every file and link, sorted by path as bytes."""
        return self.below(self._root, b"")

    def find(self, path: str) -> PathEntry | None:
        """
        The file or link at *path* (``/`` between components), or ``None``.

        Bytes that are not UTF-8 are written as `os.fsdecode` writes them. Links on the way are
        not followed.
        """
        *folders, name = os.fsencode(path).split(b"/")
        node = self._root
        for folder in folders:
            entry = self._entry(node, folder)
            if entry is None or entry.kind is not EntryKind.DIRECTORY:
                return None
            node = entry.digest
        entry = self._entry(node, name)
        if entry is None or entry.kind is EntryKind.DIRECTORY:
            return None
        return _at(os.fsencode(path), entry)

    def read(self, path: str) -> bytes | None:
        """The bytes of the file at *path*, or ``None`` when there is no such file."""
        entry = self.find(path)
        if entry is None or entry.kind is EntryKind.SYMLINK:
            return None
        return self._store.get(entry.digest)

    def open(self, digest: Digest) -> BinaryIO:
        """A verified stream of a file's content, by the digest in its entry."""
        return self._store.open(digest)

    def node(self, digest: Digest, path: bytes = b"") -> tuple[TreeEntry, ...]:
        """The entries of the folder *path*, whose node is *digest*, sorted by name."""
        if path.count(b"/") > DEEPEST:
            raise FormatError(f"the snapshot {self._root} has folders nested over {DEEPEST} deep")
        if digest not in self._nodes:
            where = f"node {digest} (folder {os.fsdecode(path) or '.'!r})"
            try:
                data = self._store.get(digest)
            except MissingObjectError as error:
                raise MissingObjectError(str(digest), needed_by=f"snapshot {self._root}") from error
            self._nodes[digest] = decode_node(data, where)
        return self._nodes[digest]

    def below(self, node: Digest, prefix: bytes) -> Iterator[PathEntry]:
        """Every file and link in the folder whose node is *node*, *prefix* before its name."""
        for entry in sorted(self.node(node, prefix), key=_path_order):
            if entry.kind is EntryKind.DIRECTORY:
                yield from self.below(entry.digest, prefix + entry.name + b"/")
            else:
                yield _at(prefix + entry.name, entry)

    def _entry(self, node: Digest, name: bytes) -> TreeEntry | None:
        return next((entry for entry in self.node(node) if entry.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChange:
    """A path that two trees do not have alike. ``None`` where it is no file or link."""

    path: bytes
    left: PathEntry | None
    right: PathEntry | None


def compare_trees(store: ObjectStore, left: Digest, right: Digest) -> tuple[PathChange, ...]:
    """
    What differs between two snapshots, sorted by path; folders alike are not read.

    Raises:
        MissingObjectError: If the store lacks a node of either.
    """
    changes = list(_compare(StoredTree(store, left), StoredTree(store, right), b"", left, right))
    return tuple(sorted(changes, key=lambda change: change.path))


def _compare(
    left: StoredTree, right: StoredTree, prefix: bytes, left_node: Digest, right_node: Digest
) -> Iterator[PathChange]:
    if left_node == right_node:
        return
    lefts = {entry.name: entry for entry in left.node(left_node, prefix)}
    rights = {entry.name: entry for entry in right.node(right_node, prefix)}
    for name in sorted(lefts.keys() | rights.keys()):
        one, other = lefts.get(name), rights.get(name)
        if one == other:
            continue
        path = prefix + name
        folder, other_folder = _folder(one), _folder(other)
        if folder and other_folder:
            yield from _compare(left, right, path + b"/", folder, other_folder)
            continue
        at_left = _at(path, one) if one and not folder else None
        at_right = _at(path, other) if other and not other_folder else None
        if at_left or at_right:
            yield PathChange(path=path, left=at_left, right=at_right)
        for entry in left.below(folder, path + b"/") if folder else ():
            yield PathChange(path=entry.path, left=entry, right=None)
        for entry in right.below(other_folder, path + b"/") if other_folder else ():
            yield PathChange(path=entry.path, left=None, right=entry)


def _folder(entry: TreeEntry | None) -> Digest | None:
    return entry.digest if entry and entry.kind is EntryKind.DIRECTORY else None


def _at(path: bytes, entry: TreeEntry) -> PathEntry:
    return PathEntry(path=path, kind=entry.kind, digest=entry.digest, size_bytes=entry.size_bytes)


def _path_order(entry: TreeEntry) -> bytes:
    # "a/b" comes behind "a.b", although "a" comes before "a.b".
    return entry.name + b"/" if entry.kind is EntryKind.DIRECTORY else entry.name
