"""Capturing a tree of which little has changed since it was captured last.

What was remembered then tells which files and folders have other stamps now. Where the folders
hold the same names and git's own files are the same, only those files are read, and only the
nodes of the folders above them are written. Whatever is out of the ordinary is left to those who
look at everything: what comes of both must be the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xmslurm_repro.errors import ReproError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import ObjectBatch, ObjectStore
from xmslurm_repro.snapshot.cache import Known, Stamp, cache_file, now_ns, stamp
from xmslurm_repro.snapshot.collection import without_collection
from xmslurm_repro.snapshot.git_settings import GitSettings, read_settings
from xmslurm_repro.snapshot.head_tree import some_of_head
from xmslurm_repro.snapshot.index import Index, read_some
from xmslurm_repro.snapshot.looking import LISTING_BYTES, listing_of
from xmslurm_repro.snapshot.memory import Looked, Memory
from xmslurm_repro.snapshot.nodes import mode_of
from xmslurm_repro.snapshot.origin import Basis, changes_of
from xmslurm_repro.snapshot.reading import Reading, Unread
from xmslurm_repro.snapshot.recall import Remembering, snapshot_of
from xmslurm_repro.snapshot.repository import Head, Repository, read_head
from xmslurm_repro.snapshot.scan import ID_BYTES, Part

if TYPE_CHECKING:
    from xmslurm_repro.model.choice import Choice

_RULES = {b".gitignore", b".gitattributes", b".gitmodules"}
"""Names of files that say something of others."""
_MANY_PLACES = 1000


class _LookAtAllError(Exception):
    """Only whoever looks at everything can tell what the snapshot is."""


@without_collection()
def amend(
    looked: Looked,
    *,
    store: ObjectStore,
    access: tuple[Mapping[str, str], Path],
    choice: Choice | None,
    progress: Progress | None,
) -> Snapshot | None:
    """
    The snapshot of a work tree, by what an earlier capture remembered.

    Args:
        looked: What changed since then.
        store: See `snapshot.capture`.
        access: The environment and the folder of caches that were given to it.
        choice: See there.
        progress: Likewise.

    Returns:
        ``None`` where only a look at everything can tell what the snapshot is, or what is wrong.
    """
    amending = _Amending(
        root=looked.root,
        memory=looked.memory,
        store=store,
        environment=access[0],
        cache_dir=access[1],
        choice=choice,
        progress=progress,
    )
    try:
        return amending.run(looked.changed or ())
    except (_LookAtAllError, ReproError, OSError, ValueError, RecursionError):
        return None


@dataclass(kw_only=True)
class _Amending:
    root: bytes
    memory: Memory
    store: ObjectStore
    environment: Mapping[str, str]
    cache_dir: Path
    choice: Choice | None
    progress: Progress | None
    # What is another one now, by its number in memory.
    stamps: dict[int, Stamp] = field(default_factory=dict)
    # What was read, by path.
    files: dict[bytes, Known] = field(default_factory=dict)

    def run(self, changed: Sequence[int]) -> Snapshot:
        """See `amend`."""
        memory = self.memory
        if len(memory.places) >= _MANY_PLACES:
            raise _LookAtAllError
        began_ns = now_ns(self.cache_dir)
        before = snapshot_of(memory)
        parts = self._parts(self._paths(changed))
        with self.store.batch() as batch:
            bases = [self._basis(part) for part in parts]
            self._doubt(parts, dict(before.origin.notable))
            self._read(parts, bases, batch, began_ns)
            nodes = _Nodes(self.files, self.store, batch)
            root, size_bytes = before.root, before.size_bytes
            if self.files:
                root, size_bytes = nodes.rewrite(b"", root)
        changes = dict(before.origin.changed)
        for part, basis in zip(parts, bases, strict=True):
            self._describe(part, basis, changes)
        origin = replace(before.origin, changed=tuple(sorted(changes.items())))
        snapshot = replace(before, root=root, size_bytes=size_bytes, origin=origin)
        # What was read of git's files just now must be what the memory was of.
        if not memory.is_of(memory.asked):
            raise _LookAtAllError
        remembering = Remembering(root=self.root, cache_dir=self.cache_dir, asked=memory.asked)
        remembering.remember_amended(
            memory,
            snapshot,
            stamps=self.stamps,
            places={*memory.places, *batch.places()},
            before_ns=began_ns,
        )
        return snapshot

    def _paths(self, changed: Sequence[int]) -> dict[bytes, Stamp]:
        """The files that changed; the folders that did must hold the names that they held."""
        memory, root = self.memory, self.root
        paths = memory.names.split(b"\0")
        files: dict[bytes, Stamp] = {}
        for number in changed:
            path = paths[number]
            found = self.stamps[number] = stamp(os.lstat(os.path.join(root, path)))
            if number < memory.folder_count:
                at = number * LISTING_BYTES
                self._check_folder(path, found, memory.listings[at : at + LISTING_BYTES])
                continue
            is_rule = number < memory.folder_count + memory.rule_count
            is_rule |= path.rpartition(b"/")[2] in _RULES
            if is_rule or not _is_captured(found.mode):
                raise _LookAtAllError
            # Messages name paths as text, and of those that are none two may read alike.
            path.decode()
            files[path] = found
        return files

    def _check_folder(self, path: bytes, found: Stamp, listing: bytes) -> None:
        if not stat.S_ISDIR(found.mode):
            raise _LookAtAllError
        with os.scandir(os.path.join(self.root, path)) as entries:
            if listing_of(entries) != listing:
                raise _LookAtAllError

    def _parts(self, files: Mapping[bytes, Stamp]) -> list[Part]:
        """The repositories that *files* are in, with no other files."""
        root, places = self.root, []
        for own, git_dir, common_dir in self.memory.repositories:
            if own != root and not own.startswith(root + b"/"):
                raise _LookAtAllError
            prefix = own[len(root) + 1 :] + b"/" if own != root else b""
            places.append((prefix, Repository(root=own, git_dir=git_dir, common_dir=common_dir)))
        # The deepest first: that is whose the file is.
        places.sort(key=lambda place: -len(place[0]))
        parts: dict[bytes, Part] = {}
        for path, found in files.items():
            within = (place for place in places if path.startswith(place[0]))
            prefix, repository = next(within, (b"", None))
            if prefix not in parts:
                parts[prefix] = self._part(prefix, repository)
            parts[prefix].files[path] = found
        return list(parts.values())

    def _part(self, prefix: bytes, repository: Repository | None) -> Part:
        settings, head = GitSettings(excludes_file=None), Head(branch=None, commit=None)
        if repository is not None:
            remembered = cache_file(self.cache_dir, repository.root, "git")
            settings, _ = read_settings(repository, self.environment, remembered)
            head = read_head(repository)
        return Part(
            prefix=prefix, repository=repository, settings=settings, head=head, index=Index()
        )

    def _basis(self, part: Part) -> Basis:
        repository, commit = part.repository, part.head.commit
        if repository is None:
            return Basis(head={}, vouched={})
        wanted = {path[len(part.prefix) :] for path in part.files}
        index = read_some(
            os.path.join(repository.git_dir, b"index"),
            wanted,
            id_bytes=ID_BYTES.get(part.settings.hash_name, 20),
        )
        if index is None:
            raise _LookAtAllError
        part.index = index
        if commit is None:
            return Basis(head={}, vouched={})
        remembered = cache_file(self.cache_dir, repository.root, "x")
        head = some_of_head(repository, commit, index, wanted, remembered)
        if head is None:
            raise _LookAtAllError
        return Basis(head=head, vouched={})

    def _doubt(self, parts: Sequence[Part], notable: Mapping[str, str]) -> None:
        """What is to be said of a file, or was, is not for us to say."""
        paths = [(part, path) for part in parts for path in part.files]
        if any(path.decode() in notable for _, path in paths):
            raise _LookAtAllError
        if self.choice is None or not paths:
            return
        from xmslurm_repro.snapshot.choosing import Rules  # noqa: PLC0415 (costs 8 ms)
        from xmslurm_repro.snapshot.lfs import reads_as_pointer  # noqa: PLC0415

        rules = Rules(self.choice)
        for part, path in paths:
            found, is_tracked = part.files[path], path[len(part.prefix) :] in part.index.entries
            doubt = rules.doubt(self.root, path, found, is_tracked=is_tracked)
            if doubt is not None or reads_as_pointer(self.root, path, found):
                raise _LookAtAllError

    def _read(
        self, parts: Sequence[Part], bases: Sequence[Basis], batch: ObjectBatch, began_ns: int
    ) -> None:
        unread: list[Unread] = []
        for part, basis in zip(parts, bases, strict=True):
            for path, found in part.files.items():
                needs_id = basis.needs_object_id(path, part.prefix)
                name = part.settings.hash_name if needs_id else None
                unread.append((path, found, name, part.files))
        reading = Reading(files=self.files)
        reading.read(self.root, unread, batch, began_ns=began_ns, progress=self.progress)
        if reading.moved or reading.unreadable:
            raise _LookAtAllError

    def _describe(self, part: Part, basis: Basis, changes: dict[str, str]) -> None:
        for path in part.files:
            changes.pop(path.decode(), None)
        if part.repository is not None:
            found = changes_of(part, basis, self.files)
            changes.update({path.decode(): what for path, what in found.items()})


def _is_captured(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


class _Nodes:
    """The nodes of the folders that *files* are in, and of those above, written anew."""

    def __init__(
        self, files: Mapping[bytes, Known], store: ObjectStore, batch: ObjectBatch
    ) -> None:
        self._store = store
        self._batch = batch
        self._records: dict[bytes, dict[bytes, bytes]] = {}
        for path, known in files.items():
            folder, _, name = path.rpartition(b"/")
            record = mode_of(known.mode), known.blake3.hex().encode(), known.size_bytes, name
            self._records.setdefault(folder, {})[name] = b"%s %s %d %s" % record
        for folder in list(self._records):
            above = folder
            while above:
                above = above.rpartition(b"/")[0]
                self._records.setdefault(above, {})

    def rewrite(self, folder: bytes, node: Digest) -> tuple[Digest, int]:
        """
        Write the node of *folder* with what changed below it, by the node that it had.

        Returns:
            The new node, and the size of all below it.
        """
        records = self._store.get(node).split(b"\0")[:-1]
        missing = dict(self._records[folder])
        size_bytes = 0
        for number, record in enumerate(records):
            mode, digits, size, name = record.split(b" ", 3)
            path = folder + b"/" + name if folder else name
            if mode == b"040000" and path in self._records:
                below, amount = self.rewrite(path, Digest.blake3(digits.decode()))
                size = b"%d" % amount
                records[number] = b"%s %s %s %s" % (mode, below.hex.encode(), size, name)
            elif name in missing and mode != b"040000":
                records[number] = missing.pop(name)
                size = records[number].split(b" ", 3)[2]
            size_bytes += int(size)
        if missing:
            raise _LookAtAllError
        data = b"".join(record + b"\0" for record in records)
        return self._batch.put(data), size_bytes
