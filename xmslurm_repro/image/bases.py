"""All base images that this machine knows or can reach, behind the port `BaseSource`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from xmslurm_repro.image.base import BASE_PREFIX, check_base_name, read_base, resolve_base
from xmslurm_repro.image.contents import read_contents
from xmslurm_repro.image.create import create_base
from xmslurm_repro.image.dockerfile import DockerBuild, build_dockerfile
from xmslurm_repro.image.inspect import inspect_bare
from xmslurm_repro.image.platforms import DEFAULT_ARCHITECTURE
from xmslurm_repro.image.rootfs import read_root
from xmslurm_repro.model.contents import Contents
from xmslurm_repro.model.dockerfile import BuildOptions
from xmslurm_repro.model.image import BaseImage, Descriptor
from xmslurm_repro.model.lock import Target
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore, Tree

Pull = Callable[[str, str, Progress], Descriptor]
"""Fetches all blobs that a registry's reference names, for an architecture; returns the image
manifest's (or the index's) descriptor."""


class Bases:
    """Finds base images and brings them into the local store."""

    def __init__(
        self,
        blobs: BlobStore,
        pull: Pull,
        *,
        work_dir: Path,
        cache_dir: Path | None,
        architecture: str | None = None,
        docker_host: str | None = None,
    ) -> None:
        """
        Keep bases in *blobs*.

        Args:
            blobs: Where bases are kept.
            pull: Fetches from registries.
            work_dir: For large temporary files.
            cache_dir: Remembers what bases offer.
            architecture: What bases have to be for, as OCI says it; ``None`` for anything, and
                amd64 where there is a choice.
            docker_host: URL of the Docker engine; ``None`` for the usual socket.
        """
        self._blobs = blobs
        self._pull = pull
        self._work_dir = work_dir
        self._cache_dir = cache_dir
        self._architecture = architecture
        self._docker_host = docker_host

    def resolve(
        self, reference: str, *, architecture: str | None = None, progress: Progress
    ) -> BaseImage:
        """Resolve *reference* once; see `image.base.resolve_base` for its forms and errors."""
        asked = architecture or self._architecture
        return resolve_base(
            reference,
            self._blobs,
            lambda wanted: self._pull(wanted, asked or DEFAULT_ARCHITECTURE, progress),
            work_dir=self._work_dir,
            cache_dir=self._cache_dir,
            architecture=asked,
            docker_host=self._docker_host,
            progress=progress,
        )

    def bare_target(self, base: BaseImage, *, progress: Progress) -> Target:
        """What *base*, which has no Python, offers; see `image.inspect.inspect_bare`."""
        return inspect_bare(
            self._blobs,
            manifest=base.manifest.digest,
            layers=base.layers,
            architecture=base.architecture,
            cache_dir=self._cache_dir,
            progress=progress,
        )

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
        """Make a base from Debian packages; see `image.create.create_base`."""
        manifest = create_base(
            name=name,
            suite=suite,
            packages=packages,
            architecture=architecture or self._architecture,
            mirror=mirror,
            blobs=self._blobs,
            work_dir=self._work_dir,
            progress=progress,
        )
        return self._read(name, manifest, progress)

    def _read(self, name: str, manifest: Descriptor, progress: Progress) -> BaseImage:
        return read_base(
            name,
            manifest,
            self._blobs,
            self._architecture or DEFAULT_ARCHITECTURE,
            cache_dir=self._cache_dir,
            progress=progress,
        )

    def add(self, *, name: str, reference: str, progress: Progress) -> BaseImage:
        """
        Resolve *reference* and call it *name* from now on.

        Raises:
            UsageError: If *name* could be taken for a registry's reference.
        """
        check_base_name(name)
        base = self.resolve(reference, progress=progress)
        self._blobs.set_ref(BASE_PREFIX + name, base.manifest)
        return base

    def build(
        self,
        *,
        name: str,
        tree: Tree,
        folder: str,
        options: BuildOptions,
        progress: Progress,
    ) -> BaseImage:
        """Build a Dockerfile by the Docker engine; see `image.dockerfile.build_dockerfile`."""
        manifest = build_dockerfile(
            name,
            DockerBuild(tree=tree, folder=folder, options=options),
            self._blobs,
            work_dir=self._work_dir,
            docker_host=self._docker_host,
            progress=progress,
        )
        return self._read(name, manifest, progress)

    def contents(self, base: BaseImage, *, progress: Progress) -> Contents:
        """See `image.contents.read_contents`."""
        return read_contents(base, self._blobs, self._cache_dir, progress)

    def files(self, base: BaseImage, pattern: str, *, progress: Progress) -> dict[str, bytes]:
        """The files of *base* whose path (from the root, without a slash) matches *pattern*."""
        wanted = re.compile(pattern)
        total = sum(layer.blob.size_bytes for layer in base.layers)
        task = progress.start("Reading base image", total=total)
        try:
            view = read_root(
                self._blobs, base.layers, lambda path: bool(wanted.fullmatch(path)), task
            )
        finally:
            task.finish()
        return dict(sorted(view.files.items()))

    def names(self) -> dict[str, Descriptor]:
        """Local bases by name, sorted."""
        return {
            name.removeprefix(BASE_PREFIX): found
            for name, found in self._blobs.refs().items()
            if name.startswith(BASE_PREFIX)
        }
