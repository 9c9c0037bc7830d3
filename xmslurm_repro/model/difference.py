"""What differs between two things, as a tree; rendering is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.model.canonical import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """
    One place at which two things differ.

    Attributes:
        path: Where, from its parent: ``code``, ``train.py``, ``numpy``.
        left: What stands on the left, for people; ``None`` when there is nothing.
        right: Likewise on the right.
        note: More lines, such as a unified diff.
        children: What differs below it.
    """

    path: str
    left: str | None = None
    right: str | None = None
    note: str | None = None
    children: tuple[Difference, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON."""
        written: dict[str, Json] = {"path": self.path}
        for name in ("left", "right", "note"):
            if getattr(self, name) is not None:
                written[name] = getattr(self, name)
        if self.children:
            written["children"] = [child.to_json() for child in self.children]
        return written


def group(path: str, children: list[Difference], *, note: str | None = None) -> list[Difference]:
    """A parent for *children*, or nothing where there are none."""
    return [Difference(path=path, note=note, children=tuple(children))] if children else []


def compare_maps(left: dict[str, str], right: dict[str, str]) -> list[Difference]:
    """What differs between two maps from names to texts, sorted by name."""
    return [
        Difference(path=name, left=left.get(name), right=right.get(name))
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]
