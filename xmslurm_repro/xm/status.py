"""Where a unit stands, in XManager's words."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from xmanager import xm

from xmslurm_repro.model.run import RunState
from xmslurm_repro.xm.faults import ArgumentError


class SlurmJobState(enum.Enum):
    """States of jobs (squeue(1), "JOB STATE CODES")."""

    BOOT_FAIL = "BOOT_FAIL"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    DEADLINE = "DEADLINE"
    FAILED = "FAILED"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PENDING = "PENDING"
    PREEMPTED = "PREEMPTED"
    RUNNING = "RUNNING"
    REQUEUED = "REQUEUED"
    RESIZING = "RESIZING"
    REVOKED = "REVOKED"
    SUSPENDED = "SUSPENDED"
    TIMEOUT = "TIMEOUT"

    @property
    def message(self) -> str:
        """For people."""
        return self.value.lower().replace("_", " ")

    @classmethod
    def from_str(cls, state: str) -> SlurmJobState:
        """
        Read a state's name.

        Raises:
            ArgumentError: If there is none of that name.
        """
        try:
            return cls(state.strip().upper())
        except ValueError:
            raise ArgumentError(f"{state!r} is no state of a job") from None

    @classmethod
    def from_slurm_str(cls, state: str) -> SlurmJobState:
        """
        Read a state as Slurm prints it: ``CANCELLED by 2001``, ``CANCELLED+``.

        Raises:
            ArgumentError: If it is none.
        """
        first, *_ = state.split() or [""]
        return cls.from_str(first.rstrip("+"))

    @classmethod
    def from_run_state(cls, state: RunState) -> SlurmJobState:
        """The state of a job whose run the record has in that state."""
        return _JOB_STATES.get(state, cls.FAILED)

    def __str__(self) -> str:
        """Its name."""
        return self.value


_JOB_STATES = {
    RunState.PROMISED: SlurmJobState.PENDING,
    RunState.PENDING: SlurmJobState.PENDING,
    RunState.RUNNING: SlurmJobState.RUNNING,
    RunState.COMPLETED: SlurmJobState.COMPLETED,
    RunState.CANCELLED: SlurmJobState.CANCELLED,
    RunState.TIMEOUT: SlurmJobState.TIMEOUT,
    RunState.OUT_OF_MEMORY: SlurmJobState.OUT_OF_MEMORY,
    RunState.NODE_FAIL: SlurmJobState.NODE_FAIL,
    RunState.PREEMPTED: SlurmJobState.PREEMPTED,
}
"""Every other state is a failure."""

SlurmPendingJobStates = frozenset(
    {SlurmJobState.PENDING, SlurmJobState.REQUEUED, SlurmJobState.RESIZING}
)
SlurmRunningJobStates = frozenset({SlurmJobState.RUNNING, SlurmJobState.SUSPENDED})
SlurmActiveJobStates = SlurmPendingJobStates | SlurmRunningJobStates
SlurmCompletedJobStates = frozenset({SlurmJobState.COMPLETED})
SlurmCancelledJobStates = frozenset({SlurmJobState.CANCELLED})
SlurmFailedJobStates = frozenset(
    set(SlurmJobState) - SlurmActiveJobStates - SlurmCompletedJobStates - SlurmCancelledJobStates
)


class SlurmWorkUnitStatusEnum(enum.IntEnum):
    """Where a unit stands."""

    PENDING = 0
    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    CANCELLED = 4

    @classmethod
    def from_job_state(cls, state: SlurmJobState) -> SlurmWorkUnitStatusEnum:
        """Where a unit with a job in that state stands."""
        for states, meaning in (
            (SlurmPendingJobStates, cls.PENDING),
            (SlurmRunningJobStates, cls.RUNNING),
            (SlurmCompletedJobStates, cls.COMPLETED),
            (SlurmCancelledJobStates, cls.CANCELLED),
        ):
            if state in states:
                return meaning
        return cls.FAILED


_WORST_FIRST = (
    SlurmWorkUnitStatusEnum.FAILED,
    SlurmWorkUnitStatusEnum.CANCELLED,
    SlurmWorkUnitStatusEnum.RUNNING,
    SlurmWorkUnitStatusEnum.PENDING,
    SlurmWorkUnitStatusEnum.COMPLETED,
)


class SlurmWorkUnitStatus(xm.ExperimentUnitStatus):  # type: ignore[misc]
    """
    Where a unit stands.

    Attributes:
        state: As the record has it; ``None`` for a unit without any job.
        status: The same, coarser.
    """

    def __init__(
        self, state: RunState | SlurmJobState | None = None, reason: str | None = None
    ) -> None:
        """Take a state and its reason."""
        self.state = state
        job_state = SlurmJobState.from_run_state(state) if isinstance(state, RunState) else state
        self.status = (
            SlurmWorkUnitStatusEnum.COMPLETED
            if job_state is None
            else SlurmWorkUnitStatusEnum.from_job_state(job_state)
        )
        self._reason = reason

    @classmethod
    def aggregate(cls, states: Sequence[SlurmJobState]) -> SlurmWorkUnitStatus:
        """The gravest of several: failed, cancelled, running, pending, completed."""
        ranked = sorted(
            states, key=lambda s: _WORST_FIRST.index(SlurmWorkUnitStatusEnum.from_job_state(s))
        )
        return cls(ranked[0] if ranked else None)

    @classmethod
    def gravest(cls, statuses: Sequence[SlurmWorkUnitStatus]) -> SlurmWorkUnitStatus:
        """The one of several that says most, in the order of `aggregate`."""
        return min(statuses, key=lambda each: _WORST_FIRST.index(each.status))

    @property
    def is_active(self) -> bool:
        """Whether more may come of it."""
        return self.status in {SlurmWorkUnitStatusEnum.PENDING, SlurmWorkUnitStatusEnum.RUNNING}

    @property
    def is_completed(self) -> bool:
        """Whether it ended well."""
        return self.status is SlurmWorkUnitStatusEnum.COMPLETED

    @property
    def is_failed(self) -> bool:
        """Whether it ended badly, other than by being stopped."""
        return self.status is SlurmWorkUnitStatusEnum.FAILED

    @property
    def message(self) -> str:
        """The state, and the reason where there is one."""
        if self.state is None:
            said = "no job was added"
        else:
            said = self.state.value if isinstance(self.state, RunState) else self.state.message
        return f"{said}: {self._reason}" if self._reason else said

    def __repr__(self) -> str:
        """The message."""
        return f"<SlurmWorkUnitStatus {self.message}>"
