"""Capturing a work tree: find its files, read those that changed, write the tree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

from xmslurm_repro.errors import (
    ChangingFileError,
    NoRepositoryError,
    UnbornHeadError,
    UnreadableError,
    UsageError,
)
from xmslurm_repro.model.choice import Choice
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import ObjectBatch, ObjectStore
from xmslurm_repro.snapshot.cache import (
    NO_ID,
    Known,
    Stamp,
    StatCache,
    cache_file,
    now_ns,
    stamp,
)
from xmslurm_repro.snapshot.choosing import Notes, Rules, choose
from xmslurm_repro.snapshot.collection import without_collection
from xmslurm_repro.snapshot.git_settings import GitSettings
from xmslurm_repro.snapshot.index import Index
from xmslurm_repro.snapshot.nodes import Root, write_nodes
from xmslurm_repro.snapshot.origin import Basis, basis_of, describe, with_alike
from xmslurm_repro.snapshot.paths import shown
from xmslurm_repro.snapshot.reading import Reading, Unread
from xmslurm_repro.snapshot.recall import Remembering, Seen
from xmslurm_repro.snapshot.repository import Head, find_repository
from xmslurm_repro.snapshot.scan import GitAccess, Part, Scan, all_files, scan_work_tree
from xmslurm_repro.snapshot.witnesses import Witnesses

if TYPE_CHECKING:
    from xmslurm_repro.snapshot.memory import Asked

_ATTEMPTS = 3
_MANY_PLACES = 1000
"""Beyond this it is time to find out which of them are still needed."""


@without_collection()
def capture_anew(  # noqa: PLR0913 (all that `capture` takes, and its memory)
    start: Path,
    *,
    store: ObjectStore,
    cache_dir: Path,
    environment: Mapping[str, str],
    allow_unborn: bool,
    allow_no_repository: bool,
    choice: Choice | None,
    progress: Progress | None,
    with_git_ids: bool,
    asked: Asked,
) -> Snapshot:
    """What `snapshot.capture` promises, by looking at everything."""
    began_ns = now_ns(cache_dir)
    access = GitAccess(environment=environment, cache_dir=cache_dir)
    if not start.is_dir():
        raise UsageError(f"{start} is no folder")
    try:
        first = first_part(start, access, allow_no_repository=allow_no_repository)
    except OSError as error:
        raise UnreadableError(
            f"cannot read the repository of {start}: {error.strerror}",
            hint="Make the files in its `.git` readable.",
            details=[f"file: {error.filename!r}"],
        ) from error
    root = first.repository.root if first.repository else os.fsencode(start.resolve())
    if first.repository is not None and first.head.commit is None and not allow_unborn:
        raise UnbornHeadError(
            f"{shown(root)} has no commit yet",
            hint="Commit once, or pass `--allow-unborn` to launch without a commit to refer to.",
        )
    rules = Rules(choice) if choice else None
    remembering = Remembering(root=root, cache_dir=cache_dir, asked=asked)
    capturing = Capture(root=root, store=store, access=access, rules=rules, progress=progress)
    capturing.with_git_ids = with_git_ids and first.head.commit is not None
    return capturing.run(first, remembering, began_ns)


def first_part(start: Path, access: GitAccess, *, allow_no_repository: bool) -> Part:
    """
    What the work tree that holds *start* itself is.

    Raises:
        NoRepositoryError: If *start* is in no repository, and that is not allowed.
    """
    try:
        repository = find_repository(start)
    except NoRepositoryError:
        if not allow_no_repository:
            raise
        return _plain_folder()
    return access.part(repository, b"")


def _plain_folder() -> Part:
    return Part(
        prefix=b"",
        repository=None,
        settings=GitSettings(excludes_file=None),
        head=Head(branch=None, commit=None),
        index=Index(),
    )


@dataclass(kw_only=True)
class Capture:
    """A capture of the work tree *root*, that looks at everything."""

    root: bytes
    store: ObjectStore
    access: GitAccess
    rules: Rules | None
    progress: Progress | None
    notes: Notes = field(default_factory=dict)
    with_git_ids: bool = False
    # What an attempt found that failed elsewhere.
    fresh: dict[bytes, Known] = field(default_factory=dict)
    # What the file system's clock said then.
    began_ns: int = 0
    # Whether the store still holds all that is known of.
    is_held: bool = False

    def run(self, first: Part, remembering: Remembering, began_ns: int) -> Snapshot:
        cache = StatCache(cache_file(self.access.cache_dir, self.root, "stat"))
        self.is_held, self.began_ns = self.store.has_places(cache.places), began_ns
        with self.store.batch() as batch:
            scan, bases, files = self._settle(first, cache, batch)
            origin = describe(scan, bases, files, self.notes)
            # What git knows is the larger half of the memory by now, and said all it has to.
            bases.clear()
            scan.forget_files()
            root = write_nodes(files, batch)
        if root.alike:
            origin = with_alike(origin, root.alike)
        places = self._places(cache, files, root, batch)
        cache.save(files, places=places, before_ns=began_ns)
        snapshot = Snapshot(
            root=root.digest,
            file_count=root.file_count,
            size_bytes=root.size_bytes,
            origin=origin,
        )
        self._remember(remembering, snapshot, scan, files, places, began_ns)
        return snapshot

    def _places(
        self, cache: StatCache, files: Mapping[bytes, Known], root: Root, batch: ObjectBatch
    ) -> frozenset[str]:
        """Where the store keeps all that was captured, and perhaps something from before."""
        if not cache.known:
            return batch.places()
        if self.is_held and len(cache.places) < _MANY_PLACES:
            return cache.places | batch.places()
        digits = (known.blake3.hex() for known in files.values())
        return self.store.places(chain(digits, root.nodes))

    def _remember(
        self,
        remembering: Remembering,
        snapshot: Snapshot,
        scan: Scan,
        files: Mapping[bytes, Known],
        places: frozenset[str],
        began_ns: int,
    ) -> None:
        witnesses: Witnesses = {}
        for part in scan.parts:
            if part.witnesses is None or not scan.is_plain:
                return
            witnesses.update(part.witnesses)
        rules: dict[bytes, Stamp] = {}
        for path in sorted(scan.rules - files.keys()):
            try:
                rules[path] = stamp(os.lstat(os.path.join(self.root, path)))
            except OSError:
                # It went away after it was read, so there is nothing that holds for the next time.
                return
        remembering.remember(
            snapshot,
            Seen(folders=scan.folders, listings=scan.listings, rules=rules, files=files),
            repositories=[part.repository for part in scan.parts if part.repository],
            witnesses=witnesses,
            places=places,
            before_ns=began_ns,
        )

    def _settle(
        self, first: Part, cache: StatCache, batch: ObjectBatch
    ) -> tuple[Scan, dict[bytes, Basis], dict[bytes, Known]]:
        """Look again until nothing moves while we look, but not for ever."""
        moved: set[bytes] = set()
        for attempt in range(_ATTEMPTS):
            part = first if attempt == 0 else self._again(first)
            scan = scan_work_tree(self.root, part, self.access)
            if self.rules is not None:
                self.notes = choose(self.root, scan, self.rules)
            bases = {p.prefix: basis_of(p, self.access.cache_dir) for p in scan.parts}
            files, unread = self._sort(scan, bases, cache)
            reading = Reading(files=files)
            reading.read(self.root, unread, batch, began_ns=self.began_ns, progress=self.progress)
            if unreadable := {**scan.unreadable, **reading.unreadable}:
                raise _unreadable(unreadable)
            moved = scan.vanished | reading.moved
            if not moved:
                return scan, bases, files
            self.fresh = files
        raise _changing(moved)

    def _again(self, first: Part) -> Part:
        if first.repository is None:
            return _plain_folder()
        return self.access.part(first.repository, b"")

    def _sort(
        self, scan: Scan, bases: Mapping[bytes, Basis], cache: StatCache
    ) -> tuple[dict[bytes, Known], list[Unread]]:
        """What is known, and what must be read: with git's id where only that can tell."""
        files: dict[bytes, Known] = {}
        unread: list[Unread] = []
        for part, path, found in all_files(scan):
            known = self.fresh.get(path) or cache.known.get(path)
            needs_id = bases[part.prefix].needs_object_id(path, part.prefix)
            if (
                known is not None
                and known[:5] == found
                and not (needs_id and known.object_id == NO_ID)
                and self._is_stored(path, known)
            ):
                files[path] = known
                # In place of the stamp, with which it begins: there are many.
                part.files[path] = cast("Stamp", known)
            else:
                name = part.settings.hash_name if needs_id or self.with_git_ids else None
                unread.append((path, found, name, part.files))
        return files, unread

    def _is_stored(self, path: bytes, known: Known) -> bool:
        if self.is_held or path in self.fresh:
            return True
        return self.store.has(Digest.blake3(known.blake3.hex()))


def _unreadable(found: Mapping[bytes, str]) -> UnreadableError:
    count = len(found)
    return UnreadableError(
        f"{count} {'path' if count == 1 else 'paths'} of the work tree cannot be captured",
        hint="Make them readable, or name them in `.gitignore` if the run does not need them.",
        details=[f"{shown(path) or '.'}: {found[path]}" for path in sorted(found)],
    )


def _changing(moved: set[bytes]) -> ChangingFileError:
    count = len(moved)
    return ChangingFileError(
        f"{count} {'file' if count == 1 else 'files'} changed while being read",
        hint="Stop the program that writes there, or name the files in `.gitignore`.",
        details=[shown(path) or "." for path in sorted(moved)],
    )
