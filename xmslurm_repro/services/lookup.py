"""From what people type to what is meant: ``41``, ``41/3``, ``41/2-5,9``, ``latest``, a digest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from xmslurm_repro.errors import NotFoundError, UsageError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.manifest import Manifest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.work import WorkUnit
from xmslurm_repro.ports.record import ExperimentRow, Record, RunRow
from xmslurm_repro.ports.store import ObjectStore

_MIN_PREFIX = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """
    An experiment, and those of its units that were named.

    Attributes:
        row: The experiment.
        unit_numbers: From 1; ``None`` means all of them.
    """

    row: ExperimentRow
    unit_numbers: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """As people type it."""
        if self.unit_numbers is None:
            return f"{self.row.id}"
        return f"{self.row.id}/{_as_ranges(self.unit_numbers)}"

    @property
    def unit_number(self) -> int | None:
        """
        The one unit that was named; ``None`` where none was.

        Raises:
            UsageError: If several were.
        """
        if self.unit_numbers is None:
            return None
        if len(self.unit_numbers) > 1:
            raise UsageError(
                f"{self.name} names several work units, and this takes one",
                hint=f"Name one of them, such as `{self.row.id}/{self.unit_numbers[0]}`.",
            )
        return self.unit_numbers[0]


def _as_ranges(numbers: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)


def select(record: Record, text: str) -> Selection:
    """
    Find what *text* names.

    Raises:
        UsageError: If it is of none of the forms.
        NotFoundError: If nothing, or more than one thing, goes by that name.
    """
    name, slash, units_text = text.partition("/")
    ranges = _ranges(units_text, text) if slash else []
    row = _find_experiment(record, name)
    if not slash:
        return Selection(row=row)
    known = sorted({run.receipt.unit_number for run in record.runs(experiment_id=row.id)})
    named = [number for number in known if any(a <= number <= b for a, b in ranges)]
    missing = [a for a, b in ranges if not any(a <= number <= b for number in named)]
    # Of a range, what there is will do; but its two ends have to be there.
    missing += [end for a, b in ranges for end in (a, b) if a != b and end not in named]
    if missing:
        raise NotFoundError(
            f"experiment {row.id} has no work unit {_as_ranges(sorted(set(missing)))}",
            hint=f"Run `xmslurm-repro status {row.id}` to see its work units.",
        )
    return Selection(row=row, unit_numbers=tuple(named))


def _ranges(units_text: str, text: str) -> list[tuple[int, int]]:
    """Read ``3``, ``2-5`` and lists of them."""
    ranges = []
    for part in units_text.split(","):
        found = re.fullmatch(r"([1-9][0-9]{0,8})(?:-([1-9][0-9]{0,8}))?", part)
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise UsageError(
                f"{text!r} does not name a work unit", hint="Write it like `41/3` or `41/2-5,9`."
            )
        ranges.append((int(found[1]), int(found[2] or found[1])))
    return ranges


def _find_experiment(record: Record, name: str) -> ExperimentRow:
    hint = "Run `xmslurm-repro list` to see all experiments."
    if name == "latest":
        rows = record.experiments()
        if not rows:
            raise NotFoundError("there are no experiments yet")
        return rows[-1]
    if name.isdigit() and len(name) < _MIN_PREFIX:
        return record.experiment(int(name))
    prefix = name.removeprefix("blake3:").lower()
    if len(prefix) < _MIN_PREFIX or not set(prefix) <= set("0123456789abcdef"):
        raise UsageError(
            f"{name!r} names no experiment",
            hint="Give its number, `latest`, or at least six digits of its manifest's digest.",
        )
    rows = [
        row for row in record.experiments() if row.manifest and row.manifest.hex.startswith(prefix)
    ]
    originals = [row for row in rows if row.replay_of is None]
    if len(rows) == 1 or len(originals) == 1:
        return (originals or rows)[0]
    if not rows and name.isdigit():
        return record.experiment(int(name))
    found = ", ".join(str(row.id) for row in rows)
    problem = f"{name!r} names several experiments: {found}" if rows else f"no experiment {name!r}"
    raise NotFoundError(problem, hint=hint)


def read_manifest(store: ObjectStore, row: ExperimentRow) -> Manifest:
    """
    The experiment's manifest.

    Raises:
        NotFoundError: If no unit was ever added to it.
        IntegrityError: If the store lost or damaged it.
    """
    if row.manifest is None:
        raise NotFoundError(f"experiment {row.id} is empty: nothing was launched in it")
    where = f"manifest {row.manifest}"
    return Manifest.from_json(Reader.of_json(store.get(row.manifest), where))


def read_unit(store: ObjectStore, digest: Digest) -> WorkUnit:
    """
    The work unit of that digest.

    Raises:
        IntegrityError: If the store lost or damaged it.
    """
    return WorkUnit.from_json(Reader.of_json(store.get(digest), f"work unit {digest}"))


def keep_manifest(store: ObjectStore, manifest: Manifest) -> Digest:
    """Put a manifest into the store; return its digest."""
    return store.put(canonical_json(manifest.to_json()))


def runs_of(record: Record, selection: Selection) -> list[RunRow]:
    """The runs of what is selected, by unit, then oldest first."""
    runs = record.runs(experiment_id=selection.row.id)
    numbers = None if selection.unit_numbers is None else set(selection.unit_numbers)
    wanted = [run for run in runs if numbers is None or run.receipt.unit_number in numbers]
    return sorted(wanted, key=lambda run: (run.receipt.unit_number, run.receipt.promised_at))
