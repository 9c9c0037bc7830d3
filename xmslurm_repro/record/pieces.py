"""Pieces of the record as objects: what `record.db` can be made again from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from xmslurm_repro.model.canonical import Json, canonical_json
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.run import Outcome, Receipt, RunId, RunState
from xmslurm_repro.ports.record import Annotation, ExperimentRow, RunRow

FORMAT = "xmslurm-record"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRun:
    """
    A run as it stood.

    Attributes:
        row: Receipt and state.
        is_withdrawn: Whether its submission was refused, so that nobody looks for its job.
    """

    row: RunRow
    is_withdrawn: bool = False

    @property
    def rank(self) -> tuple[bool, bool]:
        """Of two pieces that speak of one run, the one of the higher rank is right."""
        return self.row.receipt.job_id is not None, self.row.state.is_final

    @property
    def essence(self) -> tuple[object, ...]:
        """What a cluster could not say again."""
        row = self.row
        ended = (row.state, row.reason) if row.state.is_final else None
        return row.receipt, ended, self.is_withdrawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """
    What was recorded of one experiment at one moment: a part, never a contradiction of others.

    Attributes:
        experiment: The experiment, as it was then. Its id and `created_at` name it.
        runs: Those that were touched.
        outcomes: Of these runs.
        annotations: Those that were made.
    """

    experiment: ExperimentRow
    runs: tuple[KeptRun, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    annotations: tuple[Annotation, ...] = ()

    def to_bytes(self) -> bytes:
        """The object: `to_json` in canonical form."""
        return canonical_json(self.to_json())

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        row = self.experiment
        return {
            "format": f"{FORMAT}/1",
            "experiment": {
                "id": row.id,
                "title": row.title,
                "manifest": str(row.manifest) if row.manifest else None,
                "created_at": row.created_at,
                "replay_of": row.replay_of,
            },
            "runs": [_run_to_json(run) for run in self.runs],
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
            "annotations": [
                {"unit_number": note.unit_number, "name": note.name, "value": note.value}
                for note in self.annotations
            ],
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Piece:
        """
        Read what `to_json` wrote.

        Raises:
            FormatError: If it is something else.
        """
        reader.format_version(FORMAT, newest=1)
        row = reader.field("experiment")
        manifest, replay_of = row.maybe("manifest"), row.maybe("replay_of")
        return cls(
            experiment=ExperimentRow(
                id=row.field("id").integer(),
                title=row.field("title").text(),
                manifest=manifest.digest() if manifest else None,
                created_at=row.field("created_at").text(),
                replay_of=replay_of.integer() if replay_of else None,
            ),
            runs=tuple(_run_from_json(run) for run in reader.field("runs").items()),
            outcomes=tuple(Outcome.from_json(item) for item in reader.field("outcomes").items()),
            annotations=tuple(
                Annotation(
                    unit_number=note.field("unit_number").integer(),
                    name=note.field("name").text(),
                    value=note.field("value").value,
                )
                for note in reader.field("annotations").items()
            ),
        )


def _run_to_json(run: KeptRun) -> Json:
    return {
        "receipt": run.row.receipt.to_json(),
        "state": run.row.state.value,
        "reason": run.row.reason,
        "withdrawn": run.is_withdrawn,
    }


def _run_from_json(reader: Reader) -> KeptRun:
    state, reason = reader.field("state"), reader.maybe("reason")
    try:
        known = RunState(state.text())
    except ValueError as error:
        raise state.fail("a run state") from error
    return KeptRun(
        row=RunRow(
            receipt=Receipt.from_json(reader.field("receipt")),
            state=known,
            reason=reason.text() if reason else None,
        ),
        is_withdrawn=reader.field("withdrawn").boolean(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """
    Everything that pieces say, put together.

    Attributes:
        experiments: By id, in order.
        runs: The oldest first.
        outcomes: Those of all runs.
        annotations: By experiment.
        renumbered: Experiments that had to be given another id, as old and new: two records
            had counted from 1.
    """

    experiments: tuple[ExperimentRow, ...]
    runs: tuple[KeptRun, ...]
    outcomes: tuple[Outcome, ...]
    annotations: tuple[tuple[int, Annotation], ...]
    renumbered: tuple[tuple[int, int], ...] = ()

    def says_as_much_as(self, other: Whole) -> bool:
        """Whether both say the same but for states that pass, and but for order."""
        return self._essence() == other._essence()

    def lacks(self, pieces: Whole) -> tuple[tuple[tuple[int, ...], str], ...]:
        """What *pieces* say and this does not, or says otherwise: experiments, and what."""
        experiments = {(row.id, row.created_at, row.title) for row in self.experiments}
        found: list[tuple[tuple[int, ...], str]] = [
            ((row.id,), f"experiment {row.id} is not what it was recorded as")
            for row in pieces.experiments
            if (row.id, row.created_at, row.title) not in experiments
        ]
        own = {run.row.receipt.run_id: _promised(run) for run in self.runs}
        for run in pieces.runs:
            receipt = run.row.receipt
            if own.get(receipt.run_id) != _promised(run):
                problem = f"run {receipt.run_id} is not what it was recorded as"
                found.append(((receipt.experiment_id,), problem))
        outcomes = set(self.outcomes)
        lost = [outcome for outcome in pieces.outcomes if outcome not in outcomes]
        found += [
            ((), f"an outcome of run {outcome.run_id} is not as recorded") for outcome in lost
        ]
        return tuple(found)

    def _essence(self) -> tuple[object, ...]:
        return (
            self.experiments,
            {run.row.receipt.run_id: run.essence for run in self.runs},
            {(outcome.run_id, outcome.attempt): outcome for outcome in self.outcomes},
            {
                (number, note.unit_number, note.name): note.value
                for number, note in self.annotations
            },
        )


def _promised(run: KeptRun) -> Receipt:
    return replace(run.row.receipt, job_id=None)


_Key = tuple[str, int]


def put_together(pieces: Iterable[Piece]) -> Whole:
    """
    The record that *pieces*, the oldest first, were taken of.

    Ids stay what they were. Where two experiments have one id, since a record was lost and a new
    one begun, the one that was begun later gets a fresh id.
    """
    experiments: dict[_Key, ExperimentRow] = {}
    runs: dict[RunId, tuple[_Key, KeptRun]] = {}
    outcomes: dict[tuple[RunId, str], Outcome] = {}
    notes: dict[tuple[_Key, int, str], Annotation] = {}
    for piece in pieces:
        row = piece.experiment
        key = (row.created_at, row.id)
        before = experiments.get(key, row).manifest
        experiments[key] = replace(row, manifest=row.manifest or before)
        for run in piece.runs:
            known = runs.get(run.row.receipt.run_id)
            if known is None or run.rank >= known[1].rank:
                runs[run.row.receipt.run_id] = key, run
        for outcome in piece.outcomes:
            outcomes[outcome.run_id, outcome.attempt] = outcome
        for note in piece.annotations:
            notes[key, note.unit_number, note.name] = note
    ids, renumbered = _ids(experiments)
    return Whole(
        experiments=tuple(
            sorted((replace(row, id=ids[key]) for key, row in experiments.items()), key=_id)
        ),
        runs=tuple(sorted((_with_id(run, ids[key]) for key, run in runs.values()), key=_age)),
        outcomes=tuple(o for (run_id, _), o in outcomes.items() if run_id in runs),
        annotations=tuple(
            (ids[key], note) for (key, _, _), note in notes.items() if note.value is not None
        ),
        renumbered=renumbered,
    )


def _age(run: KeptRun) -> tuple[str, int, int, int]:
    receipt = run.row.receipt
    return receipt.promised_at, receipt.experiment_id, receipt.unit_number, receipt.run_id.task


def _id(row: ExperimentRow) -> int:
    return row.id


def _with_id(run: KeptRun, experiment_id: int) -> KeptRun:
    receipt = replace(run.row.receipt, experiment_id=experiment_id)
    return replace(run, row=replace(run.row, receipt=receipt))


def _ids(keys: Iterable[_Key]) -> tuple[dict[_Key, int], tuple[tuple[int, int], ...]]:
    ids: dict[_Key, int] = {}
    taken: set[int] = set()
    later: list[_Key] = []
    for key in sorted(keys):
        if key[1] in taken:
            later.append(key)
            continue
        ids[key] = key[1]
        taken.add(key[1])
    for key in later:
        ids[key] = max(taken) + 1
        taken.add(ids[key])
    return ids, tuple((key[1], ids[key]) for key in later)
