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
from xmslurm_repro.ports.record import RunRow
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
from xmslurm_repro.xm.groups import interleaved, jobs_of
from xmslurm_repro.xm.metadata import Notes, UnitContext
from xmslurm_repro.xm.status import SlurmWorkUnitStatus

if TYPE_CHECKING:
    from xmslurm_repro.xm.experiment import SlurmExperiment


class SlurmWorkUnit(xm.WorkUnit):  # type: ignore[misc]
    """
    A work unit: one job, a group of jobs that start together, or none as long as none was added.

    Attributes:
        receipt: Of its newest run; ``None`` before it was submitted. Of a group, that of its
            first job.
        others: Of a group, those of its further jobs.
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
        self.others: tuple[Receipt, ...] = ()
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
        """Its jobs, once they were submitted."""
        return [
            xm.LaunchedJob(name=self._name_of(receipt), address=receipt.job_id)
            for receipt in self.receipts
        ]

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """Of all its jobs."""
        return () if self.receipt is None else (self.receipt, *self.others)

    def _name_of(self, receipt: Receipt) -> str:
        return receipt.member or self._job_name or "main"

    def submitted(
        self, receipt: Receipt, job_name: str | None, others: Sequence[Receipt] = ()
    ) -> None:
        """Take note of a run of this unit, or of those of a group."""
        self.receipt, self._job_name, self.others = receipt, job_name, tuple(others)

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

    def run_beside(self, body: Awaitable[Any]) -> None:
        """Run *body* beside the script; the end of the experiment's block waits for it."""
        self._create_task(body)

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
        jobs = jobs_of(job_group)
        if self._slot is None or self._slot_submitted is None:
            if len(jobs) > 1:
                await self.experiment.submit_group(self, jobs)
            else:
                await self.experiment.submit_units([(self, *jobs.values())])
        elif len(jobs) > 1 or self._slot.done():
            raise ArgumentError(f"work unit {self._number} of an array was given a second job")
        else:
            self._slot.set_result(*jobs.values())
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
        try:
            # One after the other: all of them have to end.
            rows = [await self.experiment.access.wait_for(each) for each in self.receipts]
        except ReproError as error:
            raise xm.ExperimentUnitError(error.message, work_unit=self) from error
        if all(row.state.is_success for row in rows):
            return
        status = _gravest(rows)
        kind = (
            xm.ExperimentUnitNotCompletedError
            if status.state is RunState.CANCELLED
            else xm.ExperimentUnitFailedError
        )
        raise kind(
            f"work unit {self.name} ended as {status.message};"
            f" see `xmslurm-repro logs {self.name}`",
            work_unit=self,
        )

    async def get_status(self) -> SlurmWorkUnitStatus:
        """Where it stands now, as its cluster sees it; of a group, the gravest of all."""
        if not self.receipts:
            return SlurmWorkUnitStatus(None)
        return _gravest(await self.experiment.access.look_at_all(self.receipts))

    def handle(self) -> SlurmHandle:
        """
        The unit's job, or its group as a whole.

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
            # Others wait for a group as a whole.
            job_id=receipt.job_id.partition("+")[0],
            job_name=self._name_of(receipt),
            access=access,
            others=self.others,
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
            jobs: Names of jobs of a group; all of them by default, each line then behind the name.
            raw: Without effect: it is text in any case, and `xm.console` prints it as it is.

        Raises:
            ArgumentError: If nothing was submitted, or there is no job of such a name.
        """
        del block_size, wait, raw
        self.handle()
        wanted = [each for each in self.receipts if not jobs or self._name_of(each) in jobs]
        unknown = sorted(set(jobs or ()) - {self._name_of(each) for each in self.receipts})
        if unknown:
            raise ArgumentError(f"work unit {self.name} has no job {', '.join(unknown)}")
        if len(wanted) == 1:
            async for text in self._log_of(wanted[0], follow=follow, num_lines=num_lines):
                yield Verbatim(text)
            return
        named = {
            self._name_of(each): self._log_of(each, follow=follow, num_lines=num_lines)
            for each in wanted
        }
        async for line in interleaved(named):
            yield Verbatim(line)

    async def _log_of(
        self, receipt: Receipt, *, follow: bool, num_lines: int
    ) -> AsyncIterator[str]:
        decoder, text = codecs.getincrementaldecoder("utf-8")("replace"), ""
        async for chunk in self.experiment.access.logs(receipt, follow=follow):
            piece = decoder.decode(chunk)
            if follow and piece:
                yield piece
            text = "" if follow else text + piece
        rest = text + decoder.decode(b"", final=True)
        if not follow:
            rest = "".join(rest.splitlines(keepends=True)[-num_lines:]) if num_lines else ""
        if rest:
            yield rest

    def stop(
        self,
        *,
        mark_as_failed: bool = False,
        mark_as_completed: bool = False,
        message: str | None = None,
    ) -> None:
        """Cancel its jobs, if it has any. Returns at once; wait for the unit to see it end."""
        # The record says what happened, not what is wished.
        del mark_as_failed, mark_as_completed, message
        for receipt in self.receipts:
            self.experiment.cancel(receipt)

    def __repr__(self) -> str:
        """Its name."""
        return f"<SlurmWorkUnit {self._number}>"


def reported(future: asyncio.Future[Any]) -> asyncio.Future[Any]:
    """*future*, of which nobody need take the error: it is raised when the block ends as well."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _gravest(rows: Sequence[RunRow]) -> SlurmWorkUnitStatus:
    return SlurmWorkUnitStatus.gravest([SlurmWorkUnitStatus(r.state, r.reason) for r in rows])
