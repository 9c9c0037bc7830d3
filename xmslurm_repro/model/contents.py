"""What a distribution's package database says is in a base image."""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.reader import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPackage:
    """
    One installed package.

    Attributes:
        kind: ``deb`` or ``apk``.
        name: As the distribution says it.
        version: The same.
        architecture: The same, such as ``amd64`` or ``all``; empty where it does not say.
    """

    kind: str
    name: str
    version: str
    architecture: str = ""

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        return {
            "kind": self.kind,
            "name": self.name,
            "version": self.version,
            "architecture": self.architecture,
        }

    @classmethod
    def from_json(cls, reader: Reader) -> SystemPackage:
        """Read what `to_json` wrote."""
        return cls(
            kind=reader.field("kind").text(),
            name=reader.field("name").text(),
            version=reader.field("version").text(),
            architecture=reader.field("architecture").text(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """
    What is installed in an image.

    Attributes:
        distribution: ``ID`` of os-release(5), such as ``debian``; empty where there is none.
        release: ``VERSION_ID``, such as ``12``; empty where there is none.
        packages: By name, then architecture.
    """

    distribution: str
    release: str
    packages: tuple[SystemPackage, ...]

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        return {
            "distribution": self.distribution,
            "release": self.release,
            "packages": [package.to_json() for package in self.packages],
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Contents:
        """Read what `to_json` wrote."""
        packages = reader.field("packages").items()
        return cls(
            distribution=reader.field("distribution").text(),
            release=reader.field("release").text(),
            packages=tuple(map(SystemPackage.from_json, packages)),
        )
