"""Promise, act, confirm: the one way in which anything is submitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from xmslurm_repro.errors import (
    ConnectionLostError,
    InputError,
    MissingObjectError,
    ReproError,
    SubmitRefusedError,
)
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import Image
from xmslurm_repro.model.manifest import Manifest
from xmslurm_repro.model.run import Receipt, RunId
from xmslurm_repro.model.work import Job, WorkUnit
from xmslurm_repro.ports.cluster import Member, PlacedInput, Submission, Task
from xmslurm_repro.services.lookup import read_manifest, read_unit
from xmslurm_repro.services.tools import ClusterSite, Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """
    A run that is about to be promised.

    Attributes:
        unit_number: Of its work unit, from 1.
        unit: Digest of the work unit.
        replay_of: The run that it repeats.
        member: Which job of the unit, by name, where it has several: then the batch holds a run
            for each of them, in the unit's order, and nothing else.
        options: Its own in place of the batch's.
    """

    unit_number: int
    unit: Digest
    replay_of: RunId | None = None
    member: str | None = None
    options: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """
    Runs that are submitted at once.

    Attributes:
        experiment_id: Whose they are; its manifest holds their units and image already.
        runs: One becomes a job, several an array: they then differ only in command and
            environment.
        cluster: By name.
        options: Beyond what the cluster is told by default.
        origin: Digest of the snapshot's `Origin`.
        max_parallel_tasks: How many may run at once.
        inputs: Where each input is on the cluster, by name.
    """

    experiment_id: int
    runs: tuple[PlannedRun, ...]
    cluster: str
    options: tuple[tuple[str, str], ...] = ()
    origin: Digest | None = None
    max_parallel_tasks: int | None = None
    inputs: tuple[tuple[str, str], ...] = ()


def place_inputs(
    site: ClusterSite, named: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """
    Where inputs are on a cluster: where it is said, else where the cluster's description says.

    Raises:
        InputError: Naming all for which nobody says it.
    """
    known, asked = dict(site.inputs), dict(named)
    unknown = sorted(name for name, path in asked.items() if not (path or known.get(name)))
    if unknown:
        raise InputError(
            f"nothing says where these inputs are on {site.cluster.name}: {', '.join(unknown)}",
            hint=f"Give `--input {unknown[0]}=/PATH`, or set `{unknown[0]}` in "
            f"[clusters.{site.cluster.name}.inputs].",
        )
    return tuple(sorted((name, path or known[name]) for name, path in asked.items()))


async def submit(tools: Tools, batch: Batch) -> tuple[Receipt, ...]:
    """
    Deliver the image, promise the runs, submit them once, and confirm.

    More runs than the cluster takes at once become several submissions. Each is promised when it
    is its turn: the later ones wait for as long as it takes until the cluster has room.

    Returns:
        The confirmed receipts, in the order of the runs.

    Raises:
        SubmitRefusedError: The scheduler said no. The record says so too.
        SubmitUnknownError: It is not known; the next command finds out (see `settle`).
    """
    site = tools.site(batch.cluster)
    parts = await _split(tools, batch, site)
    if len(parts) == 1:
        return await _submit_part(tools, site, batch)
    receipts: list[Receipt] = []
    task = tools.progress.start("submitting", total=len(batch.runs))
    try:
        for part in parts:
            now = _after(part, receipts[-1]) if receipts else part
            receipts += await _submit_part(tools, site, now, is_first=not receipts)
            task.advance(len(part.runs))
    finally:
        task.finish()
    return tuple(receipts)


async def _split(tools: Tools, batch: Batch, site: ClusterSite) -> list[Batch]:
    count = len(batch.runs)
    if count == 1 or batch.runs[0].member is not None:
        return [batch]
    options = told(site, batch.options)
    limit = await site.cluster.max_tasks(options)
    if limit is None or count <= limit:
        return [batch]
    if "aftercorr:" in dict(options).get("dependency", ""):
        raise SubmitRefusedError(
            f"{count} runs wait one by one for those of an array, and {site.cluster.name} takes "
            f"no more than {limit} at once",
            hint="Add them in parts, each for as many units as it waits for.",
        )
    return [
        replace(batch, runs=batch.runs[start : start + limit]) for start in range(0, count, limit)
    ]


def _after(part: Batch, last: Receipt) -> Batch:
    """Of runs that are throttled, the next begin when the last part has ended: never too many."""
    if part.max_parallel_tasks is None or last.job_id is None:
        return part
    options = dict(part.options)
    before = options.get("dependency", "")
    if "?" in before:
        raise SubmitRefusedError(
            "runs that are throttled in several parts cannot wait for any of several jobs",
            hint="Leave out the limit on parallel tasks, or wait for all of these jobs.",
        )
    after = f"afterany:{last.job_id.partition('_')[0]}"
    options["dependency"] = f"{before},{after}" if before else after
    return replace(part, options=tuple(sorted(options.items())))


async def _submit_part(
    tools: Tools, site: ClusterSite, batch: Batch, *, is_first: bool = True
) -> tuple[Receipt, ...]:
    receipts = _receipts(tools, batch, site)
    images, submission = rebuild_submission(tools, receipts)
    if is_first:
        await _deliver(tools, site, images)
    else:
        submission = replace(submission, has_time=True)
    submission = _with_secrets(tools, submission)
    tools.record.promise(receipts)
    # From now on the record names the origin, too.
    if batch.origin is not None:
        tools.guard.release(batch.origin)
    job_ids = await _act(tools, site, submission)
    return tuple(
        replace(receipt, job_id=job_id) for receipt, job_id in zip(receipts, job_ids, strict=True)
    )


async def settle(tools: Tools, *, experiment_id: int | None = None) -> list[ReproError]:
    """
    Finish what an earlier command promised and could not confirm.

    Each such submission is looked up with its cluster and submitted if it never arrived; the
    token makes that safe, whatever happened before, and beside a launch that is still running.

    Returns:
        What stood in the way, one error for each submission that is still open.
    """
    troubles: list[ReproError] = []
    promised = [
        receipt
        for receipt in tools.record.unconfirmed()
        if experiment_id in {None, receipt.experiment_id}
    ]
    promised.sort(key=lambda receipt: receipt.run_id)
    for _, group in groupby(promised, key=lambda receipt: receipt.run_id.token):
        receipts = tuple(group)
        try:
            site = tools.site(receipts[0].cluster)
            images, submission = rebuild_submission(tools, receipts)
            found = await site.cluster.find([submission.token])
            if submission.token not in found:
                await _deliver(tools, site, images)
                submission = _with_secrets(tools, submission)
            await _act(tools, site, submission)
        except ReproError as error:
            troubles.append(error)
    return troubles


def _receipts(tools: Tools, batch: Batch, site: ClusterSite) -> tuple[Receipt, ...]:
    token, now = tools.ids.token(), tools.now()
    options = told(site, batch.options)
    return tuple(
        Receipt(
            run_id=RunId(token=token, task=task),
            experiment_id=batch.experiment_id,
            unit_number=run.unit_number,
            unit=run.unit,
            cluster=batch.cluster,
            options=options if run.options is None else told(site, run.options),
            promised_at=now,
            tool_version=tools.version,
            replay_of=run.replay_of,
            origin=batch.origin,
            max_parallel_tasks=batch.max_parallel_tasks,
            member=run.member,
            inputs=batch.inputs,
        )
        for task, run in enumerate(batch.runs)
    )


def told(site: ClusterSite, options: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """What the cluster is told: *options* over those that it is always told."""
    return tuple(sorted({**dict(site.options), **dict(options)}.items()))


def rebuild_submission(
    tools: Tools, receipts: Sequence[Receipt]
) -> tuple[Sequence[Image], Submission]:
    """
    What receipts of one token say was, or will be, submitted, with its images. Reads the store
    only.

    Raises:
        IntegrityError: If the store lost the manifest or a unit.
    """
    first = receipts[0]
    row = tools.record.experiment(first.experiment_id)
    manifest = read_manifest(tools.store, row)
    known = {receipt.unit: read_unit(tools.store, receipt.unit) for receipt in receipts}
    job = known[first.unit].job(first.member)
    image = manifest.image(job.image)
    original = _first_of_replays(tools, first.experiment_id)
    group = () if first.member is None else _group(manifest, known[first.unit], receipts)
    submission = Submission(
        token=first.run_id.token,
        title=f"{row.id}: {row.title}" if row.title else str(row.id),
        image=image,
        workdir=job.workdir,
        resources=job.resources,
        network=job.network,
        tasks=tuple(_task(receipt, known, original) for receipt in receipts),
        options=first.options,
        max_parallel_tasks=first.max_parallel_tasks,
        full_check=first.replay_of is not None,
        secrets=_secret_names(known),
        group=group,
        inputs=_placed(job, first),
    )
    return list({m.image.manifest.digest: m.image for m in submission.members}.values()), submission


def _secret_names(units: Mapping[Digest, WorkUnit]) -> tuple[str, ...]:
    jobs = (job for unit in units.values() for job in unit.jobs)
    return tuple(sorted({name for job in jobs for name in job.secrets}))


def _placed(job: Job, receipt: Receipt) -> tuple[PlacedInput, ...]:
    paths = dict(receipt.inputs)
    return tuple(PlacedInput(content=each, path=paths[each.name]) for each in job.inputs)


def _with_secrets(tools: Tools, submission: Submission) -> Submission:
    return replace(submission, secret_values=tools.secrets.reveal(submission.secrets))


def _group(manifest: Manifest, unit: WorkUnit, receipts: Sequence[Receipt]) -> tuple[Member, ...]:
    jobs = [(unit.job(receipt.member), receipt) for receipt in receipts]
    return tuple(
        Member(
            name=job.name,
            image=manifest.image(job.image),
            workdir=job.workdir,
            resources=job.resources,
            network=job.network,
            options=receipt.options,
            secrets=job.secrets,
            inputs=_placed(job, receipt),
        )
        for job, receipt in jobs
    )


def _task(receipt: Receipt, units: Mapping[Digest, WorkUnit], experiment_id: int) -> Task:
    job = units[receipt.unit].job(receipt.member)
    return Task(
        run_id=receipt.run_id,
        argv=job.argv,
        env=job.env,
        run_env=(
            ("XMSLURM_EXPERIMENT_ID", str(experiment_id)),
            ("XMSLURM_RUN_ID", str(receipt.run_id)),
            ("XMSLURM_WORK_UNIT_ID", str(receipt.unit_number)),
        ),
    )


def _first_of_replays(tools: Tools, experiment_id: int) -> int:
    """The experiment that was replayed, through replays of replays: jobs see its number."""
    while True:
        replayed = tools.record.experiment(experiment_id).replay_of
        if replayed is None:
            return experiment_id
        experiment_id = replayed


async def _deliver(tools: Tools, site: ClusterSite, images: Sequence[Image]) -> None:
    for image in images:
        await _deliver_one(tools, site, image)


async def _deliver_one(tools: Tools, site: ClusterSite, image: Image) -> None:
    if site.repository is not None:
        tools.publisher.publish(image, site.repository, progress=tools.progress)
    try:
        await site.cluster.deliver(image, tools.blobs, tools.progress)
    except MissingObjectError as error:
        raise MissingObjectError(error.name, needed_by=f"image {image.manifest.digest}") from error


async def _act(tools: Tools, site: ClusterSite, submission: Submission) -> list[str]:
    try:
        job_id = await site.cluster.submit(submission)
    except SubmitRefusedError as error:
        tools.record.withdraw(submission.token, error.message)
        error.hint = error.hint or (
            f"Run `xmslurm-repro clusters check {site.cluster.name}` to see what it takes, and "
            "launch again with other options."
        )
        raise
    except ConnectionLostError as error:
        if not error.may_have_run:
            error.hint = error.hint or (
                "Nothing was submitted; the next command submits it once the host answers."
            )
        raise
    job_ids = task_job_ids(job_id, len(submission.tasks), is_group=bool(submission.group))
    tools.record.confirm(submission.token, job_ids)
    return job_ids


def task_job_ids(job_id: str, count: int, *, is_group: bool = False) -> list[str]:
    """
    The job id of each task: Slurm writes task 4 of array 123 as ``123_4``, and job 4 of group
    123 as ``123+4``.
    """
    if is_group:
        return [f"{job_id}+{task}" for task in range(count)]
    return [job_id] if count == 1 else [f"{job_id}_{task}" for task in range(count)]
