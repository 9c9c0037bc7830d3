"""Status: where the runs of an experiment stand; and what there is at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from xmslurm_repro.errors import FormatError, IntegrityError
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.run import Outcome
from xmslurm_repro.ports.record import ExperimentRow, RunRow
from xmslurm_repro.services.lookup import Selection, read_manifest, read_unit, runs_of
from xmslurm_repro.services.observe import last_outcome, refresh
from xmslurm_repro.services.tools import Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run and what its newest attempt left, if that has ended."""

    run: RunRow
    outcome: Outcome | None

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON."""
        receipt = self.run.receipt
        return {
            "run": str(receipt.run_id),
            "experiment": receipt.experiment_id,
            "unit": receipt.unit_number,
            "member": receipt.member,
            "cluster": receipt.cluster,
            "job": receipt.job_id,
            "state": self.run.state.value,
            "reason": self.run.reason,
            "replay_of": str(receipt.replay_of) if receipt.replay_of else None,
            "outcome": self.outcome.to_json() if self.outcome else None,
        }


async def status(tools: Tools, selection: Selection) -> list[RunStatus]:
    """Every run of what is selected, as its cluster sees it now."""
    runs = await refresh(tools, runs_of(tools.record, selection))
    return with_outcomes(tools, runs)


def with_outcomes(tools: Tools, runs: Sequence[RunRow]) -> list[RunStatus]:
    """Put beside each run what its newest attempt left."""
    return [RunStatus(run=run, outcome=last_outcome(tools, run.receipt.run_id)) for run in runs]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSummary:
    """
    One line of `list`.

    Attributes:
        row: The experiment.
        states: How many runs were last seen in each state.
        command: Of its first unit, for people; ``None`` when it has none.
        trouble: Why its documents could not be read, if so.
    """

    row: ExperimentRow
    states: dict[str, int]
    command: tuple[str, ...] | None
    trouble: str | None = None

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON."""
        return {
            "id": self.row.id,
            "title": self.row.title,
            "manifest": str(self.row.manifest) if self.row.manifest else None,
            "created_at": self.row.created_at,
            "replay_of": self.row.replay_of,
            "states": dict(self.states),
            "command": list(self.command) if self.command else None,
            "trouble": self.trouble,
        }


def summaries(tools: Tools) -> list[ExperimentSummary]:
    """Every experiment as the record last saw it. Asks no cluster."""
    return [summary(tools, row) for row in tools.record.experiments()]


def summary(tools: Tools, row: ExperimentRow) -> ExperimentSummary:
    """One experiment as the record last saw it. Damage is said, and hides nothing else."""
    runs = tools.record.runs(experiment_id=row.id)
    counted = Counter(run.state.value for run in runs)
    command, trouble = None, None
    try:
        if row.manifest is not None and (units := read_manifest(tools.store, row).units):
            first = runs[0].receipt.unit if runs else units[0]
            command = read_unit(tools.store, first).jobs[0].argv
    except (IntegrityError, FormatError) as error:
        trouble = error.message
    return ExperimentSummary(
        row=row, states=dict(sorted(counted.items())), command=command, trouble=trouble
    )
