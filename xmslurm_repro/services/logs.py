"""Logs: what the commands of runs printed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from xmslurm_repro.errors import NotFoundError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import RunId
from xmslurm_repro.ports.record import RunRow
from xmslurm_repro.services.lookup import Selection, runs_of
from xmslurm_repro.services.observe import last_outcome
from xmslurm_repro.services.tools import Tools

_EMPTY_LOG = Digest.sha256("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
"""SHA-256 of nothing."""


def runs_with_logs(tools: Tools, selection: Selection) -> list[RunRow]:
    """
    The newest run of each selected unit, or of each of its jobs, that was submitted.

    Raises:
        NotFoundError: If none was.
    """
    latest = {
        (run.receipt.unit_number, run.receipt.member): run
        for run in runs_of(tools.record, selection)
        if run.receipt.job_id is not None
    }
    if not latest:
        raise NotFoundError(f"nothing of experiment {selection.name} was submitted, so no logs")
    return sorted(
        latest.values(), key=lambda run: (run.receipt.unit_number, run.receipt.run_id.task)
    )


async def follow_logs(
    tools: Tools,
    runs: Sequence[RunRow],
    *,
    attempt: str | None = None,
    follow: bool = False,
    last_lines: int | None = None,
) -> AsyncIterator[tuple[RunRow, bytes]]:
    """
    What several runs printed so far, or with *follow* until they end: pieces, each with its run.

    Over one channel for each cluster.

    Raises:
        NotFoundError: If a run is known to have printed something, and its cluster does not have
            it any more.
    """
    by_id = {run.receipt.run_id: run for run in runs}
    by_cluster: dict[str, list[RunId]] = defaultdict(list)
    for run in runs:
        by_cluster[run.receipt.cluster].append(run.receipt.run_id)
    streams = [
        tools.site(name).cluster.follow(
            run_ids, attempt=attempt, follow=follow, last_lines=last_lines
        )
        for name, run_ids in by_cluster.items()
    ]
    silent = set(by_id)
    async for run_id, piece in _merged(streams):
        silent.discard(run_id)
        yield by_id[run_id], piece
    if attempt is None and last_lines != 0:
        _require_logs(tools, [by_id[run_id] for run_id in by_id if run_id in silent])


def _require_logs(tools: Tools, silent: Sequence[RunRow]) -> None:
    gone = []
    for run in silent:
        outcome = last_outcome(tools, run.receipt.run_id)
        if outcome is not None and outcome.log not in {None, _EMPTY_LOG}:
            gone.append(run.receipt)
    if gone:
        raise NotFoundError(
            f"the log of run {gone[0].run_id} is not on {gone[0].cluster} any more"
            if len(gone) == 1
            else f"the logs of {len(gone)} runs are not there any more",
            details=[f"{receipt.name} on {receipt.cluster}" for receipt in gone[:20]],
            hint=f"`xmslurm-repro replay {gone[0].experiment_id}` prints it again.",
        )


_Piece = tuple[RunId, bytes]


async def _merged(streams: Sequence[AsyncIterator[_Piece]]) -> AsyncIterator[_Piece]:
    """What comes from any of *streams*, until all have ended; the first error ends them all."""
    if len(streams) == 1:
        async for piece in streams[0]:
            yield piece
        return
    queue: asyncio.Queue[_Piece | None] = asyncio.Queue(maxsize=100)

    async def pump(stream: AsyncIterator[_Piece]) -> None:
        try:
            async for piece in stream:
                await queue.put(piece)
        finally:
            await queue.put(None)

    pumps = [asyncio.ensure_future(pump(stream)) for stream in streams]
    try:
        left = len(pumps)
        while left:
            item = await queue.get()
            if item is not None:
                yield item
                continue
            left -= 1
            for task in pumps:
                if task.done():
                    task.result()
        await asyncio.gather(*pumps)
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def log(
    tools: Tools, run: RunRow, *, attempt: str | None = None, follow: bool = False
) -> AsyncIterator[bytes]:
    """
    What the run printed so far, or with *follow* until it ends.

    Raises:
        NotFoundError: If the run is known to have printed something, and the cluster does not
            have it any more.
    """
    receipt = run.receipt
    cluster = tools.site(receipt.cluster).cluster
    is_empty = True
    async for chunk in cluster.logs(receipt.run_id, attempt=attempt, follow=follow):
        is_empty = is_empty and not chunk
        yield chunk
    outcome = last_outcome(tools, receipt.run_id)
    if is_empty and outcome is not None and outcome.log not in {None, _EMPTY_LOG}:
        raise NotFoundError(
            f"the log of run {receipt.run_id} is not on {receipt.cluster} any more",
            hint=f"`xmslurm-repro replay {receipt.experiment_id}` prints it again.",
        )
