"""Groups: jobs of one work unit that start together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from xmanager import xm

from xmslurm_repro.errors import NotSupportedError


def jobs_of(group: xm.JobGroup) -> dict[str, xm.Job]:
    """
    The jobs of a group by their names; those of a group within it as ``outer.inner``.

    Raises:
        NotSupportedError: If something in it is no program.
    """
    found: dict[str, xm.Job] = {}
    for name, job in group.jobs.items():
        if isinstance(job, xm.JobGroup):
            found.update({f"{name}.{inner}": each for inner, each in jobs_of(job).items()})
        elif isinstance(job, xm.Job):
            found[name] = job
        else:
            raise NotSupportedError(
                f"{type(job).__name__} in a group cannot be launched: it is no program",
                hint="Add an xm.Job.",
            )
    if not found:
        raise NotSupportedError("a group without jobs has nothing to run", hint="Add an xm.Job.")
    return found


async def interleaved(logs: Mapping[str, AsyncIterator[str]]) -> AsyncIterator[str]:
    """Lines of several logs as they come, each behind its name."""
    width = max(map(len, logs))
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    async def read(name: str, pieces: AsyncIterator[str]) -> None:
        rest = ""
        try:
            async for piece in pieces:
                *whole, rest = (rest + piece).split("\n")
                for line in whole:
                    await lines.put(f"{name:{width}} | {line}\n")
            if rest:
                await lines.put(f"{name:{width}} | {rest}\n")
        finally:
            await lines.put(None)

    readers = [asyncio.ensure_future(read(name, pieces)) for name, pieces in logs.items()]
    left = len(readers)
    try:
        while left:
            line = await lines.get()
            if line is None:
                left -= 1
            else:
                yield line
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    for reader in readers:
        reader.result()
