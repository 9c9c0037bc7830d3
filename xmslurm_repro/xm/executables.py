"""What is packaged, and what comes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from xmanager import xm

from xmslurm_repro.image.registry_reference import Reference
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.services.prepare import Prepared
from xmslurm_repro.xm.faults import ArgumentError


@dataclass(frozen=True, kw_only=True)
class PythonProject(xm.ExecutableSpec):  # type: ignore[misc]
    """
    A folder of Python code with a lock file.

    Attributes:
        context: The folder in which the command starts.
        entrypoint: The words of the command before its arguments.
        lock: The lock file's path from the folder; ``None`` to look for one.
        base_image: ``None`` for the configured one.
        allow_no_repository: Whether the folder may be outside any git repository.
        system_packages: Debian packages, as `base lock` pinned them; none for the configured ones.
    """

    context: Path
    entrypoint: tuple[str, ...]
    lock: str | None = None
    base_image: str | None = None
    allow_no_repository: bool = False
    system_packages: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name, as a word."""
        return as_name(self.context.name)


@dataclass(frozen=True, kw_only=True)
class DockerImage(xm.ExecutableSpec):  # type: ignore[misc]
    """
    An image that somebody else built, with all of its code in it.

    Attributes:
        image: Its reference; a tag is resolved to a digest when it is packaged.
        workdir: Where the command starts; ``None`` for where the image says.
    """

    image: str
    workdir: Path | None = None

    @property
    def name(self) -> str:
        """The last part of the reference, as a word."""
        return as_name(re.sub(r"[@:].*", "", self.image.rsplit("/", 1)[-1]))


@dataclass(frozen=True, kw_only=True)
class Dockerfile(xm.ExecutableSpec):  # type: ignore[misc]
    """
    A Dockerfile, built by a container engine with a snapshot of its context.

    Attributes:
        dockerfile: The file, in the context.
        context: The folder.
        target: The stage to build; ``None`` for the last one.
        ssh: Must be empty: builders without BuildKit have no agent.
        build_args: Values of ``ARG``.
        cache_from: Images whose layers may be taken for steps.
        labels: Of the image.
        platforms: One at most: that of the engine.
        allow_no_repository: Whether the context may be outside any git repository.
    """

    dockerfile: Path
    context: Path
    target: str | None = None
    ssh: Sequence[str] = field(default_factory=list)
    build_args: Mapping[str, str] = field(default_factory=dict)
    cache_from: Sequence[str] = field(default_factory=list)
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: Sequence[str] = field(default_factory=lambda: ["linux/amd64"])
    allow_no_repository: bool = False

    @property
    def name(self) -> str:
        """The context's name, as a word."""
        return as_name(Path(self.context).name)


class PackagedImage(xm.Executable):  # type: ignore[misc]
    """
    An image with a command.

    Attributes:
        prepared: The image and what it was built from.
        entrypoint: The words of the command before its arguments.
        default_arguments: Words that follow where a job gives no arguments of its own.
        args: Arguments of every job; a job's own come after them or take their place.
        env_vars: Variables of every job.
    """

    def __init__(
        self,
        *,
        name: str,
        prepared: Prepared,
        entrypoint: tuple[str, ...],
        default_arguments: tuple[str, ...] = (),
        args: xm.SequentialArgs,
        env_vars: Mapping[str, Any],
    ) -> None:
        """Put them together."""
        super().__init__(name=name)
        self.prepared = prepared
        self.entrypoint = entrypoint
        self.default_arguments = default_arguments
        self.args = args
        self.env_vars = dict(env_vars)


def as_name(text: str) -> str:
    """*text* as a word that jobs and files can be called by."""
    return re.sub(r"\W+", "_", text).strip("_") or "job"


RemoteImage = PackagedImage
"""What ``xm_slurm`` calls what packaging returns."""


class RemoteRepositoryCredentials(NamedTuple):
    """A user name and a password. Registries are given those of the usual credentials files."""

    username: str
    password: str


class ImageURI:
    """
    A reference to an image, read by Docker's rules: ``python:3.11`` is
    ``docker.io/library/python:3.11``.
    """

    def __init__(self, image: str) -> None:
        """
        Read *image*.

        Raises:
            ArgumentError: If it is no reference.
        """
        self.scheme = "docker" if image.startswith("docker://") else None
        try:
            self._reference = Reference.parse(image)
        except ValueError as error:
            raise ArgumentError(str(error)) from error

    @property
    def domain(self) -> str:
        """The registry's host, with its port where it has one."""
        return self._reference.registry

    @property
    def path(self) -> str:
        """The repository in the registry."""
        return self._reference.repository

    @property
    def tag(self) -> str | None:
        """The tag, if there is one."""
        return self._reference.tag

    @property
    def digest(self) -> str | None:
        """The digest, if there is one."""
        return str(self._reference.digest) if self._reference.digest else None

    @property
    def locator(self) -> str:
        """The whole but for the scheme; where there is a digest, without the tag."""
        has_digest = self._reference.digest is not None
        return str(replace(self._reference, tag=None) if has_digest else self._reference)

    @property
    def url(self) -> str:
        """The locator, after the scheme where there is one."""
        return f"{self.scheme}://{self.locator}" if self.scheme else self.locator

    @property
    def origin(self) -> str:
        """Registry and repository."""
        return f"{self.domain}/{self.path}"

    def with_tag(self, tag: str) -> ImageURI:
        """The same repository at a tag."""
        return ImageURI(str(replace(self._reference, tag=tag, digest=None)))

    def with_digest(self, digest: str) -> ImageURI:
        """The same repository at a digest."""
        return ImageURI(str(replace(self._reference, digest=Digest.parse(digest))))

    def __str__(self) -> str:
        """The URL."""
        return self.url

    def __eq__(self, other: object) -> bool:
        """Whether both are the same, however they were written."""
        return isinstance(other, ImageURI) and self.url == other.url

    def __hash__(self) -> int:
        """By the URL."""
        return hash(self.url)
