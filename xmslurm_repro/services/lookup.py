"""From what people type to what is meant: ``41``, ``41/3``, a digest prefix, ``latest``."""

from __future__ import annotations

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
    An experiment, and one of its units where one was named.

    Attributes:
        row: The experiment.
        unit_number: From 1; ``None`` means all of them.
    """

    row: ExperimentRow
    unit_number: int | None = None

    @property
    def name(self) -> str:
        """As people type it."""
        return f"{self.row.id}" if self.unit_number is None else f"{self.row.id}/{self.unit_number}"


def select(record: Record, text: str) -> Selection:
    """
    Find what *text* names.

    Raises:
        UsageError: If it is of none of the forms.
        NotFoundError: If nothing, or more than one thing, goes by that name.
    """
    name, slash, unit_text = text.partition("/")
    if slash and not (unit_text.isdigit() and int(unit_text) > 0):
        raise UsageError(f"{text!r} does not name a work unit", hint="Write it like `41/3`.")
    row = _find_experiment(record, name)
    if not slash:
        return Selection(row=row)
    unit_number = int(unit_text)
    known = sorted({run.receipt.unit_number for run in record.runs(experiment_id=row.id)})
    if unit_number not in known:
        raise NotFoundError(
            f"experiment {row.id} has no work unit {unit_number}",
            hint=f"Run `xmslurm-repro status {row.id}` to see its work units.",
        )
    return Selection(row=row, unit_number=unit_number)


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
    wanted = [run for run in runs if selection.unit_number in {None, run.receipt.unit_number}]
    return sorted(wanted, key=lambda run: (run.receipt.unit_number, run.receipt.promised_at))
