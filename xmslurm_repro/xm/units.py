"""One work unit of an experiment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent import futures
from typing import TYPE_CHECKING, Any

from xmanager import xm

from xmslurm_repro.errors import ReproError
from xmslurm_repro.model.run import Receipt, RunState
from xmslurm_repro.xm.faults import ArgumentError
from xmslurm_repro.xm.metadata import Notes, UnitContext
from xmslurm_repro.xm.status import SlurmWorkUnitStatus

if TYPE_CHECKING:
    from xmslurm_repro.xm.experiment import SlurmExperiment


class SlurmWorkUnit(xm.WorkUnit):  # type: ignore[misc]
    """
    A work unit: one job, or none as long as none was added.

    Attributes:
        receipt: Of its newest run; ``None`` before it was submitted.
        was_begun: Whether the manifest may hold its job although it has no run.
    """

    experiment: SlurmExperiment

    def __init__(
        self,
        experiment: SlurmExperiment,
        create_task: Callable[[Awaitable[Any]], futures.Future[Any]],
        *,
        number: int,
        args: Mapping[str, Any] | None,
        role: xm.ExperimentUnitRole,
        identity: str,
    ) -> None:
        """Begin the unit; nothing is submitted yet."""
        super().__init__(experiment, create_task, args, role, identity=identity)
        self._number = number
        self.receipt: Receipt | None = None
        self.was_begun = False
        self._job_name: str | None = None
        self._slot: asyncio.Future[xm.Job] | None = None
        self._slot_submitted: asyncio.Future[None] | None = None
        notes = Notes(experiment.access, lambda: experiment.experiment_id, number)
        self._context = UnitContext(notes)

    @property
    def work_unit_id(self) -> int:
        """Its number in the experiment, from 1."""
        return self._number

    @property
    def experiment_unit_name(self) -> str:
        """A name that no other unit has."""
        return f"{self.experiment_id}_{self._number}"

    @property
    def name(self) -> str:
        """As people type it: ``41/3``."""
        return f"{self.experiment_id}/{self._number}"

    @property
    def context(self) -> UnitContext:
        """What belongs to it without deciding anything."""
        return self._context

    @property
    def launched_jobs(self) -> list[xm.LaunchedJob]:
        """Its job, once it was submitted."""
        if self.receipt is None:
            return []
        return [xm.LaunchedJob(name=self._job_name or "main", address=self.receipt.job_id)]

    def submitted(self, receipt: Receipt, job_name: str | None) -> None:
        """Take note of a run of this unit."""
        self.receipt, self._job_name = receipt, job_name

    def add(
        self, job: xm.JobType, args: Mapping[str, Any] | None = None, *, identity: str = ""
    ) -> asyncio.Future[None]:
        """
        Add the unit's job.

        Args:
            job: An `xm.Job`, or a function that adds one.
            args: What is added to the job's arguments and variables.
            identity: Without effect: a unit has one job, and its own identity.

        Returns:
            A future that is done when the job was submitted.
        """
        return reported(super().add(job, args, identity=identity))

    def hold(self) -> tuple[asyncio.Future[xm.Job], asyncio.Future[None]]:
        """
        Collect the job that is added next instead of submitting it, as arrays need.

        Returns:
            Where the job arrives, and what is to be set when it was submitted.
        """
        loop = asyncio.get_running_loop()
        self._slot, self._slot_submitted = loop.create_future(), loop.create_future()
        return self._slot, self._slot_submitted

    def release(self) -> None:
        """Submit what is added from now on."""
        self._slot = self._slot_submitted = None

    async def _launch_job_group(
        self, job_group: xm.JobGroup, args_view: Mapping[str, Any], identity: str
    ) -> None:
        del args_view, identity
        job = _only_job(job_group)
        if self._slot is None or self._slot_submitted is None:
            await self.experiment.submit_units([(self, job)])
        elif self._slot.done():
            raise ArgumentError(f"work unit {self._number} of an array was given a second job")
        else:
            self._slot.set_result(job)
            await asyncio.shield(self._slot_submitted)

    async def _launch_job_config(
        self, job_config: xm.JobConfig, args_view: Mapping[str, Any], identity: str
    ) -> None:
        del args_view, identity
        raise ArgumentError(
            f"{type(job_config).__name__} cannot be launched here", hint="Add an xm.Job."
        )

    async def _wait_until_complete(self) -> None:
        """
        Wait for the end.

        Raises:
            ExperimentUnitFailedError: If the run did not end well.
            ExperimentUnitNotCompletedError: If it was stopped.
        """
        if self.receipt is None:
            return
        try:
            row = await self.experiment.access.wait_for(self.receipt)
        except ReproError as error:
            raise xm.ExperimentUnitError(error.message, work_unit=self) from error
        if row.state.is_success:
            return
        status = SlurmWorkUnitStatus(row.state, row.reason)
        kind = (
            xm.ExperimentUnitNotCompletedError
            if row.state is RunState.CANCELLED
            else xm.ExperimentUnitFailedError
        )
        raise kind(
            f"work unit {self.name} ended as {status.message};"
            f" see `xmslurm-repro logs {self.name}`",
            work_unit=self,
        )

    async def get_status(self) -> SlurmWorkUnitStatus:
        """Where it stands now, as its cluster sees it."""
        if self.receipt is None:
            return SlurmWorkUnitStatus(None)
        row = await self.experiment.access.look_at(self.receipt)
        return SlurmWorkUnitStatus(row.state, row.reason)

    def stop(
        self,
        *,
        mark_as_failed: bool = False,
        mark_as_completed: bool = False,
        message: str | None = None,
    ) -> None:
        """Cancel its job, if it has one. Returns at once; wait for the unit to see it end."""
        # The record says what happened, not what is wished.
        del mark_as_failed, mark_as_completed, message
        if self.receipt is not None:
            self.experiment.cancel(self.receipt)

    def __repr__(self) -> str:
        """Its name."""
        return f"<SlurmWorkUnit {self._number}>"


def reported(future: asyncio.Future[Any]) -> asyncio.Future[Any]:
    """*future*, of which nobody need take the error: it is raised when the block ends as well."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _only_job(group: xm.JobGroup) -> xm.Job:
    jobs = list(group.jobs.values())
    if len(jobs) != 1 or not isinstance(jobs[0], xm.Job):
        raise ArgumentError(
            f"a group of {len(jobs)} jobs cannot be submitted yet",
            hint="Add each job as a work unit of its own.",
        )
    return jobs[0]
