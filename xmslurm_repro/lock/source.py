"""The lock mechanism behind the port that services see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xmslurm_repro.lock.build_tools import pin_build_tools
from xmslurm_repro.lock.fetch import fetch_artifacts
from xmslurm_repro.lock.locate import locate_by_uv
from xmslurm_repro.lock.logins import Logins, named_indexes
from xmslurm_repro.lock.project import Choice
from xmslurm_repro.lock.resolve import projects_without_lock, resolve_lock
from xmslurm_repro.lock.version import version_of_tag
from xmslurm_repro.model.lock import Artifact, Lock, Target
from xmslurm_repro.model.project import Project
from xmslurm_repro.model.tags import TagDistance, TagRule
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore, ObjectStore, Tree
from xmslurm_repro.transport.http import Http


@dataclass(frozen=True, slots=True, kw_only=True)
class Locks:
    """
    A `LockSource`.

    Attributes:
        store: Keeps lock files, and holds wheels that are part of a snapshot.
        blobs: Keeps wheels.
        http: The door to package indexes.
        cache_dir: A folder that may be emptied at any time.
        index_urls: See `fetch_artifacts`.
        wheelhouses: See `fetch_artifacts`.
        logins: Who is asking; learns of the indexes that locked projects name.
    """

    store: ObjectStore
    blobs: BlobStore
    http: Http
    cache_dir: Path
    index_urls: tuple[str, ...] = ()
    wheelhouses: tuple[Path, ...] = ()
    logins: Logins | None = None

    def resolve(
        self,
        tree: Tree,
        folder: str,
        *,
        lock_path: str | None,
        target: Target,
        extras: Sequence[str] = (),
        groups: Sequence[str] = (),
        with_sdists: bool = False,
    ) -> Lock | None:
        """As `resolve_lock`."""
        if self.logins is not None:
            self.logins.learn(named_indexes(tree, folder))
        return resolve_lock(
            tree,
            folder,
            lock_path=lock_path,
            target=target,
            store=self.store,
            cache_dir=self.cache_dir,
            choice=Choice.of(extras, groups),
            with_sdists=with_sdists,
        )

    def build_tools(
        self, requires: Sequence[str], target: Target, where: str
    ) -> tuple[Artifact, ...]:
        """As `pin_build_tools`."""
        return pin_build_tools(requires, target, where)

    def projects(self, tree: Tree, folder: str, lock: Lock | None) -> tuple[Project, ...]:
        """As `Lock.projects` and `projects_without_lock`."""
        return lock.projects if lock else projects_without_lock(tree, folder)

    def version_of_tag(self, rule: TagRule, distance: TagDistance) -> str | None:
        """As the function of that name."""
        return version_of_tag(rule, distance)

    def resolve_system(
        self,
        requested: Sequence[str],
        files: Mapping[str, bytes],
        architecture: str,
        *,
        sources: Sequence[str],
        suite: str | None,
        is_trusted: bool,
        progress: Progress,
    ) -> tuple[tuple[str, ...], tuple[Artifact, ...]]:
        """As `resolve_system`."""
        from xmslurm_repro.lock.system import resolve_system  # noqa: PLC0415 (seldom needed)

        return resolve_system(
            requested,
            files,
            architecture,
            http=self.http,
            sources=sources,
            suite=suite,
            is_trusted=is_trusted,
            progress=progress,
        )

    def fetch(self, artifacts: Sequence[Artifact], *, progress: Progress) -> None:
        """As `fetch_artifacts`."""
        fetch_artifacts(
            artifacts,
            blobs=self.blobs,
            http=self.http,
            store=self.store,
            index_urls=self.index_urls,
            wheelhouses=self.wheelhouses,
            locate=locate_by_uv,
            logins=self.logins,
            progress=progress,
        )
