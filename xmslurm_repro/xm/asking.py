"""What a launch script asks for, job by job, with the defaults of the cluster and the settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xmanager import xm

from xmslurm_repro.config import ClusterSettings
from xmslurm_repro.model.work import Job, Network, Resources
from xmslurm_repro.services.launch import default_network, make_job
from xmslurm_repro.services.prepare import Prepared
from xmslurm_repro.services.tools import Tools
from xmslurm_repro.xm.arguments import variables, words
from xmslurm_repro.xm.config import SlurmClusterConfig, as_toml
from xmslurm_repro.xm.executables import PackagedImage
from xmslurm_repro.xm.executors import Slurm
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError
from xmslurm_repro.xm.session import Session


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


def ask(tools: Tools, session: Session, job: xm.Job, *, member: str | None = None) -> Asked:
    """
    Everything that decides a job, from what a launch script said and the defaults.

    Args:
        tools: The world.
        session: Where clusters are known.
        job: The job.
        member: Its name in its group, if it is in one.

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
        else default_network(tools, resources, is_group=member is not None)
    )
    env = {
        **dict(site.env),
        **(_environment(described)),
        **variables(executable.env_vars),
        **variables(job.env_vars),
    }
    return Asked(
        prepared=executable.prepared,
        job=_job(job, executable, env, resources, network, tools.defaults.secrets, name=member),
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
    *,
    name: str | None,
) -> Job:
    given = words(xm.merge_args(executable.args, job.args))
    try:
        return make_job(
            executable.prepared,
            argv=(*executable.entrypoint, *(given or executable.default_arguments)),
            env=env,
            resources=resources,
            network=network,
            name=name or job.name or executable.name,
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
