"""Replay: the same image digest, command, environment and resources again, then a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from xmslurm_repro.errors import InputError, NotFoundError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import Outcome, Receipt, RunId
from xmslurm_repro.model.verdict import Verdict, judge
from xmslurm_repro.model.work import Input, Job
from xmslurm_repro.ports.record import ExperimentRow, RunRow
from xmslurm_repro.services.check import ensure_image, require_whole
from xmslurm_repro.services.lookup import Selection, read_manifest, read_unit, runs_of
from xmslurm_repro.services.observe import last_outcome, refresh, wait
from xmslurm_repro.services.submit import Batch, PlannedRun, place_inputs, submit
from xmslurm_repro.services.tools import Tools

_WHEN = frozenset({"begin", "deadline", "dependency", "kill-on-invalid-dep"})
"""Options that said when a run was to start: times that have passed, and jobs that have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """
    A replay that was submitted.

    Attributes:
        experiment_id: The replay's own.
        original_id: The experiment that it repeats.
        receipts: One for each run.
        rebuilt: Digests of images that were built again on the way.
    """

    experiment_id: int
    original_id: int
    receipts: tuple[Receipt, ...]
    rebuilt: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjudged:
    """A run of a replay that cannot be compared, and why."""

    replay: RunId
    reason: str


async def start_replay(
    tools: Tools,
    selection: Selection,
    *,
    cluster: str | None = None,
    rebuild: bool = False,
    inputs: Sequence[tuple[str, str]] = (),
) -> Replayed:
    """
    Submit what was selected once more. The current work tree is not looked at.

    Args:
        tools: The world.
        selection: An experiment, or one of its units.
        cluster: Where; ``None`` for where each run ran.
        rebuild: Build the images again from the store alone, and demand the same digests.
        inputs: Where inputs are now, by name; the others are where they were, or on another
            cluster where its description says.

    Raises:
        InputError: If an input is not what it was, by name.
        IntegrityError: If an object that is needed is missing or damaged; all are listed.
        NotFoundError: If the experiment is empty.
    """
    manifest = read_manifest(tools.store, selection.row)
    originals = await refresh(tools, latest_runs(tools, selection))
    if not originals:
        raise NotFoundError(f"experiment {selection.name} has no runs to repeat")
    if cluster is not None:
        tools.site(cluster)
    jobs = [_job_of(tools, run) for run in originals]
    tools.secrets.reveal(sorted({name for job in jobs for name in job.secrets}))
    images = {job.image: None for job in jobs}
    places = await _check_inputs(tools, originals, cluster, dict(inputs))
    with tools.guard.using():
        require_whole(tools, manifest, selection.name)
        rebuilt = [
            digest
            for digest in images
            if ensure_image(tools, manifest.image(digest), rebuild=rebuild)
        ]
    row = _new_row(tools, selection.row)
    receipts: list[Receipt] = []
    for _, group in groupby(originals, key=lambda run: _shape(tools, run, cluster)):
        runs = list(group)
        now = {place for run in runs for place in places[run.receipt.run_id]}
        batch = replace(_batch(row.id, runs, cluster), inputs=tuple(sorted(now)))
        receipts += await submit(tools, batch)
    return Replayed(
        experiment_id=row.id,
        original_id=selection.row.id,
        receipts=tuple(receipts),
        rebuilt=tuple(rebuilt),
    )


async def _check_inputs(
    tools: Tools, runs: Sequence[RunRow], cluster: str | None, said: Mapping[str, str]
) -> dict[RunId, tuple[tuple[str, str], ...]]:
    """Where each run's inputs are now. All of them are looked at before anything is submitted."""
    places: dict[RunId, tuple[tuple[str, str], ...]] = {}
    faults: dict[str, None] = {}
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[Input, ...]] = {}
    for run in runs:
        receipt = run.receipt
        site, wanted = tools.site(cluster or receipt.cluster), _job_of(tools, run).inputs
        # A path of one cluster means nothing to another.
        before = dict(receipt.inputs) if cluster in {None, receipt.cluster} else {}
        named = [(i.name, said.get(i.name) or before.get(i.name, "")) for i in wanted]
        placed = places[receipt.run_id] = place_inputs(site, named)
        key = (site.cluster.name, placed)
        if placed and key not in seen:
            seen[key] = await site.cluster.survey(placed)
        for one, now in zip(wanted, seen.get(key, ()), strict=True):
            if one != now:
                faults[f"{one.name}: {one.digest} was recorded, {now.digest} is there"] = None
    if faults:
        names = ", ".join(sorted({fault.partition(":")[0] for fault in faults}))
        raise InputError(
            f"these inputs are not what they were: {names}",
            hint="Bring them back, or launch anew with what is there now.",
            details=tuple(faults),
        )
    return places


