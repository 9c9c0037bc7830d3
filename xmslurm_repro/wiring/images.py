"""From settings to what captures, resolves, builds and publishes. Imported when first used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from xmslurm_repro import __version__
from xmslurm_repro.config import Settings
from xmslurm_repro.model.choice import Choice, Explanation
from xmslurm_repro.model.contents import Contents
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.dockerfile import BuildOptions
from xmslurm_repro.model.image import BaseImage, Descriptor, Image, Recipe
from xmslurm_repro.model.lock import Artifact, Lock, Target
from xmslurm_repro.model.project import Project
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.model.tags import TagDistance, TagRule
from xmslurm_repro.ports.images import Branch, WheelNeeds
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore, ObjectStore, Tree

if TYPE_CHECKING:
    from xmslurm_repro.image.bases import Bases
    from xmslurm_repro.image.build_wheel import WheelMaker
    from xmslurm_repro.image.registry import RegistryClient
    from xmslurm_repro.lock.source import Locks
    from xmslurm_repro.transport.http import Http


class Connections:
    """The doors to the network, opened when something is asked of it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def http(self) -> Http:
        """The door to HTTP."""
        from xmslurm_repro.transport.http import Http

        proxies, ca_file = self._settings.proxies, self._settings.registry.ca_file
        known = {"http": proxies.http, "https": proxies.https}
        return Http(
            proxies={scheme: url for scheme, url in known.items() if url},
            no_proxy=",".join(proxies.exceptions),
            ca_file=str(ca_file) if ca_file else None,
            user_agent=f"xmslurm-repro/{__version__}",
        )

    @cached_property
    def registry(self) -> RegistryClient:
        """The door to registries."""
        from xmslurm_repro.image.credentials import FileCredentials
        from xmslurm_repro.image.registry import RegistryClient

        configured = self._settings.registry
        return RegistryClient(
            self.http,
            FileCredentials(configured.auth_files),
            insecure_hosts=configured.insecure_hosts,
            notes_dir=self._settings.cache_dir / "registry",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """A `Snapshotter` over the local store."""

    store: ObjectStore
    cache_dir: Path
    git_environment: Mapping[str, str]
    choice: Choice

    def find_work_tree(self, start: Path) -> Path:
        """See `Snapshotter`."""
        from xmslurm_repro.snapshot import find_work_tree

        return find_work_tree(start)

    def capture(
        self,
        start: Path,
        *,
        allow_unborn: bool,
        allow_no_repository: bool,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        progress: Progress,
    ) -> Snapshot:
        """See `Snapshotter`."""
        from xmslurm_repro.snapshot import capture

        return capture(
            start,
            store=self.store,
            cache_dir=self.cache_dir,
            allow_unborn=allow_unborn,
            allow_no_repository=allow_no_repository,
            choice=self._choice(include, exclude),
            progress=progress,
            environment=self.git_environment,
            with_git_ids=True,
        )

    def _choice(self, include: Sequence[str], exclude: Sequence[str]) -> Choice:
        return replace(
            self.choice,
            include=(*self.choice.include, *include),
            exclude=(*self.choice.exclude, *exclude),
        )

    def tree(self, root: Digest) -> Tree:
        """See `Snapshotter`."""
        from xmslurm_repro.snapshot.tree import StoredTree

        return StoredTree(self.store, root)

    def identify(self, start: Path, snapshot: Snapshot) -> Snapshot:
        """See `Snapshotter`."""
        from xmslurm_repro.snapshot.identity import identify

        return identify(
            start,
            snapshot,
            store=self.store,
            cache_dir=self.cache_dir,
            environment=self.git_environment,
        )

    def nearest_tags(self, start: Path, *, has_changes: bool) -> TagDistance | None:
        """See `Snapshotter`."""
        from xmslurm_repro.snapshot.tags import nearest_tags

        return nearest_tags(start, has_changes=has_changes)

    def explain(
        self,
        start: Path,
        path: Path,
        *,
        allow_no_repository: bool,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> Explanation:
        """See `Snapshotter`."""
        from xmslurm_repro.snapshot.explain import explain

        return explain(
            start,
            path,
            choice=self._choice(include, exclude),
            cache_dir=self.cache_dir,
            environment=self.git_environment,
            allow_no_repository=allow_no_repository,
        )

    def checkout(self, root: Digest, target: Path, *, progress: Progress) -> bool:
        """See `Snapshotter`."""
        from xmslurm_repro.snapshot.checkout import checkout
        from xmslurm_repro.snapshot.tree import StoredTree

        return checkout(StoredTree(self.store, root), target, progress=progress)

    def make_branch(
        self,
        root: Digest,
        start: Path,
        name: str,
        *,
        base: str | None,
        message: str,
        time_s: int,
        submodules: Sequence[tuple[str, str]] = (),
    ) -> Branch:
        """See `Snapshotter`."""
        from xmslurm_repro.snapshot.branch import make_branch
        from xmslurm_repro.snapshot.tree import StoredTree

        tree = StoredTree(self.store, root)
        return make_branch(
            tree, start, name, base=base, message=message, time_s=time_s, submodules=submodules
        )


class LazyBases:
    """A `BaseSource` over the local store, registries, layouts and Docker engines."""

    def __init__(
        self,
        connections: Connections,
        *,
        blobs: BlobStore,
        cache_dir: Path,
        docker_host: str | None = None,
    ) -> None:
        self._connections, self._blobs, self._cache_dir = connections, blobs, cache_dir
        self._docker_host = docker_host

    @cached_property
    def _bases(self) -> Bases:
        from xmslurm_repro.image.bases import Bases

        def pull(reference: str, architecture: str, progress: Progress) -> Descriptor:
            return self._connections.registry.pull(
                reference, self._blobs, architecture=architecture, progress=progress
            )

        return Bases(
            self._blobs,
            pull,
            work_dir=self._cache_dir,
            cache_dir=self._cache_dir,
            docker_host=self._docker_host,
        )

    def resolve(
        self, reference: str, *, architecture: str | None = None, progress: Progress
    ) -> BaseImage:
        """See `BaseSource`."""
        return self._bases.resolve(reference, architecture=architecture, progress=progress)

    def bare_target(self, base: BaseImage, *, progress: Progress) -> Target:
        """See `BaseSource`."""
        return self._bases.bare_target(base, progress=progress)

    def create(
        self,
        *,
        name: str,
        suite: str,
        packages: Sequence[str],
        mirror: str | None,
        architecture: str | None = None,
        progress: Progress,
    ) -> BaseImage:
        """See `BaseSource`."""
        return self._bases.create(
            name=name,
            suite=suite,
            packages=packages,
            mirror=mirror,
            architecture=architecture,
            progress=progress,
        )

    def add(self, *, name: str, reference: str, progress: Progress) -> BaseImage:
        """See `BaseSource`."""
        return self._bases.add(name=name, reference=reference, progress=progress)

    def build(
        self,
        *,
        name: str,
        tree: Tree,
        folder: str,
        options: BuildOptions,
        progress: Progress,
    ) -> BaseImage:
        """See `BaseSource`."""
        return self._bases.build(
            name=name,
            tree=tree,
            folder=folder,
            options=options,
            progress=progress,
        )

    def contents(self, base: BaseImage, *, progress: Progress) -> Contents:
        """See `BaseSource`."""
        return self._bases.contents(base, progress=progress)

    def files(self, base: BaseImage, pattern: str, *, progress: Progress) -> Mapping[str, bytes]:
        """See `BaseSource`."""
        return self._bases.files(base, pattern, progress=progress)

    def names(self) -> dict[str, Descriptor]:
        """See `BaseSource`."""
        return self._bases.names()


class LazyLocks:
    """A `LockSource` whose libraries are imported when it is first asked."""

    def __init__(
        self,
        settings: Settings,
        connections: Connections,
        *,
        store: ObjectStore,
        blobs: BlobStore,
        cache_dir: Path,
    ) -> None:
        self._settings, self._connections = settings, connections
        self._store, self._blobs, self._cache_dir = store, blobs, cache_dir

    @cached_property
    def _locks(self) -> Locks:
        from xmslurm_repro.lock.logins import Logins, netrc_path
        from xmslurm_repro.lock.source import Locks

        environ = self._settings.environ
        return Locks(
            store=self._store,
            blobs=self._blobs,
            http=self._connections.http,
            cache_dir=self._cache_dir,
            index_urls=self._settings.index_urls,
            wheelhouses=self._settings.wheelhouses,
            logins=Logins(
                self._settings.index_urls,
                environ=environ,
                netrc_file=netrc_path(environ, self._settings.user_home),
            ),
        )

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
        """See `LockSource`."""
        return self._locks.resolve(
            tree,
            folder,
            lock_path=lock_path,
            target=target,
            extras=extras,
            groups=groups,
            with_sdists=with_sdists,
        )

    def build_tools(
        self, requires: Sequence[str], target: Target, where: str
    ) -> tuple[Artifact, ...]:
        """See `LockSource`."""
        return self._locks.build_tools(requires, target, where)

    def projects(self, tree: Tree, folder: str, lock: Lock | None) -> tuple[Project, ...]:
        """See `LockSource`."""
        return self._locks.projects(tree, folder, lock)

    def version_of_tag(self, rule: TagRule, distance: TagDistance) -> str | None:
        """See `LockSource`."""
        return self._locks.version_of_tag(rule, distance)

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
        """See `LockSource`."""
        return self._locks.resolve_system(
            requested,
            files,
            architecture,
            sources=sources,
            suite=suite,
            is_trusted=is_trusted,
            progress=progress,
        )

    def fetch(self, artifacts: Sequence[Artifact], *, progress: Progress) -> None:
        """See `LockSource`."""
        if all(self._blobs.has(artifact.sha256) for artifact in artifacts):
            return
        self._locks.fetch(artifacts, progress=progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class LazyBuilder:
    """
    An `ImageBuilder` whose code is imported when it is first asked.

    Attributes:
        blobs: Where wheels are and images go.
        cache_dir: Remembers which layer came of what; ``None`` builds every layer anew.
    """

    blobs: BlobStore
    cache_dir: Path | None

    def build(
        self, recipe: Recipe, base: BaseImage, tree: Tree | None, progress: Progress
    ) -> Image:
        """See `ImageBuilder`."""
        from xmslurm_repro.image.build import Builder

        return Builder(self.blobs, self.cache_dir).build(recipe, base, tree, progress)

    def script_remarks(self, packages: Sequence[Artifact]) -> tuple[str, ...]:
        """See `ImageBuilder`."""
        from xmslurm_repro.image.build import Builder

        return Builder(self.blobs, self.cache_dir).script_remarks(packages)

    def remarks(self, recipe: Recipe) -> tuple[str, ...]:
        """See `ImageBuilder`."""
        if recipe.conda_layout is None:
            return ()
        from xmslurm_repro.image.build import Builder

        return Builder(self.blobs, self.cache_dir).remarks(recipe)


class LazyWheels:
    """A `WheelBuilder` whose code is imported when it is first asked."""

    def __init__(self, blobs: BlobStore, cache_dir: Path) -> None:
        self._blobs, self._cache_dir = blobs, cache_dir

    @cached_property
    def _maker(self) -> WheelMaker:
        from xmslurm_repro.image.build_wheel import WheelMaker

        return WheelMaker(self._blobs, self._cache_dir)

    def known(self, sdist: Artifact, image: Image, target: Target) -> Artifact | None:
        """See `WheelBuilder`."""
        return self._maker.known(sdist, image, target)

    def requires(self, sdist: Artifact) -> tuple[str, ...]:
        """See `WheelBuilder`."""
        return self._maker.requires(sdist)

    def build(
        self, sdist: Artifact, image: Image, target: Target, tools: Sequence[Artifact]
    ) -> Artifact | WheelNeeds:
        """See `WheelBuilder`."""
        return self._maker.build(sdist, image, target, tools)


class LazyPublisher:
    """A `Publisher` whose client is imported when it is first asked."""

    def __init__(self, connections: Connections, *, blobs: BlobStore) -> None:
        self._connections, self._blobs = connections, blobs

    def publish(self, image: Image, repository: str, *, progress: Progress) -> int:
        """See `Publisher`."""
        from xmslurm_repro.image.registry_publisher import RegistryPublisher

        publisher = RegistryPublisher(client=self._connections.registry, blobs=self._blobs)
        return publisher.publish(image, repository, progress=progress)
