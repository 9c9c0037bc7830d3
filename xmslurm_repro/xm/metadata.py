"""Notes that people attach to experiments and units. They decide nothing about a run."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSet

from xmanager import xm

from xmslurm_repro.model.canonical import Json
from xmslurm_repro.xm.access import Access

_ARTIFACT = "artifact:"


class Notes:
    """The notes of one experiment, or of one of its units, in the record."""

    def __init__(
        self, access: Access, experiment_id: Callable[[], int], unit_number: int = 0
    ) -> None:
        """Keep them for the unit of that number; 0 is the experiment itself."""
        self._access = access
        self._experiment_id = experiment_id
        self._unit_number = unit_number

    def all(self) -> dict[str, Json]:
        """Every note by its name."""
        experiment_id = self._experiment_id()
        rows = self._access.now(lambda tools: tools.record.annotations(experiment_id))
        return {row.name: row.value for row in rows if row.unit_number == self._unit_number}

    def set(self, name: str, value: Json) -> None:
        """Keep a note, in place of the one of that name; ``None`` removes it."""
        experiment_id = self._experiment_id()
        self._access.now(
            lambda tools: tools.record.annotate(experiment_id, self._unit_number, name, value)
        )

    def text(self, name: str) -> str:
        """A note that is text; empty where there is none."""
        value = self.all().get(name)
        return value if isinstance(value, str) else ""


class Tags(MutableSet[str]):
    """Tags, in the order in which they were added; a tag may hold any character."""

    def __init__(self, notes: Notes) -> None:
        """Keep them in *notes*."""
        self._notes = notes

    def _read(self) -> list[str]:
        kept = self._notes.all().get("tags")
        return [tag for tag in kept if isinstance(tag, str)] if isinstance(kept, list) else []

    def replace(self, tags: Iterable[str]) -> None:
        """Let these be all the tags."""
        fresh: list[Json] = list(dict.fromkeys(tags))
        self._notes.set("tags", fresh or None)

    def add(self, value: str) -> None:
        """Add a tag."""
        self.replace([*self._read(), value])

    def discard(self, value: str) -> None:
        """Take a tag away, if it is there."""
        self.replace(tag for tag in self._read() if tag != value)

    def __contains__(self, value: object) -> bool:
        """Whether it is there."""
        return value in self._read()

    def __iter__(self) -> Iterator[str]:
        """Oldest first."""
        return iter(self._read())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._read())

    def __repr__(self) -> str:
        """As a list."""
        return f"Tags({self._read()!r})"


class Artifacts(MutableMapping[str, str]):
    """Where things are that belong to an experiment or a unit: a URI by name."""

    def __init__(self, notes: Notes) -> None:
        """Keep them in *notes*."""
        self._notes = notes

    def _read(self) -> dict[str, str]:
        return {
            name.removeprefix(_ARTIFACT): uri
            for name, uri in self._notes.all().items()
            if name.startswith(_ARTIFACT) and isinstance(uri, str)
        }

    def add(self, name: str, uri: str) -> None:
        """Say where *name* is."""
        self._notes.set(_ARTIFACT + name, uri)

    def remove(self, name: str) -> None:
        """Forget *name*."""
        del self[name]

    def __setitem__(self, name: str, uri: str) -> None:
        """Say where *name* is."""
        self.add(name, uri)

    def __getitem__(self, name: str) -> str:
        """Where *name* is."""
        return self._read()[name]

    def __delitem__(self, name: str) -> None:
        """Forget *name*."""
        self._read()[name]
        self._notes.set(_ARTIFACT + name, None)

    def __iter__(self) -> Iterator[str]:
        """By name."""
        return iter(self._read())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._read())

    def __repr__(self) -> str:
        """As a mapping."""
        return f"Artifacts({self._read()!r})"


class Annotations(xm.ContextAnnotations):  # type: ignore[misc]
    """What people say about an experiment."""

    def __init__(self, notes: Notes, title: Callable[[], str]) -> None:
        """Keep it in *notes*."""
        self._notes = notes
        self._title = title
        self._tags = Tags(notes)

    @property
    def title(self) -> str:
        """The title; the one that it was made with as long as no other was set."""
        return self._notes.text("title") or self._title()

    @title.setter
    def title(self, value: str) -> None:
        self._notes.set("title", value or None)

    def set_title(self, title: str) -> None:
        """Set the title that is shown. The manifest keeps the one it was made with."""
        self.title = title

    @property
    def description(self) -> str:
        """A longer text."""
        return self._notes.text("description")

    @description.setter
    def description(self, value: str) -> None:
        self._notes.set("description", value or None)

    @property
    def note(self) -> str:
        """A remark."""
        return self._notes.text("note")

    @note.setter
    def note(self, value: str) -> None:
        self._notes.set("note", value or None)

    @property
    def tags(self) -> Tags:
        """Its tags."""
        return self._tags

    @tags.setter
    def tags(self, value: Iterable[str]) -> None:
        self._tags.replace(value)


class ExperimentContext(xm.MetadataContext):  # type: ignore[misc]
    """
    What belongs to an experiment without deciding anything.

    Attributes:
        artifacts: Where things are, by name.
    """

    def __init__(self, notes: Notes, title: Callable[[], str]) -> None:
        """Keep it in *notes*."""
        super().__init__(creator=getpass.getuser(), annotations=Annotations(notes, title))
        self.artifacts = Artifacts(notes)
        self._notes = notes

    @property
    def graphviz_config(self) -> str | None:
        """A picture of the experiment in DOT, if somebody set one."""
        return self._notes.text("graphviz_config") or None

    @graphviz_config.setter
    def graphviz_config(self, config: str | None) -> None:
        self._notes.set("graphviz_config", config or None)

    @graphviz_config.deleter
    def graphviz_config(self) -> None:
        self._notes.set("graphviz_config", None)

    @property
    def python_config(self) -> str | None:
        """The experiment's configuration as Python, if somebody set it."""
        return self._notes.text("python_config") or None

    @python_config.setter
    def python_config(self, config: str | None) -> None:
        self._notes.set("python_config", config or None)

    @python_config.deleter
    def python_config(self) -> None:
        self._notes.set("python_config", None)


class UnitContext(xm.MetadataContext):  # type: ignore[misc]
    """
    What belongs to a unit without deciding anything.

    Attributes:
        artifacts: Where things are, by name.
    """

    def __init__(self, notes: Notes) -> None:
        """Keep it in *notes*."""
        super().__init__(creator=getpass.getuser(), annotations=xm.ContextAnnotations())
        self.artifacts = Artifacts(notes)
