"""Where a unit stands, in XManager's words."""

from __future__ import annotations

import enum

from xmanager import xm

from xmslurm_repro.model.run import RunState


class SlurmWorkUnitStatusEnum(enum.Enum):
    """Where a unit stands."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_MEANING = {
    RunState.PROMISED: SlurmWorkUnitStatusEnum.PENDING,
    RunState.PENDING: SlurmWorkUnitStatusEnum.PENDING,
    RunState.RUNNING: SlurmWorkUnitStatusEnum.RUNNING,
    RunState.COMPLETED: SlurmWorkUnitStatusEnum.COMPLETED,
    RunState.CANCELLED: SlurmWorkUnitStatusEnum.CANCELLED,
}
"""Every other state is a failure."""


class SlurmWorkUnitStatus(xm.ExperimentUnitStatus):  # type: ignore[misc]
    """
    Where a unit stands.

    Attributes:
        state: As the record has it; ``None`` for a unit without any job.
        status: The same, coarser.
    """

    def __init__(self, state: RunState | None, reason: str | None = None) -> None:
        """Take a state and its reason."""
        self.state = state
        self.status = (
            SlurmWorkUnitStatusEnum.COMPLETED
            if state is None
            else _MEANING.get(state, SlurmWorkUnitStatusEnum.FAILED)
        )
        self._reason = reason

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
        said = self.state.value if self.state else "no job was added"
        return f"{said}: {self._reason}" if self._reason else said

    def __repr__(self) -> str:
        """The message."""
        return f"<SlurmWorkUnitStatus {self.message}>"
