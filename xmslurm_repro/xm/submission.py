"""From jobs of a launch script to one submission: a job, or an array."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from absl import logging
from xmanager import xm

from xmslurm_repro.config import ClusterSettings
from xmslurm_repro.errors import ReproError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.run import Receipt
from xmslurm_repro.model.work import Job, Network, Resources, WorkUnit
from xmslurm_repro.services.launch import add_units, default_network, make_job
from xmslurm_repro.services.lookup import read_manifest
from xmslurm_repro.services.prepare import Prepared
from xmslurm_repro.services.submit import Batch, PlannedRun, settle, submit
from xmslurm_repro.services.tools import Tools
from xmslurm_repro.xm.access import row_of
from xmslurm_repro.xm.arguments import variables, words
from xmslurm_repro.xm.config import SlurmClusterConfig, as_toml
from xmslurm_repro.xm.executables import PackagedImage
from xmslurm_repro.xm.executors import Slurm
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError
from xmslurm_repro.xm.prerequisites import Waiting, plan_waiting

if TYPE_CHECKING:
    from xmslurm_repro.xm.experiment import SlurmExperiment
    from xmslurm_repro.xm.session import Session
    from xmslurm_repro.xm.units import SlurmWorkUnit

IDENTITY = "identity"
"""The note that holds a unit's identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    One job as it is submitted.

    Attributes:
        cluster: By name.
        scheduler: Of that cluster: ``slurm`` or ``local``.
        options: What the cluster is told beyond the job.
        kill_on_invalid_dependencies: What becomes of it when what it waits for can never be.
    """

    prepared: Prepared
    job: Job
    cluster: str
    scheduler: str
    options: tuple[tuple[str, str], ...]
    max_parallel_tasks: int | None
    kill_on_invalid_dependencies: bool


def ask(tools: Tools, session: Session, job: xm.Job, *, is_group: bool = False) -> Asked:
    """
    Everything that decides a job, from what a launch script said and the defaults.

    Raises:
        ArgumentError: If it makes no sense.
        UnknownClusterError: If there is no such cluster.
    """
    executable, executor = job.executable, job.executor
    if not isinstance(executable, PackagedImage):
        raise ArgumentTypeError(
            f"{executable!r} was not packaged here", hint="Use what `experiment.package` returned."
        )
    if not isinstance(executor, Slurm):
        raise ArgumentTypeError(f"the executor must be a Slurm(…), not {executor!r}")
    described = executor.requirements.cluster
    if isinstance(described, SlurmClusterConfig):
        _describe(session, described, job)
    settings = session.cluster(executor.requirements.cluster_name)
    site = tools.site(executor.requirements.cluster_name)
    resources = executor.requirements.to_resources(
        tools.defaults.resources,
        gpu_types=dict(settings.gpu_types),
        time_limit_minutes=executor.time_limit_minutes,
        nodes=executor.nodes,
    )
    network = (
        Network(executor.network)
        if executor.network
        else default_network(tools, resources, is_group=is_group)
    )
    env = {
        **dict(site.env),
        **(_environment(described)),
        **variables(executable.env_vars),
        **variables(job.env_vars),
    }
    return Asked(
        prepared=executable.prepared,
        job=_job(job, executable, env, resources, network, tools.defaults.secrets),
        cluster=site.cluster.name,
        scheduler=settings.scheduler,
        options=_options(executor, settings),
        max_parallel_tasks=executor.max_parallel_tasks,
        kill_on_invalid_dependencies=executor.kill_on_invalid_dependencies,
    )


def _describe(session: Session, described: SlurmClusterConfig, job: xm.Job) -> None:
    """Make the cluster known, and let its description have a look at the job."""
    settings = described.to_settings()
    if session.describe(settings):
        sys.stderr.write(
            f"cluster {described.name} is known to this script only; for `status`, `logs` and "
            f"`replay`, put this into a configuration file:\n\n{as_toml(settings)}\n"
        )
    if described.validate is not None:
        described.validate(job)


def _environment(described: str | SlurmClusterConfig | None) -> Mapping[str, str]:
    if not isinstance(described, SlurmClusterConfig):
        return {}
    return variables(described.container_environment)


def _options(executor: Slurm, settings: ClusterSettings) -> tuple[tuple[str, str], ...]:
    described = executor.requirements.cluster
    weak = dict(described.options()) if isinstance(described, SlurmClusterConfig) else {}
    strong = executor.submit_options(scheduler=settings.scheduler)
    return tuple(sorted({**weak, **dict(strong)}.items()))


def _job(
    job: xm.Job,
    executable: PackagedImage,
    env: Mapping[str, str],
    resources: Resources,
    network: Network,
    secrets: Sequence[str],
) -> Job:
    given = words(xm.merge_args(executable.args, job.args))
    try:
        return make_job(
            executable.prepared,
            argv=(*executable.entrypoint, *(given or executable.default_arguments)),
            env=env,
            resources=resources,
            network=network,
            name=job.name or executable.name,
            secrets=secrets,
        )
    except ValueError as error:
        raise ArgumentError(f"job {job.name or executable.name}: {error}") from error


def check_array(asked: Sequence[Asked]) -> None:
    """
    Refuse an array whose tasks differ in more than command and variables.

    Raises:
        ArgumentError: Naming everything that differs.
    """
    differing = [
        what
        for what, values in (
            ("executable", {each.job.image for each in asked}),
            ("working folder", {each.job.workdir for each in asked}),
            ("requirements or time", {each.job.resources for each in asked}),
            ("network", {each.job.network for each in asked}),
            ("cluster", {each.cluster for each in asked}),
            ("executor options", {each.options for each in asked}),
            ("max_parallel_tasks", {each.max_parallel_tasks for each in asked}),
            (
                "kill_on_invalid_dependencies",
                {each.kill_on_invalid_dependencies for each in asked},
            ),
        )
        if len(values) > 1
    ]
    if differing:
        raise ArgumentError(
            f"the jobs of an array differ in {', '.join(differing)}",
            hint="Only arguments and variables may differ. Add the others one by one.",
        )


class Submitter:
    """Submits the jobs of one experiment's units, one submission after the other."""

    def __init__(self, experiment: SlurmExperiment) -> None:
        """Submit for *experiment*."""
        self._experiment = experiment
        # Made when first needed: it belongs to the event loop that is running then.
        self._lock: asyncio.Lock | None = None
        self._is_settled = False

    async def submit(self, pairs: Sequence[tuple[SlurmWorkUnit, xm.Job]]) -> None:
        """
        Submit jobs of units at once; units that have a run already are left alone.

        Raises:
            ReproError: As `services.submit.submit`.
        """
        access = self._experiment.access
        tools = access.demand()
        self._lock = self._lock or asyncio.Lock()
        asked = [(unit, ask(tools, access.session, job)) for unit, job in pairs]
        check_array([each for _, each in asked])
        async with self._lock:
            await self._settle(tools)
        while fresh := [(unit, each) for unit, each in asked if not _has_run(tools, unit)]:
            # Others may submit while this one waits for what the local scheduler cannot wait for.
            plan = await plan_waiting(
                tools,
                [unit.dependency for unit, _ in fresh],
                cluster=fresh[0][1].cluster,
                scheduler=fresh[0][1].scheduler,
            )
            async with self._lock:
                if any(_has_run(tools, unit) for unit, _ in fresh):
                    continue
                for waiting in plan:
                    await self._submit(tools, fresh[waiting.tasks], waiting)
                return

    async def _submit(
        self, tools: Tools, fresh: Sequence[tuple[SlurmWorkUnit, Asked]], waiting: Waiting
    ) -> None:
        experiment_id, first = self._experiment.experiment_id, fresh[0][1]
        runs = _plan_runs(tools, experiment_id, fresh)
        for unit, _ in fresh:
            if unit.identity:
                tools.record.annotate(experiment_id, unit.work_unit_id, IDENTITY, unit.identity)
        batch = Batch(
            experiment_id=experiment_id,
            runs=tuple(runs),
            cluster=first.cluster,
            options=_waiting_options(first, waiting),
            origin=first.prepared.plan.origin,
            max_parallel_tasks=first.max_parallel_tasks,
        )
        try:
            receipts = await submit(tools, batch)
        except ReproError:
            # What was promised and is not known to be refused must not be submitted again, nor
            # what was submitted before something else was refused.
            known = {
                row.receipt.unit_number: row.receipt
                for row in tools.record.runs(experiment_id=experiment_id)
                if row.receipt.job_id is not None or not row.state.is_final
            }
            for unit, asked in fresh:
                unit.was_begun = True
                if unit.work_unit_id in known:
                    unit.submitted(known[unit.work_unit_id], asked.job.name)
            raise
        for (unit, asked), receipt in zip(fresh, receipts, strict=True):
            unit.submitted(receipt, asked.job.name)
        _say_submitted(receipts)

    async def _settle(self, tools: Tools) -> None:
        """Once for each experiment: finish what earlier processes could not confirm."""
        if self._is_settled:
            return
        self._is_settled = True
        for error in await settle(tools):
            logging.warning("%s", error.message)


