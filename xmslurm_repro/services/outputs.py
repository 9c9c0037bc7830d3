"""Outputs: bring them here, checked; and put an end to runs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from xmslurm_repro.errors import NotFoundError, StoreError
from xmslurm_repro.model.run import Outcome, OutputFile
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.record import RunRow
from xmslurm_repro.services.arriving import Arriving, refuse_what_is_in_the_way, take
from xmslurm_repro.services.lookup import Selection, runs_of
from xmslurm_repro.services.observe import last_outcome, refresh
from xmslurm_repro.services.tools import Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An output file that is now here."""

    unit_number: int
    file: OutputFile
    target: Path


async def fetch(
    tools: Tools,
    selection: Selection,
    folder: Path,
    *,
    attempt: str | None = None,
    progress: Progress | None = None,
) -> list[Fetched]:
    """
    Copy the outputs of what is selected into *folder*, a folder for each unit where there are
    several, or for each job of a group. A file that is there already with other bytes is never
    overwritten; one with the same bytes is not copied again, and one that came half is gone on
    with.

    Args:
        tools: The world.
        selection: Whose outputs.
        folder: Where to.
        attempt: An earlier attempt of a single run, by its whole name; the last by default.
        progress: Where to report.

    Raises:
        NotFoundError: If no selected run has ended.
        StoreError: If files stand in the way; nothing is copied.
        DigestMismatchError: If a file is not what the run left.
        ConnectionLostError: If the connection breaks and cannot be made again; what came is kept.
    """
    runs = await refresh(tools, runs_of(tools.record, selection))
    ended = {
        _place(run): (run, outcome)
        for run in runs
        if (outcome := _outcome(tools, run, attempt)) is not None
    }
    if not ended:
        raise NotFoundError(
            f"no run of experiment {selection.name} has ended yet"
            if attempt is None
            else f"experiment {selection.name} has no attempt {attempt} that has ended"
        )
    by_cluster: dict[str, list[Arriving]] = defaultdict(list)
    fetched = []
    for place, (run, outcome) in sorted(ended.items()):
        name = f"{place[0]}-{place[1]}" if place[1] else f"{place[0]}"
        below = folder if len(ended) == 1 else folder / name
        for file in outcome.outputs:
            target = _below(below, file.path)
            fetched.append(Fetched(unit_number=run.receipt.unit_number, file=file, target=target))
            by_cluster[run.receipt.cluster].append(
                Arriving(
                    run_id=run.receipt.run_id, attempt=outcome.attempt, file=file, target=target
                )
            )
    refuse_what_is_in_the_way([item for items in by_cluster.values() for item in items])
    for cluster, items in sorted(by_cluster.items()):
        await take(tools.site(cluster).cluster, items, tools.clock, progress or tools.progress)
    return fetched


def _place(run: RunRow) -> tuple[int, str]:
    """Whose outputs they are: the unit's, and its job's where it has several."""
    return run.receipt.unit_number, run.receipt.member or ""


def _outcome(tools: Tools, run: RunRow, attempt: str | None) -> Outcome | None:
    if attempt is None:
        return last_outcome(tools, run.receipt.run_id)
    found = [o for o in tools.record.outcomes(run.receipt.run_id) if o.attempt == attempt]
    return found[-1] if found else None


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
