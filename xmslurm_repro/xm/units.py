"""One work unit of an experiment."""

from __future__ import annotations

import asyncio
import codecs
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any

from xmanager import xm

from xmslurm_repro.errors import NotSupportedError, ReproError
from xmslurm_repro.model.run import Receipt, RunState
from xmslurm_repro.xm.access import row_of
from xmslurm_repro.xm.console import Verbatim
from xmslurm_repro.xm.dependencies import (
    SlurmJobDependency,
    SlurmJobDependencyAfter,
    SlurmJobDependencyAfterAny,
    SlurmJobDependencyAfterNotOK,
    SlurmJobDependencyAfterOK,
)
from xmslurm_repro.xm.execution import SlurmHandle
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError
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
        dependency: What its job waits for.
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
        self.dependency: SlurmJobDependency | None = None
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

    def wait_for(self, dependency: SlurmJobDependency | None) -> None:
        """
        Let the job wait for that too.

        Raises:
            ArgumentTypeError: If it is no dependency.
            NoChainingException: If Slurm could not say both at once.
        """
        if dependency is None:
            return
        if not isinstance(dependency, SlurmJobDependency):
            raise ArgumentTypeError(
                f"{dependency!r} is no dependency",
                hint="Write `unit.after_completed()`, or several of them joined by `&` or `|`.",
            )
        before = self.dependency
        # A unit that was added before is not submitted again, whatever it waits for.
        if self.receipt is not None or dependency == before:
            return
        self.dependency = dependency if before is None else before & dependency

    def add(
        self,
        job: xm.JobType,
        args: Mapping[str, Any] | None = None,
        *,
        dependency: SlurmJobDependency | None = None,
        identity: str = "",
    ) -> asyncio.Future[None]:
        """
        Add the unit's job.

        Args:
            job: An `xm.Job`, or a function that adds one.
            args: What is added to the job's arguments and variables.
            dependency: What it waits for, beside what the unit itself waits for.
            identity: Without effect: a unit has one job, and its own identity.

        Returns:
            A future that is done when the job was submitted.
        """
        self.wait_for(dependency)
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
        raise NotSupportedError(
            f"{type(job_config).__name__} cannot be launched: it is no program",
            hint="Add an xm.Job.",
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

    def handle(self) -> SlurmHandle:
        """
        The unit's job.

        Raises:
            ArgumentError: If none was submitted.
        """
        receipt, access = self.receipt, self.experiment.access
        if receipt is not None and receipt.job_id is None:
            begun = receipt
            receipt = access.now(lambda tools: row_of(tools, begun)).receipt
        if receipt is None or receipt.job_id is None:
            raise ArgumentError(
                f"work unit {self.name} has no job yet that another could wait for",
                hint="Await what `experiment.add(…)` returned first.",
            )
        return SlurmHandle(
            receipt=receipt,
            job_id=receipt.job_id,
            job_name=self._job_name or "main",
            access=access,
        )

    def after_started(self, *, time: dt.timedelta | None = None) -> SlurmJobDependencyAfter:
        """
        Wait until the unit's job has started, and then as long as *time* says.

        Raises:
            ArgumentError: If it was not submitted.
        """
        return SlurmJobDependencyAfter([self.handle()], time=time)

    def after_finished(self) -> SlurmJobDependencyAfterAny:
        """
        Wait until the unit's job has ended, in whatever way.

        Raises:
            ArgumentError: If it was not submitted.
        """
        return SlurmJobDependencyAfterAny([self.handle()])

    def after_completed(self) -> SlurmJobDependencyAfterOK:
        """
        Wait until the unit's job has ended well.

        Raises:
            ArgumentError: If it was not submitted.
        """
        return SlurmJobDependencyAfterOK([self.handle()])

    def after_failed(self) -> SlurmJobDependencyAfterNotOK:
        """
        Wait until the unit's job has ended badly.

        Raises:
            ArgumentError: If it was not submitted.
        """
        return SlurmJobDependencyAfterNotOK([self.handle()])

    async def logs(
        self,
        *,
        num_lines: int = 10,
        block_size: int = 1024,
        wait: bool = True,
        follow: bool = False,
        jobs: Sequence[str] | None = None,
        raw: bool = True,
    ) -> AsyncIterator[str]:
        """
        What the unit's job printed.

        Args:
            num_lines: How many of the last lines; with *follow* everything is shown.
            block_size: Without effect, as *wait*: what is not there yet is not waited for.
            wait: Without effect.
            follow: Whether to go on until the job has ended.
            jobs: Names of jobs; a unit has one.
            raw: Without effect: it is text in any case, and `xm.console` prints it as it is.

        Raises:
            ArgumentError: If nothing was submitted, or there is no job of such a name.
        """
        del block_size, wait, raw
        handle = self.handle()
        unknown = sorted(set(jobs or ()) - {handle.job_name})
        if unknown:
            raise ArgumentError(f"work unit {self.name} has no job {', '.join(unknown)}")
        decoder, text = codecs.getincrementaldecoder("utf-8")("replace"), ""
        async for chunk in handle.logs(follow=follow):
            piece = decoder.decode(chunk)
            if follow and piece:
                yield Verbatim(piece)
            text = "" if follow else text + piece
        rest = text + decoder.decode(b"", final=True)
        if not follow:
            rest = "".join(rest.splitlines(keepends=True)[-num_lines:]) if num_lines else ""
        if rest:
            yield Verbatim(rest)

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
        raise NotSupportedError(
            f"a group of {len(jobs)} jobs cannot be submitted yet",
            hint="Add each job as a work unit of its own.",
        )
    return jobs[0]
