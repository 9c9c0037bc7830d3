"""The dependency lock and the artifacts that it pins for one platform."""

from __future__ import annotations

from dataclasses import dataclass, field

from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.project import Project
from xmslurm_repro.model.reader import Reader

MARKER_KEYS = (
    "implementation_name",
    "implementation_version",
    "os_name",
    "platform_machine",
    "platform_python_implementation",
    "platform_release",
    "platform_system",
    "platform_version",
    "python_full_version",
    "python_version",
    "sys_platform",
)
"""The eleven environment markers of PEP 508, less ``extra``. All are given, always: what is
missing would silently be filled in from the launching machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    The platform that packages are chosen for: the base image's, never the launching machine's.

    Attributes:
        architecture: As OCI says it: ``amd64`` or ``arm64``.
        libc: ``glibc`` or ``musl``, and its version, such as ``("glibc", 2, 36)``.
        python: Full version, such as ``3.11.2``.
        python_executable: Absolute path in the image, such as ``/usr/bin/python3.11``.
        source: Where the facts were found, for error messages.
    """

    architecture: str
    libc: tuple[str, int, int]
    python: str
    python_executable: str
    source: str

    @property
    def python_minor(self) -> str:
        """Such as ``3.11``."""
        return ".".join(self.python.split(".")[:2])

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        return {
            "architecture": self.architecture,
            "libc": f"{self.libc[0]}-{self.libc[1]}.{self.libc[2]}",
            "python": self.python,
            "python_executable": self.python_executable,
            "source": self.source,
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Target:
        """Read what `to_json` wrote."""
        libc = reader.field("libc")
        name, _, version = libc.text().partition("-")
        major, _, minor = version.partition(".")
        if not (major.isdecimal() and minor.isdecimal()):
            raise libc.fail("a C library such as glibc-2.36")
        return cls(
            architecture=reader.field("architecture").text(),
            libc=(name, int(major), int(minor)),
            python=reader.field("python").text(),
            python_executable=reader.field("python_executable").text(),
            source=reader.field("source").text(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """
    Of what a wheel was built here, because nobody offers it.

    Attributes:
        filename: The source distribution's.
        sha256: Of that file.
        tools: What was there to build it with, such as ``setuptools 80.9.0``; sorted.
    """

    filename: str
    sha256: Digest
    tools: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        return {
            "filename": self.filename,
            "sha256": str(self.sha256),
            "tools": list(self.tools),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Built:
        """Read what `to_json` wrote."""
        return cls(
            filename=reader.field("filename").text(),
            sha256=reader.field("sha256").digest(),
            tools=reader.field("tools").texts(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """
    One wheel or conda package that a lock pins.

    Attributes:
        name: Normalised project name; a conda package's own name.
        version: Its version, as the lock says it.
        filename: The file's name.
        sha256: Of the file.
        channel: The folder that a conda package is published in, such as
            ``https://conda.anaconda.org/conda-forge/linux-64``; ``None`` for a wheel. Part of what
            it is, because an environment's own record of its packages tells it.
        built: Of what a wheel was built that was not fetched; ``None`` for one that was.
        url: Where the lock says it is, or ``None``. No part of what it is, as `to_json` has it.
        size_bytes: Of the file, where the lock says so; the same.
    """

    name: str
    version: str
    filename: str
    sha256: Digest
    channel: str | None = None
    built: Built | None = None
    url: str | None = field(default=None, compare=False)
    size_bytes: int | None = field(default=None, compare=False)

    @property
    def is_conda(self) -> bool:
        """Whether it is a conda package and no wheel."""
        return self.channel is not None

    @property
    def is_deb(self) -> bool:
        """Whether it is a Debian package."""
        return self.filename.endswith(".deb")

    def to_json(self) -> dict[str, Json]:
        """Write what identifies it; where a wheel is to be had is no part of that."""
        document: dict[str, Json] = {
            "name": self.name,
            "version": self.version,
            "filename": self.filename,
            "sha256": str(self.sha256),
        }
        if self.channel is not None:
            document["channel"] = self.channel
        if self.built is not None:
            document["built"] = self.built.to_json()
        return document

    @classmethod
    def from_json(cls, reader: Reader) -> Artifact:
        """Read what `to_json` wrote."""
        channel, filename = reader.maybe("channel"), reader.field("filename").text()
        folder, built = channel.text() if channel else None, reader.maybe("built")
        return cls(
            name=reader.field("name").text(),
            version=reader.field("version").text(),
            filename=filename,
            sha256=reader.field("sha256").digest(),
            channel=folder,
            built=Built.from_json(built) if built else None,
            url=f"{folder}/{filename}" if folder else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """
    A lock file as read for one target.

    Attributes:
        digest: BLAKE3 of the file's bytes; the object is in the store.
        path: Its path from the snapshot's root.
        kind: ``uv.lock``, ``pylock.toml``, ``requirements.txt``, ``conda-lock.yml`` or
            ``pixi.lock``.
        artifacts: What it pins for the target, sorted by name.
        sources: Folders of the snapshot that hold importable code of local packages which the
            lock names (workspace members, path dependencies), such as ``packages/a/src``; without
            ``src`` and the root itself, which are on the path anyway. Sorted.
        extras: Optional dependencies that were asked for beside the default ones. Sorted.
        groups: Dependency groups that were asked for beside the default ones. Sorted.
        projects: Local projects that it installs. Not written here: an image's recipe has them.
        target: What its packages run on where that is not the base's Python but one that the
            lock itself brings; the same.
        sdists: Source distributions that have yet to be built into wheels; the same.
    """

    digest: Digest
    path: str
    kind: str
    artifacts: tuple[Artifact, ...]
    sources: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    projects: tuple[Project, ...] = field(default=(), compare=False)
    target: Target | None = field(default=None, compare=False)
    sdists: tuple[Artifact, ...] = field(default=(), compare=False)

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        document: dict[str, Json] = {
            "digest": str(self.digest),
            "path": self.path,
            "kind": self.kind,
            "artifacts": [artifact.to_json() for artifact in self.artifacts],
            "sources": list(self.sources),
        }
        # Only where there are any: locks from before these members keep their bytes.
        for name, chosen in (("extras", self.extras), ("groups", self.groups)):
            if chosen:
                document[name] = list(chosen)
        return document

    @classmethod
    def from_json(cls, reader: Reader) -> Lock:
        """Read what `to_json` wrote."""
        sources, extras, groups = map(reader.maybe, ("sources", "extras", "groups"))
        return cls(
            digest=reader.field("digest").digest(),
            path=reader.field("path").text(),
            kind=reader.field("kind").text(),
            artifacts=tuple(Artifact.from_json(item) for item in reader.field("artifacts").items()),
            sources=sources.texts() if sources else (),
            extras=extras.texts() if extras else (),
            groups=groups.texts() if groups else (),
        )
