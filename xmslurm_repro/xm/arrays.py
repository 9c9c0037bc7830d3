"""Arrays: the jobs of several units, collected and submitted at once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

from xmanager import xm

from xmslurm_repro.errors import NotSupportedError
from xmslurm_repro.xm.dependencies import SlurmJobDependency
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError
from xmslurm_repro.xm.units import SlurmWorkUnit

Turn = futures.Future[None]
"""Done when what it stands for is submitted, or failed."""

Submit = Callable[[Sequence[tuple[SlurmWorkUnit, xm.Job]]], Awaitable[None]]


async def collect_jobs(
    units: Sequence[SlurmWorkUnit],
    job: xm.JobType,
    trials: Sequence[Mapping[str, Any]],
    submit: Submit,
) -> None:
    """
    Let every unit come up with its job, then submit all of them at once.

    Nothing is submitted unless every unit has a job.

    Raises:
        ArgumentError: If a generator ends without having added one.
        Exception: Whatever a generator raised.
    """
    slots = [unit.hold() for unit in units]
    tasks = [
        asyncio.ensure_future(unit.add(job, trial, identity=unit.identity))
        for unit, trial in zip(units, trials, strict=True)
    ]
    try:
        jobs = [
            await _next_job(unit, slot, task)
            for unit, (slot, _), task in zip(units, slots, tasks, strict=True)
        ]
        await submit(list(zip(units, jobs, strict=True)))
    except BaseException as error:
        _answer(slots, error if isinstance(error, Exception) else RuntimeError("cancelled"))
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    finally:
        for unit in units:
            unit.release()
    _answer(slots, None)
    await asyncio.gather(*tasks)


async def _next_job(
    unit: SlurmWorkUnit, slot: asyncio.Future[xm.Job], task: asyncio.Future[None]
) -> xm.Job:
    await asyncio.wait({slot, task}, return_when=asyncio.FIRST_COMPLETED)
    if slot.done():
        return slot.result()
    task.result()
    raise ArgumentError(f"the generator of work unit {unit.work_unit_id} added no job to it")


def _answer(
    slots: Sequence[tuple[asyncio.Future[xm.Job], asyncio.Future[None]]],
    error: Exception | None,
) -> None:
    """Tell every generator whether its job was submitted."""
    for _, submitted in slots:
        if submitted.done():
            continue
        if error is None:
            submitted.set_result(None)
        else:
            submitted.set_exception(error)
            submitted.exception()  # A generator that has ended does not ask any more.


def trials_of(job: xm.JobType, args: Sequence[Any]) -> list[Mapping[str, Any]]:
    """
    What the units of an array are given, one by one.

    Raises:
        ArgumentError: If there are none.
        ArgumentTypeError: If they are no mappings, or the job is none that makes arrays.
        NotSupportedError: If it is a group.
    """
    if isinstance(args, str) or not all(isinstance(trial, Mapping) for trial in args):
        raise ArgumentTypeError("the arguments of an array must be mappings, one for each unit")
    if isinstance(job, xm.JobGroup):
        raise NotSupportedError(
            "Slurm has no arrays of job groups", hint="Add a unit for each of these arguments."
        )
    if not isinstance(job, xm.Job) and not inspect.iscoroutinefunction(job):
        raise ArgumentTypeError(f"an array is made of an xm.Job or an async function, not {job!r}")
    if not args:
        raise ArgumentError("an array without any arguments has no units")
    return list(args)


def each_dependency(
    dependency: SlurmJobDependency | Sequence[SlurmJobDependency] | None, count: int
) -> Sequence[SlurmJobDependency | None]:
    """
    What each of *count* units waits for: all for the same, or one for each.

    Raises:
        ArgumentError: If there are more or fewer of them than units.
    """
    if not isinstance(dependency, Sequence):
        return [dependency] * count
    if len(dependency) != count:
        raise ArgumentError(
            f"{len(dependency)} dependencies were given for {count} work units",
            hint="Give one for all, or one for each.",
        )
    return dependency


async def wait_for_turn(turn: tuple[Turn | None, Turn | None]) -> None:
    """Wait until what was added before is submitted."""
    before, _ = turn
    if before is not None:
        await asyncio.wrap_future(before)


def end_turn(turn: tuple[Turn | None, Turn | None]) -> None:
    """Let what was added after go on."""
    _, own = turn
    if own is not None:
        own.set_result(None)
