"""System packages beyond the base's, pinned: what is asked for, and the lock that answers it.

The lock is a file of the project, ``system-packages.lock``. A set in it holds for one base image,
by digest, since what is there already decides what has to come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from xmslurm_repro.model.canonical import Json, readable_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.model.reader import Reader

SYSTEM_LOCK = "system-packages.lock"
"""The name of the lock file."""

_FORMAT = "xmslurm-repro-system-packages"


def system_json(package: Artifact) -> dict[str, Json]:
    """A ``.deb`` as JSON, with the URL that it came from: no index finds it by its hash."""
    return {**package.to_json(), "url": package.url}


def system_artifact(reader: Reader) -> Artifact:
    """Read what `system_json` wrote."""
    url, size = reader.maybe("url"), reader.maybe("size")
    return replace(
        Artifact.from_json(reader),
        url=url.text() if url else None,
        size_bytes=size.integer() if size else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSet:
    """
    What a list of packages means on one base.

    Attributes:
        base: SHA-256 of the base's image manifest.
        base_reference: What it was called. For people.
        requested: ``NAME`` or ``NAME=VERSION``, sorted, no duplicates.
        sources: The archives that were asked, as sources.list(5) has them. For people.
        packages: The requested ones and all that they need beyond the base, sorted by name.
    """

    base: Digest
    base_reference: str
    requested: tuple[str, ...]
    sources: tuple[str, ...]
    packages: tuple[Artifact, ...]

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        return {
            "base": str(self.base),
            "base_reference": self.base_reference,
            "requested": list(self.requested),
            "sources": list(self.sources),
            "packages": [
                {**system_json(package), "size": package.size_bytes} for package in self.packages
            ],
        }

    @classmethod
    def from_json(cls, reader: Reader) -> SystemSet:
        """Read what `to_json` wrote."""
        packages = reader.field("packages").items()
        return cls(
            base=reader.field("base").digest(),
            base_reference=reader.field("base_reference").text(),
            requested=reader.field("requested").texts(),
            sources=reader.field("sources").texts(),
            packages=tuple(map(system_artifact, packages)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemLock:
    """The file: one set for each base and list."""

    sets: tuple[SystemSet, ...] = ()

    @classmethod
    def parse(cls, data: bytes, where: str) -> SystemLock:
        """
        Read the file; the inverse of `render`.

        Raises:
            FormatError: If it is no such file, or of a newer format.
        """
        reader = Reader.of_json(data, where)
        reader.format_version(_FORMAT, 1)
        return cls(sets=tuple(map(SystemSet.from_json, reader.field("sets").items())))

    def render(self) -> bytes:
        """Write the file, for people to read and to compare."""
        sets: list[Json] = [one.to_json() for one in self.sets]
        return f"{readable_json({'format': f'{_FORMAT}/1', 'sets': sets})}\n".encode()

    def find(self, base: Digest, requested: tuple[str, ...]) -> SystemSet | None:
        """The set for that base and list."""
        matching = (one for one in self.sets if (one.base, one.requested) == (base, requested))
        return next(matching, None)

    def with_set(self, new: SystemSet) -> SystemLock:
        """This with *new*, in place of what it held for the same base and list."""
        kept = (o for o in self.sets if (o.base, o.requested) != (new.base, new.requested))
        ordered = sorted((*kept, new), key=lambda one: (one.base, one.requested))
        return SystemLock(sets=tuple(ordered))


def normal_request(words: tuple[str, ...]) -> tuple[str, ...]:
    """A list of packages as sets have it: sorted, without duplicates."""
    return tuple(sorted(set(words)))
