"""Arrays: the jobs of several units, collected and submitted at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from xmanager import xm

from xmslurm_repro.xm.faults import ArgumentError
from xmslurm_repro.xm.units import SlurmWorkUnit

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
