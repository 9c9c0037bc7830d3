"""Making experiments and finding them again."""

from __future__ import annotations

from xmanager.xm import core

from xmslurm_repro.errors import NotFoundError
from xmslurm_repro.model.run import Receipt, RunState
from xmslurm_repro.services.lookup import read_manifest
from xmslurm_repro.services.tools import Tools
from xmslurm_repro.xm.experiment import SlurmExperiment
from xmslurm_repro.xm.faults import ExperimentNotFoundError
from xmslurm_repro.xm.inside import (
    CurrentExperiment,
    CurrentWorkUnit,
    experiment_of,
    work_unit_of,
)
from xmslurm_repro.xm.session import Session, environment_session, process_environment
from xmslurm_repro.xm.submission import IDENTITY, newest_of
from xmslurm_repro.xm.units import SlurmWorkUnit


def create_experiment(
    experiment_title: str | None = None, *, session: Session | None = None
) -> SlurmExperiment:
    """
    Begin an experiment.

    Args:
        experiment_title: For people.
        session: ``None`` for the one that the environment and the configuration ask for.
    """
    return SlurmExperiment(experiment_title or "", session or environment_session())


def get_experiment(experiment_id: int, *, session: Session | None = None) -> SlurmExperiment:
    """
    Take up an experiment: look at its units, or add to it.

    Raises:
        ExperimentNotFoundError: If there is none of that number.
    """
    session = session or environment_session()
    probe = SlurmExperiment("", session, experiment_id)
    title, receipts, identities = probe.access.now(lambda tools: _read(tools, experiment_id))
    experiment = SlurmExperiment(title, session, experiment_id)
    experiment.restore(receipts, identities)
    return experiment


def get_current_experiment() -> SlurmExperiment | CurrentExperiment | None:
    """The experiment whose block this code runs in, or the one that this process is a job of."""
    current = core._current_experiment.get(None)  # noqa: SLF001 (XManager shows it nowhere else)
    if isinstance(current, SlurmExperiment):
        return current
    return experiment_of(process_environment())


def get_current_work_unit() -> SlurmWorkUnit | CurrentWorkUnit | None:
    """The work unit whose generator this code is, or the one that this process is a job of."""
    current = core._current_experiment_unit.get(None)  # noqa: SLF001 (likewise)
    if isinstance(current, SlurmWorkUnit):
        return current
    return work_unit_of(process_environment())


def _read(
    tools: Tools, experiment_id: int
) -> tuple[str, dict[int, tuple[Receipt, ...]], dict[int, str]]:
    try:
        row = tools.record.experiment(experiment_id)
    except NotFoundError as error:
        raise ExperimentNotFoundError(error.message, hint=error.hint) from error
    receipts: dict[int, list[Receipt]] = {}
    if row.manifest is not None:
        count = len(read_manifest(tools.store, row).units)
        receipts = {number: [] for number in range(1, count + 1)}
    for run in tools.record.runs(experiment_id=experiment_id):
        mine = receipts.setdefault(run.receipt.unit_number, [])
        # What was refused never ran; adding it again submits it.
        if run.receipt.job_id is None and run.state is RunState.CANCELLED:
            mine.clear()
        else:
            mine.append(run.receipt)
    identities = {
        note.unit_number: note.value
        for note in tools.record.annotations(experiment_id)
        if note.name == IDENTITY and isinstance(note.value, str)
    }
    newest = {number: newest_of(mine) for number, mine in receipts.items()}
    return row.title, newest, identities
