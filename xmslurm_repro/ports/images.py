"""From a work tree to an image: capturing, resolving, building, publishing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xmslurm_repro.model.choice import Explanation
from xmslurm_repro.model.contents import Contents
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.dockerfile import BuildOptions
from xmslurm_repro.model.image import BaseImage, Descriptor, Image, Recipe
from xmslurm_repro.model.lock import Artifact, Lock, Target
from xmslurm_repro.model.project import Project
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.model.tags import TagDistance, TagRule
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """
    A branch that was made.

    Attributes:
        commit: Its commit's id.
        linked: Submodules that are links to their commits, by path.
        plain: Submodules and nested repositories that are folders of files, each with the reason.
    """

    commit: str
    linked: tuple[str, ...] = ()
    plain: tuple[tuple[str, str], ...] = ()


class Snapshotter(Protocol):
    """Captures work trees into the store and reads them back."""

    def find_work_tree(self, start: Path) -> Path:
        """
        The top folder of the work tree that holds *start*.

        Raises:
            NoRepositoryError: If it is in none.
        """
        ...

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
        """
        Capture the work tree that holds *start*. Never writes to it.

        Args:
            start: A folder.
            allow_unborn: Whether a repository without a commit will do.
            allow_no_repository: Whether a folder outside any repository will do.
            include: Patterns of what to capture whatever else is said, after the configured ones.
            exclude: Patterns of what to leave out, after the configured ones.
            progress: Told of bytes read.
        """
        ...

    def tree(self, root: Digest) -> Tree:
        """The captured tree of that root."""
        ...

    def identify(self, start: Path, snapshot: Snapshot) -> Snapshot:
        """
        Complete the origin of *snapshot*, captured from *start* just now: the id that git would
        give its tree, that of its commit's tree, and whether a remote has the commit.
        """
        ...

    def nearest_tags(self, start: Path, *, has_changes: bool) -> TagDistance | None:
        """What tag the commit in *start* comes after; ``None`` without a commit."""
        ...

    def explain(
        self,
        start: Path,
        path: Path,
        *,
        allow_no_repository: bool,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> Explanation:
        """
        Say why *path* (from *start*) would be captured or not. Captures nothing.

        Raises:
            UsageError: If it is outside the work tree.
        """
        ...

    def checkout(self, root: Digest, target: Path, *, progress: Progress) -> bool:
        """
        Let the folder *target* hold the tree of that root; whether anything was written.

        Raises:
            UsageError: If *target* holds anything else.
        """
        ...

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
        """
        Make a branch of the tree in the repository that holds *start*.

        *submodules* are paths with commits; each becomes a link where its files are exactly the
        commit's.

        Raises:
            UsageError: If there is such a branch, or *base* is no commit there.
        """
        ...


class BaseSource(Protocol):
    """Finds base images and brings them into the local store."""

    def resolve(
        self, reference: str, *, architecture: str | None = None, progress: Progress
    ) -> BaseImage:
        """
        Resolve *reference* once: a local name, a digest, a registry's tag, …

        Of an image for several architectures the part for *architecture* is taken, as OCI calls
        it, and what is found has to be for it; ``None``: amd64 where there is a choice.

        Raises:
            NoBaseImageError: If a local name names nothing.
            BaseUnreachableError: If it cannot be read from where it is said to be.
        """
        ...

    def bare_target(self, base: BaseImage, *, progress: Progress) -> Target:
        """
        What *base*, which has no Python, offers to packages that bring theirs.

        The Python of the answer is the empty text.

        Raises:
            ImageError: If its C library cannot be found.
        """
        ...

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
        """Make a base from Debian packages, for *architecture* or else this machine's; name it."""
        ...

    def add(self, *, name: str, reference: str, progress: Progress) -> BaseImage:
        """Resolve *reference* and call it *name* from now on."""
        ...

    def build(
        self,
        *,
        name: str,
        tree: Tree,
        folder: str,
        options: BuildOptions,
        progress: Progress,
    ) -> BaseImage:
        """
        Build a Dockerfile with the folder *folder* of *tree* as its context; call it *name*.

        Raises:
            BaseUnreachableError: If no engine can be reached.
            ImageError: If a step fails.
        """
        ...

    def contents(self, base: BaseImage, *, progress: Progress) -> Contents:
        """What the distribution's package database in *base* lists."""
        ...

    def files(self, base: BaseImage, pattern: str, *, progress: Progress) -> Mapping[str, bytes]:
        """The files of *base* whose path (from the root, without a slash) matches *pattern*."""
        ...

    def names(self) -> dict[str, Descriptor]:
        """Local bases by name, sorted."""
        ...


class LockSource(Protocol):
    """Reads dependency locks and fetches what they pin."""

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
        """
        The lock that is in force in *folder* of a captured tree; ``None`` if none is needed.

        *extras* and *groups* are taken beside the default dependencies. *with_sdists* lets a
        package without a wheel be a source distribution.
        """
        ...

    def build_tools(
        self, requires: Sequence[str], target: Target, where: str
    ) -> tuple[Artifact, ...]:
        """The wheels that *requires*, of the source distribution *where*, mean today."""
        ...

    def projects(self, tree: Tree, folder: str, lock: Lock | None) -> tuple[Project, ...]:
        """The local projects that *lock*, or without one *folder*, shows as installed."""
        ...

    def version_of_tag(self, rule: TagRule, distance: TagDistance) -> str | None:
        """The version that *rule* makes of *distance*; ``None`` if it makes none of it."""
        ...

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
        """
        The Debian packages that *requested* means on a base with *files*; nothing is fetched.

        Returns:
            The archives that were asked, and the packages by name.

        Raises:
            SystemPackagesError: If there are no such packages, or not together.
            FetchError: If the archives cannot be read, or are not signed.
        """
        ...

    def fetch(self, artifacts: Sequence[Artifact], *, progress: Progress) -> None:
        """Make sure that every wheel is in the local store, verified."""
        ...


class ImageBuilder(Protocol):
    """Assembles images."""

    def build(
        self, recipe: Recipe, base: BaseImage, tree: Tree | None, progress: Progress
    ) -> Image:
        """
        Assemble the image that *recipe* describes; the same recipe gives the same digests.

        Raises:
            ImageError: If the packages cannot be laid out.
        """
        ...

    def script_remarks(self, packages: Sequence[Artifact]) -> tuple[str, ...]:
        """Which of these Debian packages, all in the store, have scripts that are not run."""
        ...

    def remarks(self, recipe: Recipe) -> tuple[str, ...]:
        """What the packages of *recipe*, all in the store, bring that takes no effect."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelNeeds:
    """What a build backend wants to be there before it builds."""

    requires: tuple[str, ...]


class WheelBuilder(Protocol):
    """Builds source distributions into wheels, in an image."""

    def known(self, sdist: Artifact, image: Image, target: Target) -> Artifact | None:
        """The wheel that was built of *sdist* in *image* before, if it is still here."""
        ...

    def requires(self, sdist: Artifact) -> tuple[str, ...]:
        """What *sdist*, which is in the store, says that it needs to be built."""
        ...

    def build(
        self, sdist: Artifact, image: Image, target: Target, tools: Sequence[Artifact]
    ) -> Artifact | WheelNeeds:
        """
        Build *sdist* with *tools*, all in the store; or say what the backend wants as well.

        Raises:
            ImageError: If it fails; with what it printed.
            NoRuntimeError: If there is no sandbox here.
        """
        ...


class Publisher(Protocol):
    """Puts images into registries."""

    def publish(self, image: Image, repository: str, *, progress: Progress) -> int:
        """Push what the registry does not have; return the number of bytes moved."""
        ...
