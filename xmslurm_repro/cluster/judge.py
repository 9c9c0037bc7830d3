"""Where a run stands, from its own records and what the scheduler says. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xmslurm_repro.cluster.records import Attempt
from xmslurm_repro.cluster.scheduler import JobStatus
from xmslurm_repro.model.run import RunId, RunState
from xmslurm_repro.ports.cluster import Observation

_INTERRUPTED = frozenset({RunState.CANCELLED, RunState.TIMEOUT, RunState.PREEMPTED})
"""Ends after which the scheduler may start another attempt."""


def judge(
    attempts: Sequence[Attempt], status: JobStatus | None, *, trouble: str | None = None
) -> Observation:
    """
    Say where a run stands.

    Args:
        attempts: Its attempts, oldest first.
        status: The scheduler's line; ``None`` if it has none.
        trouble: Why the scheduler could not answer, if so: then no line means nothing.
    """
    outcomes = tuple(a.outcome for a in attempts if a.outcome is not None)
    last = attempts[-1].outcome if attempts else None
    active = status is not None and not status.state.is_final
    # A job that was cancelled is COMPLETING while its record is already there.
    again = active and status is not None and status.word != "COMPLETING"
    if last is not None and not (last.state in _INTERRUPTED and again):
        return Observation(state=last.state, reason=last.reason, outcomes=outcomes)
    state, reason = _without_record(bool(attempts), status, trouble)
    return Observation(state=state, reason=reason, outcomes=outcomes)


def _without_record(
    has_begun: bool, status: JobStatus | None, trouble: str | None
) -> tuple[RunState, str | None]:
    if status is None:
        if trouble is not None:
            return RunState.RUNNING if has_begun else RunState.PENDING, trouble
        return RunState.LOST, "the scheduler does not know it any more and it left no record"
    if status.state is RunState.COMPLETED:
        # A container that could not be started can end COMPLETED 0:0.
        return RunState.LOST, f"the scheduler says {status.word}, but it left no record"
    if status.state.is_final:
        return status.state, status.reason or "it was ended before it could leave a record"
    return status.state, status.reason


def best_statuses(statuses: Sequence[JobStatus]) -> Mapping[RunId, JobStatus]:
    """
    One line for each run. Of two jobs of one run, the one that still goes on, then the older:
    the younger is a duplicate that steps aside.
    """
    chosen: dict[RunId, JobStatus] = {}
    for status in sorted(statuses, key=lambda s: (s.state.is_final, _number(s.job_id))):
        chosen.setdefault(status.run_id, status)
    return chosen


def _number(job_id: str) -> int:
    return int(job_id.partition("_")[0])
