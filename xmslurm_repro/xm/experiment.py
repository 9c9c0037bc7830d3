"""Experiments as launch scripts know them, over the launch that everybody else uses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from concurrent import futures
from types import TracebackType
from typing import Any, ClassVar

from xmanager import xm
from xmanager.xm import async_packager, core

from xmslurm_repro.model.run import Receipt
from xmslurm_repro.xm.access import Access
from xmslurm_repro.xm.arrays import (
    Turn,
    collect_jobs,
    each_dependency,
    end_turn,
    trials_of,
    wait_for_turn,
)
from xmslurm_repro.xm.dependencies import SlurmJobDependency
from xmslurm_repro.xm.executables import PackagedImage
from xmslurm_repro.xm.job_blocks import JobArgs
from xmslurm_repro.xm.metadata import ExperimentContext, Notes
from xmslurm_repro.xm.packaging import package
from xmslurm_repro.xm.session import Session, environment_session, run_apart
from xmslurm_repro.xm.submission import Submitter
from xmslurm_repro.xm.units import SlurmWorkUnit, reported


def _package_batch(packageables: Sequence[xm.Packageable]) -> list[PackagedImage]:
    current = core._current_experiment.get(None)  # noqa: SLF001 (XManager shows it nowhere else)
    if isinstance(current, SlurmExperiment):
        return current.access.now(lambda tools: package(tools, packageables))

    async def apart() -> list[PackagedImage]:
        async with environment_session().open_tools() as tools:
            return package(tools, packageables)

    return run_apart(apart)


class WorkUnits(dict[int, SlurmWorkUnit]):
    """Work units by their numbers. XManager has them as a property, ``xm_slurm`` as a method."""

    def __call__(self) -> WorkUnits:
        """Return the same, for scripts that call it."""
        return self


class SlurmExperiment(xm.Experiment):  # type: ignore[misc]
    """
    An experiment. It gets its number when the number is first asked for, at the latest when
    something is submitted; what submits nothing leaves nothing behind.

    Attributes:
        access: Its tools.
    """

    _async_packager: ClassVar[Any] = async_packager.AsyncPackager(_package_batch)

    def __init__(self, title: str, session: Session, experiment_id: int | None = None) -> None:
        """Begin an experiment, or take up the one of that id."""
        super().__init__()
        self.access = Access(session)
        self._title = title
        self._id = experiment_id
        self._lock = threading.RLock()
        self._units: dict[int, SlurmWorkUnit] = {}
        self._next_number = 1
        self._last_turn: Turn | None = None
        self._is_failing = False
        self._submitter = Submitter(self)
        self._context = ExperimentContext(
            Notes(self.access, lambda: self.experiment_id), lambda: self._title
        )

    @property
    def experiment_id(self) -> int:
        """The number that people type."""
        with self._lock:
            if self._id is None:
                self._id = self.access.now(
                    lambda tools: tools.record.new_experiment(
                        title=self._title, created_at=tools.now()
                    )
                )
            return self._id

    @property
    def experiment_title(self) -> str:
        """The title that it was made with."""
        return self._title

    @property
    def context(self) -> ExperimentContext:
        """What belongs to it without deciding anything: title, tags, notes, artifacts."""
        return self._context

    @property
    def work_unit_count(self) -> int:
        """How many work units it has."""
        return len(self._units)

    @property
    def work_units(self) -> WorkUnits:
        """Its work units by their numbers."""
        return WorkUnits(self._units)

    def add(
        self,
        job: xm.JobType,
        args: JobArgs | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        role: xm.ExperimentUnitRole | None = None,
        dependency: SlurmJobDependency | Sequence[SlurmJobDependency] | None = None,
        identity: str = "",
    ) -> asyncio.Future[Any]:
        """
        Add a job, or an array of them.

        Args:
            job: An `xm.Job`, or an async function that gets the work unit and adds a job to it.
            args: What is added to the job's arguments and variables; keyword arguments of the
                function. A sequence of them makes an array: one submission, a work unit for each.
            role: What the unit is for. An auxiliary unit is a unit like others; nobody ends it when
                the others have ended.
            dependency: What the job waits for; for an array also a sequence, one for each unit.
            identity: A name within the experiment. A unit of that name that was submitted
                already, by whatever process, is returned as it is. Units of an array are called
                ``<identity>_0`` and so on.

        Returns:
            A future of the work unit, or of the list of them, done when it was submitted.

        Raises:
            ArgumentError: If the experiment is not entered, or *args* make no sense.
            NotSupportedError: For what is no program.
        """
        self.access.demand()
        if isinstance(job, xm.AuxiliaryUnitJob):
            role = job.role
        role = role if role is not None else xm.WorkUnitRole()
        self._added_roles[type(role)] += 1
        body: Coroutine[Any, Any, Any]
        if isinstance(args, Sequence):
            trials = trials_of(job, args)
            dependencies = each_dependency(dependency, len(trials))
            units = [
                self._unit(trial, role, f"{identity}_{index}" if identity else "")
                for index, trial in enumerate(trials)
            ]
            for each, awaited in zip(units, dependencies, strict=True):
                each.wait_for(awaited)
            body = self._launch_array(units, job, trials, self._turn(job))
        else:
            [awaited] = each_dependency(dependency, 1)
            unit = self._unit(args, role, identity)
            unit.wait_for(awaited)
            body = self._launch_one(unit, job, args, self._turn(job))
        return reported(asyncio.wrap_future(self._create_task(body), loop=self._event_loop))

    def _unit(
        self, args: Mapping[str, Any] | None, role: xm.ExperimentUnitRole, identity: str
    ) -> SlurmWorkUnit:
        """The unit of that identity, or a fresh one with the next number."""
        with self._lock:
            for known in self._units.values():
                if identity and known.identity == identity:
                    return known
            unit = SlurmWorkUnit(
                self,
                self._create_task,
                number=self._next_number,
                args=args,
                role=role,
                identity=identity,
            )
            self._units[self._next_number] = unit
            self._next_number += 1
            return unit

    def _turn(self, job: xm.JobType) -> tuple[Turn | None, Turn | None]:
        """
        The turn to wait for and the one to end: jobs enter the manifest in the order in which
        they were added, so that the same script makes the same manifest. Generators may wait for
        whatever they like, so nobody waits for them.
        """
        if not isinstance(job, xm.Job | xm.JobGroup):
            return None, None
        with self._lock:
            before, self._last_turn = self._last_turn, futures.Future()
            return before, self._last_turn

    async def _launch_one(
        self,
        unit: SlurmWorkUnit,
        job: xm.JobType,
        args: Mapping[str, Any] | None,
        turn: tuple[Turn | None, Turn | None],
    ) -> SlurmWorkUnit:
        try:
            await wait_for_turn(turn)
            await unit.add(job, args, identity=unit.identity)
        finally:
            end_turn(turn)
        return unit

    async def _launch_array(
        self,
        units: Sequence[SlurmWorkUnit],
        job: xm.JobType,
        trials: Sequence[Mapping[str, Any]],
        turn: tuple[Turn | None, Turn | None],
    ) -> list[SlurmWorkUnit]:
        try:
            await wait_for_turn(turn)
            await collect_jobs(units, job, trials, self.submit_units)
        finally:
            end_turn(turn)
        return list(units)

    async def submit_units(self, pairs: Sequence[tuple[SlurmWorkUnit, xm.Job]]) -> None:
        """
        Submit jobs of units at once; units that have a run already are left alone.

        Raises:
            ReproError: As `services.submit.submit`.
        """
        await self._submitter.submit(pairs)

    async def submit_group(self, unit: SlurmWorkUnit, jobs: Mapping[str, xm.Job]) -> None:
        """
        Submit a unit whose jobs start together, unless it has a run already.

        Raises:
            ReproError: As `services.submit.submit`.
        """
        await self._submitter.submit_group(unit, jobs)

    def cancel(self, receipt: Receipt) -> None:
        """Ask for a run's end; returns before it has ended."""
        if self.access.tools is not None:
            self._create_task(self.access.cancel(receipt))
        else:
            run_apart(lambda: self.access.cancel(receipt))

    def restore(
        self, receipts: Mapping[int, Sequence[Receipt]], identities: Mapping[int, str]
    ) -> None:
        """
        Take up the units that earlier processes began: by number the receipt of their newest live
        run, or those of their group.
        """
        for number in sorted({*receipts, *identities}):
            unit = SlurmWorkUnit(
                self,
                self._create_task,
                number=number,
                args=None,
                role=xm.WorkUnitRole(),
                identity=identities.get(number, ""),
            )
            unit.was_begun = True
            newest = receipts.get(number)
            if newest:
                unit.submitted(newest[0], None, newest[1:])
            self._units[number] = unit
            self._next_number = number + 1

    async def __aenter__(self) -> SlurmExperiment:
        """Open the tools."""
        await super().__aenter__()
        await self.access.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait until everything that was added is submitted, then close the tools."""
        self._is_failing = exc_type is not None
        await super().__aexit__(exc_type, exc_value, traceback)

    def __enter__(self) -> SlurmExperiment:
        """Open the tools, with an event loop in a thread of its own."""
        try:
            super().__enter__()
        except BaseException:
            self._stop_loop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait until everything that was added is submitted, then close the tools."""
        try:
            super().__exit__(exc_type, exc_value, traceback)
        finally:
            self._stop_loop()

    def _stop_loop(self) -> None:
        loop: asyncio.AbstractEventLoop | None = getattr(self, "_event_loop", None)
        thread: threading.Thread | None = getattr(self, "_event_loop_thread", None)
        if loop is None or thread is None:
            return
        if loop.is_running():
            loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _wait_for_tasks(self) -> None:
        failures: list[BaseException] = []
        try:
            while not self._running_tasks.empty():
                task = self._running_tasks.get_nowait()
                futures.wait([task])
                _note_failure(task, failures)
        finally:
            asyncio.run_coroutine_threadsafe(self.access.close(), self._event_loop).result()
        if failures:
            raise failures[0]

    async def _await_for_tasks(self) -> None:
        failures: list[BaseException] = []
        try:
            while not self._running_tasks.empty():
                task = self._running_tasks.get_nowait()
                await asyncio.gather(asyncio.wrap_future(task), return_exceptions=True)
                _note_failure(task, failures)
        finally:
            await self.access.close(abandon=self._is_failing or bool(failures))
        if failures:
            raise failures[0]

    def _should_reload_experiment_unit(self, role: xm.ExperimentUnitRole) -> bool:
        del role
        return False

    def _create_experiment_unit(
        self, args: Mapping[str, Any] | None, role: xm.ExperimentUnitRole, identity: str
    ) -> Awaitable[SlurmWorkUnit]:
        unit = self._unit(args, role, identity)
        ready: asyncio.Future[SlurmWorkUnit] = self._event_loop.create_future()
        ready.set_result(unit)
        return ready

    def _get_experiment_unit(
        self,
        experiment_id: int,
        identity: str,
        role: xm.ExperimentUnitRole,
        args: Mapping[str, Any] | None = None,
    ) -> Awaitable[SlurmWorkUnit]:
        del experiment_id
        return self._create_experiment_unit(args, role, identity)

    def __repr__(self) -> str:
        """Its number, if it has one yet."""
        return f"<SlurmExperiment {self._id if self._id is not None else '(not begun)'}>"


def _note_failure(task: futures.Future[Any], failures: list[BaseException]) -> None:
    """Remember why a task failed; a unit and the experiment both report the same error."""
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        failures.append(error)
