"""Outputs: bring them here, checked; and put an end to runs."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xmslurm_repro.errors import NotFoundError, StoreError
from xmslurm_repro.model.run import Outcome, OutputFile
from xmslurm_repro.ports.record import RunRow
from xmslurm_repro.services.lookup import Selection, runs_of
from xmslurm_repro.services.observe import last_outcome, refresh
from xmslurm_repro.services.tools import Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An output file that is now here."""

    unit_number: int
    file: OutputFile
    target: Path


async def fetch(tools: Tools, selection: Selection, folder: Path) -> list[Fetched]:
    """
    Copy the outputs of what is selected into *folder*, a folder for each unit where there are
    several, or for each job of a group. A file that is there already with other bytes is never
    overwritten.

    Raises:
        NotFoundError: If no selected run has ended.
        StoreError: If a file stands in the way; nothing of that unit is copied.
    """
    runs = await refresh(tools, runs_of(tools.record, selection))
    ended = {
        (run.receipt.unit_number, run.receipt.member or ""): (run, outcome)
        for run in runs
        if (outcome := last_outcome(tools, run.receipt.run_id)) is not None
    }
    if not ended:
        raise NotFoundError(f"no run of experiment {selection.name} has ended yet")
    fetched: list[Fetched] = []
    for (number, member), (run, outcome) in sorted(ended.items()):
        name = f"{number}-{member}" if member else str(number)
        target = folder if len(ended) == 1 else folder / name
        fetched += await _fetch_run(tools, run, outcome, target)
    return fetched


async def _fetch_run(tools: Tools, run: RunRow, outcome: Outcome, folder: Path) -> list[Fetched]:
    targets = {file: _below(folder, file.path) for file in outcome.outputs}
    in_the_way = _existing(targets.values())
    if in_the_way:
        raise StoreError(
            f"{len(in_the_way)} files are there already",
            details=in_the_way[:20],
            hint="Name an empty folder with `--to`.",
        )
    cluster = tools.site(run.receipt.cluster).cluster
    for file, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as temporary:
            try:
                await cluster.fetch(
                    run.receipt.run_id,
                    outcome.attempt,
                    file.path,
                    temporary,  # type: ignore[arg-type]
                )
                Path(temporary.name).replace(target)
            except BaseException:
                Path(temporary.name).unlink(missing_ok=True)
                raise
    return [
        Fetched(unit_number=run.receipt.unit_number, file=file, target=target)
        for file, target in targets.items()
    ]


def _existing(targets: Iterable[Path]) -> list[str]:
    return sorted(str(target) for target in targets if os.path.lexists(target))


def _below(folder: Path, path: str) -> Path:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        raise StoreError(f"the output {path!r} would leave the folder {folder}")
    return folder.joinpath(*parts)


async def cancel(tools: Tools, selection: Selection) -> list[RunRow]:
    """Cancel every selected run that has not ended; return those that were told to stop."""
    runs = await refresh(tools, runs_of(tools.record, selection))
    living = [run for run in runs if not run.state.is_final and run.receipt.job_id is not None]
    by_cluster: dict[str, list[str]] = defaultdict(list)
    for run in living:
        assert run.receipt.job_id is not None  # noqa: S101 (selected above)
        by_cluster[run.receipt.cluster].append(run.receipt.job_id)
    for cluster, job_ids in sorted(by_cluster.items()):
        await tools.site(cluster).cluster.cancel(job_ids)
    return living
