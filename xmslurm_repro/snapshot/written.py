"""
The tree that git would write of a captured work tree, where that is not simply its bytes.

Filters (Git LFS), ends of lines, ``core.fileMode`` and sparse checkouts let git call a work tree
clean that is not, byte for byte, what the commit holds. Nothing is run to find out: what the
capture did not call changed counts as what the commit has at its path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xmslurm_repro.errors import MissingObjectError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.snapshot import EntryKind, Origin, TreeEntry
from xmslurm_repro.snapshot.git_objects import GIT_MODES, GitTree, tree_body
from xmslurm_repro.snapshot.index import FOLDER, GITLINK
from xmslurm_repro.snapshot.paths import shown
from xmslurm_repro.snapshot.tree import StoredTree

if TYPE_CHECKING:
    from dulwich.object_store import DiskObjectStore

_CONVERTING = (b"filter=", b"eol=crlf", b"ident", b"encoding=", b" text", b"\ttext", b"crlf")
_ABSENT = ("the sparse checkout leaves it out", "the submodule is not checked out")


def may_differ(tree: StoredTree, origin: Origin, *, converts: bool, own_attributes: bytes) -> bool:
    """
    Whether the bytes of a clean work tree may be others than its commit's.

    Args:
        tree: What was captured.
        origin: What that is a change of.
        converts: Whether the configuration makes git convert files, or overlook exec bits.
        own_attributes: The text of ``info/attributes``.
    """
    if converts or any(reason in _ABSENT for _, reason in origin.skipped):
        return True
    try:
        attributes = (tree.read(".gitattributes") or b"") + own_attributes
    except MissingObjectError:
        return False
    return any(word in attributes for word in _CONVERTING)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenTree:
    """
    Names the tree that git would write.

    Attributes:
        plain: Names the captured bytes as they are.
        objects: Where the commit's trees are.
        changed: What the capture called changed, as it is shown, with what happened.
        absent: What is not there and git would write all the same, as it is shown.
        dropped: What is not there and git would not have.
        converted: Files whose bytes, or exec bits, are not the commit's although git calls them
            unchanged; grows.
    """

    plain: GitTree
    objects: DiskObjectStore
    changed: Mapping[str, str]
    absent: Set[str]
    dropped: Set[str]
    converted: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, plain: GitTree, objects: DiskObjectStore, origin: Origin) -> WrittenTree:
        """Make one of what a capture said."""
        return cls(
            plain=plain,
            objects=objects,
            changed=dict(origin.changed),
            absent={path for path, reason in origin.skipped if reason in _ABSENT},
            dropped={path for path, reason in origin.skipped if reason not in _ABSENT},
        )

    def root_id(self, commit_tree: bytes) -> bytes:
        """The id of the whole tree, of a commit whose tree is *commit_tree*."""
        return self._folder(self.plain.tree.root, b"", commit_tree)

    def _folder(self, node: Digest, path: bytes, base: bytes | None) -> bytes:
        is_whole = path.rstrip(b"/") == b"" or shown(path.rstrip(b"/")) not in self.changed
        plain = self.plain.folder_named(node, path)
        if base is None or plain == base or not is_whole:
            return plain
        theirs = dict(self._entries(base))
        records: list[tuple[bytes, bytes]] = []
        for entry in self.plain.tree.node(node, path):
            records.append(self._record(entry, path, theirs.pop(entry.name, None)))  # noqa: PERF401
        for name, (mode, object_id) in theirs.items():
            if self._is_written(path + name):
                records.append(_line(name, mode, object_id))
        return self.plain.keep(b"tree", *tree_body(records))

    def _record(
        self, entry: TreeEntry, folder: bytes, base: tuple[int, bytes] | None
    ) -> tuple[bytes, bytes]:
        path = folder + entry.name
        if base is None:
            return self.plain.record(entry, folder)
        mode, object_id = base
        if entry.kind is EntryKind.DIRECTORY:
            if mode == GITLINK and not self._is_changed(path):
                return _line(entry.name, mode, object_id)
            if mode != FOLDER:
                return self.plain.record(entry, folder)
            return _line(entry.name, FOLDER, self._folder(entry.digest, path + b"/", object_id))
        if mode in {FOLDER, GITLINK} or shown(path) in self.changed:
            return self.plain.record(entry, folder)
        if not self._is_same(entry, mode, object_id):
            self.converted.append(path)
        return _line(entry.name, mode, object_id)

    def _is_same(self, entry: TreeEntry, mode: int, object_id: bytes) -> bool:
        from dulwich.objects import ObjectID  # noqa: PLC0415 (costs 40 ms)

        if b"%o" % mode != GIT_MODES[entry.kind]:
            return False
        # Most of what is converted has another size, and may be too large to be read again.
        with suppress(KeyError):
            _, data = self.objects.get_raw(ObjectID(object_id.hex().encode()))
            if len(data) != entry.size_bytes:
                return False
        return self.plain.record(entry, b"")[1].endswith(b"\0" + object_id)

    def _is_changed(self, path: bytes) -> bool:
        """Whether a submodule is at another commit, or anything in it was changed."""
        name = shown(path)
        return name in self.changed or any(other.startswith(f"{name}/") for other in self.changed)

    def _is_written(self, path: bytes) -> bool:
        """Whether git would write what is at *path* in the commit and was not captured."""
        name = shown(path)
        if name in self.changed or name in self.dropped:
            return False
        while path:
            if shown(path) in self.absent:
                return True
            path = path.rpartition(b"/")[0]
        # Of a folder only parts may be left out, and those may be all that there was.
        return any(absent.startswith(name + "/") for absent in self.absent)

    def _entries(self, tree: bytes) -> Iterator[tuple[bytes, tuple[int, bytes]]]:
        from dulwich.objects import ObjectID, Tree  # noqa: PLC0415 (costs 40 ms)

        found = self.objects[ObjectID(tree.hex().encode())]
        assert isinstance(found, Tree)  # noqa: S101 (what a tree or a commit names as one)
        for item in found.iteritems():
            if item.path is not None and item.mode is not None and item.sha is not None:
                yield item.path, (item.mode, bytes.fromhex(item.sha.decode("ascii")))


def _line(name: bytes, mode: int, object_id: bytes) -> tuple[bytes, bytes]:
    """A record of a tree, and what it is sorted by."""
    text = GIT_MODES[EntryKind.DIRECTORY] if mode == FOLDER else b"%o" % mode
    key = name + b"/" if mode == FOLDER else name
    return key, b"%s %s\0%s" % (text, name, object_id)