def _job_of(tools: Tools, run: RunRow) -> Job:
    return read_unit(tools.store, run.receipt.unit).job(run.receipt.member)


def latest_runs(tools: Tools, selection: Selection) -> list[RunRow]:
    """The newest run of each unit that is selected, or of each of its jobs, in their order."""
    latest = {
        (run.receipt.unit_number, run.receipt.member): run
        for run in runs_of(tools.record, selection)
    }
    return sorted(
        latest.values(), key=lambda run: (run.receipt.unit_number, run.receipt.run_id.task)
    )


def _new_row(tools: Tools, original: ExperimentRow) -> ExperimentRow:
    assert original.manifest is not None  # noqa: S101 (its manifest was read)
    replay_id = tools.record.new_experiment(
        title=original.title, created_at=tools.now(), replay_of=original.id
    )
    tools.record.set_manifest(replay_id, original.manifest)
    return tools.record.experiment(replay_id)


def _shape(tools: Tools, run: RunRow, cluster: str | None) -> tuple[object, ...]:
    """Runs of one shape that follow each other go into one array, or are one group."""
    where = cluster or run.receipt.cluster
    if run.receipt.member is not None:
        return (run.receipt.unit_number, where)
    job = _job_of(tools, run)
    given = (job.inputs, run.receipt.inputs, job.secrets)
    what = (job.image, job.workdir, job.resources, job.network, given)
    return (*what, where, _options(run.receipt))


def _options(receipt: Receipt) -> tuple[tuple[str, str], ...]:
    return tuple(option for option in receipt.options if option[0] not in _WHEN)


def _batch(experiment_id: int, runs: Sequence[RunRow], cluster: str | None) -> Batch:
    first = runs[0].receipt
    # Accounts and partitions of one cluster mean nothing to another.
    is_same_place = cluster in {None, first.cluster}
    return Batch(
        experiment_id=experiment_id,
        runs=tuple(
            PlannedRun(
                unit_number=run.receipt.unit_number,
                unit=run.receipt.unit,
                replay_of=run.receipt.run_id,
                member=run.receipt.member,
                options=None
                if run.receipt.member is None
                else _options(run.receipt)
                if is_same_place
                else (),
            )
            for run in runs
        ),
        cluster=cluster or first.cluster,
        options=_options(first) if is_same_place else (),
        origin=first.origin,
        max_parallel_tasks=first.max_parallel_tasks,
    )


async def finish_replay(
    tools: Tools,
    replayed: Replayed,
    *,
    on_change: Callable[[Sequence[RunRow]], None] = lambda _: None,
) -> tuple[list[Verdict], list[Unjudged]]:
    """Wait for a replay to end, and for what it repeats; compare the two."""
    runs = tools.record.runs(experiment_id=replayed.experiment_id)
    await wait(tools, runs, on_change=on_change)
    originals = {receipt.replay_of for receipt in replayed.receipts}
    repeated = tools.record.runs(experiment_id=replayed.original_id)
    await wait(tools, [run for run in repeated if run.receipt.run_id in originals])
    return judge_receipts(tools, replayed.receipts)


def judge_receipts(
    tools: Tools, receipts: Sequence[Receipt]
) -> tuple[list[Verdict], list[Unjudged]]:
    """Compare each receipt's run with the one that it repeats, as far as both have ended."""
    verdicts, unjudged = [], []
    for receipt in receipts:
        if receipt.replay_of is None:
            continue
        before = last_outcome(tools, receipt.replay_of)
        after = last_outcome(tools, receipt.run_id)
        if before is None or after is None:
            unjudged.append(_unjudged(receipt, before, after))
        else:
            verdicts.append(judge(before, after))
    return verdicts, unjudged


def _unjudged(receipt: Receipt, before: Outcome | None, after: Outcome | None) -> Unjudged:
    which = "neither run" if before is after else "the original" if before is None else "the replay"
    return Unjudged(replay=receipt.run_id, reason=f"{which} has left no record of its end")
