"""Where runs stand: ask their clusters, keep what they say, wait for the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from xmslurm_repro.errors import (
    ClusterError,
    ConnectionLostError,
    ReproError,
    SubmitUnknownError,
)
from xmslurm_repro.model.run import Outcome, RunId, RunState
from xmslurm_repro.ports.cluster import Observation
from xmslurm_repro.ports.record import RunRow
from xmslurm_repro.services.tools import Tools

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_LOOKS_BEFORE_LOST = 5
_PATIENCE_SECONDS = 600.0
_NOT_THE_LAST_WORD = frozenset({RunState.LOST, RunState.NODE_FAIL, RunState.PREEMPTED})


async def refresh(tools: Tools, runs: Sequence[RunRow]) -> list[RunRow]:
    """
    Ask the clusters about every run that may not have ended, and record what they say.

    One question for each cluster, however many runs.

    Returns:
        The runs as they now stand, in the order given.
    """
    asked: dict[str, dict[RunId, str]] = defaultdict(dict)
    for run in runs:
        if run.receipt.job_id is not None and _may_change(run.state):
            asked[run.receipt.cluster][run.receipt.run_id] = run.receipt.job_id
    seen: dict[RunId, Observation] = {}
    for cluster, questions in sorted(asked.items()):
        seen.update(await tools.site(cluster).cluster.observe(questions))
    for observation in seen.values():
        for outcome in observation.outcomes:
            tools.record.add_outcome(outcome)
    now = [_with_state(run, seen.get(run.receipt.run_id)) for run in runs]
    changed = [
        (after.receipt.run_id, after.state, after.reason)
        for before, after in zip(runs, now, strict=True)
        if (before.state, before.reason) != (after.state, after.reason)
        # A file system may be late in showing an end record. Only `wait` gives a run up.
        and after.state is not RunState.LOST
    ]
    if changed:
        tools.record.set_states(changed)
    return now


def _may_change(state: RunState) -> bool:
    """
    Whether asking again could bring news: also of runs whose node was lost. They may have been
    requeued since, or their record may have come to light.
    """
    return not state.is_final or state in _NOT_THE_LAST_WORD


def _with_state(run: RunRow, observation: Observation | None) -> RunRow:
    if observation is None:
        return run
    return RunRow(receipt=run.receipt, state=observation.state, reason=observation.reason)


async def refresh_unfinished(tools: Tools) -> list[ReproError]:
    """
    Ask about every run of every experiment that has not ended, cluster by cluster.

    Returns:
        What stood in the way, one error for each cluster that could not be asked.
    """
    by_cluster: dict[str, list[RunRow]] = defaultdict(list)
    for run in tools.record.runs():
        if not run.state.is_final and run.receipt.job_id is not None:
            by_cluster[run.receipt.cluster].append(run)
    troubles: list[ReproError] = []
    for _, runs in sorted(by_cluster.items()):
        try:
            await refresh(tools, runs)
        except ReproError as error:
            troubles.append(error)
    return troubles


async def wait(
    tools: Tools,
    runs: Sequence[RunRow],
    *,
    on_change: Callable[[Sequence[RunRow]], None] = lambda _: None,
    on_trouble: Callable[[ReproError], None] = lambda _: None,
) -> list[RunRow]:
    """
    Wait until every run has ended.

    A run that its cluster does not know any more is looked for a few more times before it
    counts as lost. A cluster that cannot be asked is asked again for ten minutes.

    Args:
        tools: The world.
        runs: What to wait for.
        on_change: Called whenever a state or its reason changes.
        on_trouble: Called when a cluster cannot be asked, before it is asked again.

    Raises:
        SubmitUnknownError: If a run was promised and it is not known whether it was submitted.
        ConnectionLostError: If a cluster could not be reached at first, or for ten minutes.
    """
    for run in runs:
        if run.receipt.job_id is None and not run.state.is_final:
            raise SubmitUnknownError(
                f"it is not known whether run {run.receipt.run_id} was submitted",
                hint=f"Run `xmslurm-repro status {run.receipt.experiment_id}` to find out.",
            )
    now, pause, lost_looks = list(runs), _FIRST_PAUSE_SECONDS, 0
    look = _PatientLook(tools, on_trouble)
    while True:
        before, now = now, await look.at(_lost_as_running(now))
        if [(run.state, run.reason) for run in before] != [(run.state, run.reason) for run in now]:
            on_change(now)
        if [run.state for run in before] != [run.state for run in now]:
            pause = _FIRST_PAUSE_SECONDS
        lost = [run for run in now if run.state is RunState.LOST]
        lost_looks = lost_looks + 1 if lost else 0
        others_ended = all(run.state.is_final for run in now)
        if others_ended and (not lost or lost_looks >= _LOOKS_BEFORE_LOST):
            tools.record.set_states([(run.receipt.run_id, run.state, run.reason) for run in lost])
            return now
        await tools.clock.sleep(pause)
        pause = min(pause * 1.3, _LONGEST_PAUSE_SECONDS)


class _PatientLook:
    """Asks clusters, and again where they do not answer: a laptop sleeps, a login node restarts."""

    def __init__(self, tools: Tools, on_trouble: Callable[[ReproError], None]) -> None:
        self._tools, self._on_trouble = tools, on_trouble
        self._has_seen = False

    async def at(self, runs: Sequence[RunRow]) -> list[RunRow]:
        """As `refresh`; what is wrong from the beginning is an error at once."""
        waited, pause = 0.0, 1.0
        while True:
            try:
                now = await refresh(self._tools, runs)
            except (ConnectionLostError, ClusterError) as error:
                if not self._has_seen or waited >= _PATIENCE_SECONDS:
                    raise
                self._on_trouble(error)
            else:
                self._has_seen = True
                return now
            await self._tools.clock.sleep(pause)
            waited, pause = waited + pause, min(pause * 2, 30.0)


def _lost_as_running(runs: Sequence[RunRow]) -> list[RunRow]:
    """Runs as they are to be asked about: those that seem lost are asked about again."""
    return [
        RunRow(receipt=run.receipt, state=RunState.RUNNING, reason=run.reason)
        if run.state is RunState.LOST
        else run
        for run in runs
    ]


def last_outcome(tools: Tools, run_id: RunId) -> Outcome | None:
    """What the newest attempt of a run left, if any ended."""
    outcomes = tools.record.outcomes(run_id)
    return outcomes[-1] if outcomes else None
