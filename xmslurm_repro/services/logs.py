"""Logs: what the commands of runs printed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from xmslurm_repro.errors import NotFoundError
from xmslurm_repro.model.digest import Digest
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
