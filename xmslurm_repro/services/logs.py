"""Logs: what the commands of runs printed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from xmslurm_repro.errors import NotFoundError
from xmslurm_repro.ports.record import RunRow
from xmslurm_repro.services.lookup import Selection, runs_of
from xmslurm_repro.services.tools import Tools


def runs_with_logs(tools: Tools, selection: Selection) -> list[RunRow]:
    """
    The newest run of each selected unit that was submitted.

    Raises:
        NotFoundError: If none was.
    """
    latest = {
        run.receipt.unit_number: run
        for run in runs_of(tools.record, selection)
        if run.receipt.job_id is not None
    }
    if not latest:
        raise NotFoundError(f"nothing of experiment {selection.name} was submitted, so no logs")
    return [latest[number] for number in sorted(latest)]


def log(
    tools: Tools, run: RunRow, *, attempt: str | None = None, follow: bool = False
) -> AsyncIterator[bytes]:
    """What the run printed so far, or with *follow* until it ends."""
    cluster = tools.site(run.receipt.cluster).cluster
    return cluster.logs(run.receipt.run_id, attempt=attempt, follow=follow)
