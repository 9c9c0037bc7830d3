"""A project whose code is in the snapshot and that an image shows as an installed package."""

from __future__ import annotations

from dataclasses import dataclass, field

from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.tags import TagRule

UNKNOWN_VERSION = "0+unknown"
"""For a project whose version only its build backend can compute, which we do not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPoint:
    """One entry point: ``name = value`` in *group*, such as ``console_scripts``."""

    group: str
    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """
    What ``uv sync`` would install of a local project, beside its dependencies.

    Attributes:
        name: As its ``pyproject.toml`` says it.
        version: The same, or `UNKNOWN_VERSION`.
        sources: Folders of the snapshot that its modules are imported from, in this order; the
            empty text is the root.
        entry_points: By group, then name.
        rule: How its version follows from a tag, while that is `UNKNOWN_VERSION`. Not written.
        generated: A file that its build backend would write with the version, and that the
            snapshot has not. Not written.
    """

    name: str
    version: str
    sources: tuple[str, ...]
    entry_points: tuple[EntryPoint, ...] = ()
    rule: TagRule | None = field(default=None, compare=False)
    generated: str | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        groups: dict[str, dict[str, Json]] = {}
        for point in self.entry_points:
            groups.setdefault(point.group, {})[point.name] = point.value
        return {
            "name": self.name,
            "version": self.version,
            "sources": list(self.sources),
            "entry_points": dict(groups.items()),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Project:
        """Read what `to_json` wrote."""
        points = (
            EntryPoint(group=group, name=name, value=value)
            for group, table in reader.field("entry_points").members()
            for name, value in table.text_map().items()
        )
        return cls(
            name=reader.field("name").text(),
            version=reader.field("version").text(),
            sources=reader.field("sources").texts(),
            entry_points=tuple(points),
        )