def _waiting_options(asked: Asked, waiting: Waiting) -> tuple[tuple[str, str], ...]:
    if not waiting.option:
        return asked.options
    options = dict(asked.options)
    if "dependency" in options:
        raise ArgumentError(
            f"a dependency is given twice: {options['dependency']} in the executor's options and "
            f"{waiting.option} from the units it waits for",
            hint="Leave it out of `options`.",
        )
    options["dependency"] = waiting.option
    options["kill-on-invalid-dep"] = "yes" if asked.kill_on_invalid_dependencies else "no"
    return tuple(sorted(options.items()))


def _has_run(tools: Tools, unit: SlurmWorkUnit) -> bool:
    if unit.receipt is None:
        return False
    if unit.receipt.job_id is not None:
        return True
    row = row_of(tools, unit.receipt)
    return row.receipt.job_id is not None or not row.state.is_final


def _plan_runs(
    tools: Tools, experiment_id: int, fresh: Sequence[tuple[SlurmWorkUnit, Asked]]
) -> list[PlannedRun]:
    """Keep the units and let the manifest hold them; a run for each, with the unit's number."""
    row = tools.record.experiment(experiment_id)
    known = set(read_manifest(tools.store, row).units) if row.manifest else set()
    missing, runs = [], []
    works = [WorkUnit(jobs=(asked.job,)) for _, asked in fresh]
    with tools.store.batch() as batch:
        digests = [batch.put(canonical_json(work.to_json())) for work in works]
    for (unit, _), work, digest in zip(fresh, works, digests, strict=True):
        runs.append(PlannedRun(unit_number=unit.work_unit_id, unit=digest))
        # A process that was killed before it submitted may have left it in the manifest.
        if not (unit.was_begun and digest in known):
            missing.append(work)
    if missing:
        add_units(tools, experiment_id, fresh[0][1].prepared, missing)
    return runs


def _jobs(count: int) -> str:
    return "job" if count == 1 else "jobs"


def _say_submitted(receipts: Sequence[Receipt]) -> None:
    first, last = receipts[0], receipts[-1]
    units = (
        f"work unit {first.unit_number} is"
        if len(receipts) == 1
        else f"work units {first.unit_number} to {last.unit_number} are tasks of"
    )
    ids = dict.fromkeys((receipt.job_id or "").partition("_")[0] for receipt in receipts)
    jobs = f"job {first.job_id}" if len(receipts) == 1 else f"{_jobs(len(ids))} {', '.join(ids)}"
    sys.stderr.write(f"experiment {first.experiment_id}: {units} {jobs} on {first.cluster}\n")
