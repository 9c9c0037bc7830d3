"""Launch: read, resolve, plan, build, promise, act, confirm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from xmslurm_repro.errors import UsageError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.environment import process_environment
from xmslurm_repro.model.image import CODE_DIR, INPUTS_DIR, Image
from xmslurm_repro.model.lock import Lock
from xmslurm_repro.model.manifest import Manifest
from xmslurm_repro.model.run import Receipt
from xmslurm_repro.model.work import Input, Job, Network, Resources, WorkUnit
from xmslurm_repro.services.lookup import keep_manifest, read_manifest
from xmslurm_repro.services.prepare import CodeRequest, Plan, Prepared, build_image, plan_image
from xmslurm_repro.services.submit import Batch, PlannedRun, place_inputs, submit
from xmslurm_repro.services.tools import Tools

_TELLING = 6
"""Characters from which on it is no accident that a value stands somewhere else, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """
    One unit of a sweep.

    Attributes:
        argv: Its whole command.
        env: Variables of its own, over the launch's.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """
    What a person asks for with `launch`.

    Attributes:
        code: Which code in what image.
        argv: The command.
        env: Variables set beyond the usual ones.
        resources: What it asks of the cluster.
        network: What it may reach.
        title: For people; the command line when empty.
        cluster: By name; ``None`` for the default one.
        options: What the cluster is told beyond its defaults.
        sweep: Several units instead of the one command, in this order.
        max_parallel_tasks: How many units of a sweep may run at once.
        secrets: Names of variables whose values are sent to the job and recorded nowhere.
        inputs: Data on the cluster, by name; an empty path is the cluster's own for that name.
    """

    code: CodeRequest
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    network: Network = Network.NONE
    title: str = ""
    cluster: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    sweep: tuple[Trial, ...] = ()
    max_parallel_tasks: int | None = None
    secrets: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """What came of a launch."""

    experiment_id: int
    manifest: Digest
    plan: Plan
    image: Image
    receipts: tuple[Receipt, ...]
    remarks: tuple[str, ...] = ()


def default_network(tools: Tools, resources: Resources, *, is_group: bool = False) -> Network:
    """What jobs may reach that do not say it: processes that belong together reach each other."""
    if resources.replicas > 1 or is_group:
        return Network.HOST
    return tools.defaults.network


def make_job(
    prepared: Prepared,
    *,
    argv: Sequence[str],
    env: Mapping[str, str],
    resources: Resources,
    network: Network,
    name: str = "main",
    secrets: Sequence[str] = (),
    inputs: Sequence[Input] = (),
) -> Job:
    """A job of the prepared image, with its whole environment."""
    return Job(
        name=name,
        image=prepared.image.manifest.digest,
        argv=tuple(argv),
        env=process_environment(
            image_env=prepared.image.env,
            cpus=resources.cpus,
            user_env={**_local_packages(prepared), **_inputs_folder(inputs), **env},
        ),
        workdir=prepared.plan.workdir,
        resources=resources,
        network=network,
        secrets=tuple(sorted(set(secrets))),
        inputs=tuple(inputs),
    )


def _inputs_folder(inputs: Sequence[Input]) -> dict[str, str]:
    return {"XMSLURM_INPUTS": INPUTS_DIR} if inputs else {}


def _local_packages(prepared: Prepared) -> dict[str, str]:
    """Local packages that the lock names are imported from where they lie in the snapshot."""
    lock = prepared.plan.lock
    if lock is None or not lock.sources:
        return {}
    return {"PYTHONPATH": ":".join(f"{CODE_DIR}/{source}" for source in lock.sources)}


def add_units(
    tools: Tools, experiment_id: int, prepared: Prepared, units: Sequence[WorkUnit], *more: Prepared
) -> list[PlannedRun]:
    """
    Keep work units and let the experiment's manifest hold them, with their images and code: those
    of *prepared*, and *more*.

    Returns:
        A planned run for each unit; numbers go on from the experiment's last unit.
    """
    with tools.store.batch() as batch:
        digests = [batch.put(canonical_json(unit.to_json())) for unit in units]
    row = tools.record.experiment(experiment_id)
    before = read_manifest(tools.store, row) if row.manifest else _empty_manifest(row.title)
    manifest = _extended(before, prepared, digests)
    for other in more:
        manifest = _extended(manifest, other, ())
    tools.record.set_manifest(experiment_id, keep_manifest(tools.store, manifest))
    # From now on the record says that all this is needed.
    for each in (prepared, *more):
        tools.guard.release(each.plan.recipe)
    return [
        PlannedRun(unit_number=number, unit=digest)
        for number, digest in enumerate(digests, start=len(before.units) + 1)
    ]


def _empty_manifest(title: str) -> Manifest:
    return Manifest(title=title, snapshots=(), locks=(), images=(), units=())


def _extended(before: Manifest, prepared: Prepared, units: Sequence[Digest]) -> Manifest:
    images: dict[Digest, Image] = {image.manifest.digest: image for image in before.images}
    images[prepared.image.manifest.digest] = prepared.image
    # One lock file may mean other packages to each member of a workspace.
    locks = {*before.locks, *((prepared.plan.lock,) if prepared.plan.lock else ())}
    snapshots = {*before.snapshots, prepared.plan.snapshot.root}
    left_out = dict(before.left_out)
    if skipped := prepared.plan.snapshot.origin.skipped:
        left_out[prepared.plan.snapshot.root] = tuple(sorted(skipped))
    return Manifest(
        title=before.title,
        snapshots=tuple(sorted(snapshots)),
        locks=tuple(sorted(locks, key=_order_of_locks)),
        images=tuple(images[digest] for digest in sorted(images)),
        units=(*before.units, *units),
        left_out=tuple(sorted(left_out.items())),
    )


def _order_of_locks(lock: Lock) -> tuple[Digest, bytes]:
    return lock.digest, canonical_json(lock.to_json())


def plan_launch(tools: Tools, request: LaunchRequest) -> Plan:
    """
    All of a launch that decides something and changes nothing outside the store.

    Raises:
        UnknownClusterError: First of all, if there is no such cluster.
    """
    site = tools.site(request.cluster)
    return plan_image(tools, replace(request.code, architecture=site.architecture))


def _keep_apart(request: LaunchRequest, secrets: Mapping[str, str]) -> None:
    """
    Refuse a launch that would write down what it was asked to keep.

    Raises:
        UsageError: Naming the secret, not its value.
    """
    commands = [request.argv, *(trial.argv for trial in request.sweep)]
    variables = [request.env, *(dict(trial.env) for trial in request.sweep)]
    words = {word for command in commands for word in command}
    words |= {value for env in variables for value in env.values()} | {request.title}
    for name, value in secrets.items():
        if len(value) >= _TELLING and any(value in word for word in words):
            raise UsageError(
                f"the value of the secret {name} stands in the command or its variables, which are "
                "recorded",
                hint=f"Let the program read the variable {name} itself.",
            )


async def launch(tools: Tools, request: LaunchRequest, plan: Plan) -> Launched:
    """
    Build what was planned and submit it.

    Raises:
        ReproError: Before anything is submitted, or as `submit`.
    """
    site = tools.site(request.cluster)
    _keep_apart(request, dict(tools.secrets.reveal(request.secrets)))
    places = place_inputs(site, request.inputs)
    inputs = await site.cluster.survey(places) if places else ()
    prepared = build_image(tools, plan)
    units = [
        WorkUnit(
            jobs=(
                make_job(
                    prepared,
                    argv=trial.argv,
                    env={**dict(site.env), **request.env, **dict(trial.env)},
                    resources=request.resources,
                    network=request.network,
                    secrets=request.secrets,
                    inputs=inputs,
                ),
            )
        )
        for trial in request.sweep or (Trial(argv=request.argv),)
    ]
    experiment_id = tools.record.new_experiment(title=request.title, created_at=tools.now())
    runs = add_units(tools, experiment_id, prepared, units)
    batch = Batch(
        experiment_id=experiment_id,
        runs=tuple(runs),
        cluster=site.cluster.name,
        options=request.options,
        origin=plan.origin,
        max_parallel_tasks=request.max_parallel_tasks,
        inputs=places,
    )
    receipts = await submit(tools, batch)
    manifest = tools.record.experiment(experiment_id).manifest
    assert manifest is not None  # noqa: S101 (add_units has set it)
    return Launched(
        experiment_id=experiment_id,
        manifest=manifest,
        plan=plan,
        image=prepared.image,
        receipts=receipts,
        remarks=prepared.remarks,
    )
