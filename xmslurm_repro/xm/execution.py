"""Jobs as schedulers know them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from xmslurm_repro.errors import NotSupportedError, ReproError
from xmslurm_repro.model.run import Receipt
from xmslurm_repro.ports.record import RunRow
from xmslurm_repro.xm.status import SlurmJobState, SlurmWorkUnitStatus

if TYPE_CHECKING:
    from xmslurm_repro.xm.access import Access


class SlurmExecutionError(ReproError):
    """What ``xm_slurm`` raises; here every error is a `ReproError` of a kind of its own."""


@dataclass(frozen=True, kw_only=True)
class SlurmJob:
    """A job by its id."""

    job_id: str

    @property
    def is_array_job(self) -> bool:
        """Whether it is a task of an array."""
        return "_" in self.job_id

    @property
    def is_heterogeneous_job(self) -> bool:
        """Whether it is a component of a heterogeneous job."""
        return "+" in self.job_id


@dataclass(frozen=True, kw_only=True)
class SlurmArrayJob(SlurmJob):
    """A task of an array."""

    array_job_id: str
    array_task_id: str


@dataclass(frozen=True, kw_only=True)
class SlurmHeterogeneousJob(SlurmJob):
    """A component of a heterogeneous job."""

    het_job_id: str
    het_component_id: str


@dataclass(frozen=True, kw_only=True)
class SlurmHandle:
    """
    A job of a work unit.

    Attributes:
        receipt: Of its run.
        job_id: As ``123`` or ``123_4``.
        job_name: Its name in the work unit.
        access: The tools of its experiment.
        others: Of a group, the receipts of its further jobs.
    """

    receipt: Receipt
    job_id: str
    job_name: str
    access: Access = field(repr=False, compare=False)
    others: tuple[Receipt, ...] = ()

    @property
    def experiment_id(self) -> int:
        """The experiment's number."""
        return self.receipt.experiment_id

    @property
    def name(self) -> str:
        """The work unit, as people type it."""
        return f"{self.receipt.experiment_id}/{self.receipt.unit_number}"

    @property
    def slurm_job(self) -> SlurmJob:
        """The job by its id."""
        array, _, task = self.job_id.partition("_")
        if task:
            return SlurmArrayJob(job_id=self.job_id, array_job_id=array, array_task_id=task)
        return SlurmJob(job_id=self.job_id)

    async def get_state(self) -> SlurmJobState:
        """Where it stands now."""
        return _gravest(await self.access.look_at_all((self.receipt, *self.others)))

    async def wait(self) -> SlurmJobState:
        """Wait for its end, and say how it ended."""
        # One after the other: all of them have to end.
        return _gravest([await self.access.wait_for(each) for each in (self.receipt, *self.others)])

    async def stop(self) -> None:
        """Cancel it."""
        for each in (self.receipt, *self.others):
            await self.access.cancel(each)

    def logs(self, *, follow: bool = False) -> AsyncIterator[bytes]:
        """What it printed; with *follow* until it has ended."""
        return self.access.logs(self.receipt, follow=follow)


def _gravest(rows: Sequence[RunRow]) -> SlurmJobState:
    states = [SlurmJobState.from_run_state(row.state) for row in rows]
    found = SlurmWorkUnitStatus.aggregate(states).state
    assert isinstance(found, SlurmJobState)  # noqa: S101 (there is a row)
    return found


class SlurmExecutionClient:
    """What submits in ``xm_slurm``. Here `SlurmExperiment.add` does, and nothing else."""

    def __init__(self) -> None:
        """
        Refuse.

        Raises:
            NotSupportedError: Always.
        """
        _refuse("an execution client")


def get_client() -> NoReturn:
    """
    Refuse.

    Raises:
        NotSupportedError: Always.
    """
    _refuse("an execution client")


async def launch(**_: Any) -> NoReturn:
    """
    Refuse.

    Raises:
        NotSupportedError: Always.
    """
    _refuse("launching without an experiment")


def _refuse(what: str) -> NoReturn:
    raise NotSupportedError(
        f"{what} is not given to launch scripts: every job is recorded before it is submitted",
        hint="Use `experiment.add(…)`.",
    )
