"""Where a run stands, from its own records and what the scheduler says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xmslurm_repro.cluster.records import Attempt
from xmslurm_repro.cluster.scheduler import JobStatus
from xmslurm_repro.model.run import Outcome, RunId, RunState
from xmslurm_repro.ports.cluster import Observation

_INTERRUPTED = frozenset({RunState.CANCELLED, RunState.TIMEOUT, RunState.PREEMPTED})
"""Ends after which the scheduler may start another attempt."""


def judge(
    attempts: Sequence[Attempt],
    status: JobStatus | None,
    *,
    trouble: str | None = None,
    was_cancelled: bool = False,
) -> Observation:
    """
    Say where a run stands.

    Args:
        attempts: Its attempts, oldest first.
        status: The scheduler's line; ``None`` if it has none.
        trouble: Why the scheduler could not answer, if so: then no line means nothing.
        was_cancelled: Whether we asked the scheduler to cancel it. Slurm forgets tasks that
            never began.
    """
    outcomes = tuple(a.outcome for a in attempts if a.outcome is not None)
    last = attempts[-1].outcome if attempts else None
    if last is not None and not _starts_again(last, status):
        return Observation(state=last.state, reason=last.reason, outcomes=outcomes)
    if status is None and was_cancelled:
        return Observation(state=RunState.CANCELLED, outcomes=outcomes)
    state, reason = _without_record(bool(attempts), status, trouble)
    return Observation(state=state, reason=reason, outcomes=outcomes)


def _starts_again(last: Outcome, status: JobStatus | None) -> bool:
    if status is None or status.state.is_final or last.state not in _INTERRUPTED:
        return False
    # A job that was cancelled is COMPLETING for a moment while its record is already there; so
    # is one that was requeued.
    return status.word != "COMPLETING" or last.state is RunState.PREEMPTED


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


class Statuses:
    """
    What a scheduler says, by run. Of two jobs of one run it is the one that still goes on, then
    the older: the younger is a duplicate that steps aside.
    """

    def __init__(self, statuses: Iterable[JobStatus]) -> None:
        self._lines: dict[tuple[str, int | None], JobStatus] = {}
        for status in sorted(statuses, key=lambda s: (s.state.is_final, _number(s.job_id))):
            self._lines.setdefault((status.token, status.task), status)

    def of(self, run_id: RunId) -> JobStatus | None:
        """The line of a run, or of the rest of its array."""
        own = self._lines.get((run_id.token, run_id.task))
        return own or self._lines.get((run_id.token, None))


def _number(job_id: str) -> int:
    return int(job_id.partition("_")[0].partition("+")[0])
