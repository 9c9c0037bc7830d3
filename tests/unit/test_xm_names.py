"""Everything a script written for ``xm_slurm`` can name is there, and says so if it cannot be done."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import inspect

import pytest
from xmanager import xm

import xmslurm_repro.xm as xm_slurm
from xmslurm_repro.errors import NotSupportedError, ReproError
from xmslurm_repro.model.run import RunState
from xmslurm_repro.xm import config, executables, execution, resources, status
from xmslurm_repro.xm.console import Console, Verbatim
from xmslurm_repro.xm.experimental.parameter_controller import (
    ParameterControllerMode,
    parameter_controller,
)
from xmslurm_repro.xm.faults import ArgumentError
from xmslurm_repro.xm.job_blocks import get_args_for_python_entrypoint

# What the reference's modules have in public, and what their functions and values can be given.
NAMES = {
    "": """conda_container create_experiment docker_container docker_image Dockerfile DockerImage
        get_current_experiment get_current_work_unit get_experiment JobArgs JobRequirements
        mamba_container python_container ResourceQuantity ResourceType Slurm SlurmExperiment
        SlurmSpec Topology uv_container""",
    "config": """ContainerRuntime Endpoint PublicKey SSHConfig MountKind MountMode MountSpec
        SlurmClusterConfig RecommendedResourcesType nvidia_gpu_selector nvidia_mounts
        infiniband_mounts""",
    "console": "console",
    "contrib.clusters": "mila drac cc",
    "contrib.clusters.drac": "fir narval nibi rorqual killarney tamia vulcan",
    "dependencies": """SlurmDependencyException NoChainingException SlurmJobDependency
        SlurmJobDependencyAND SlurmJobDependencyOR SlurmJobDependencyAfter
        SlurmJobDependencyAfterAny SlurmJobDependencyAfterNotOK SlurmJobDependencyAfterOK
        SlurmJobArrayDependencyAfterOK""",
    "executables": "Dockerfile DockerImage ImageURI RemoteImage RemoteRepositoryCredentials",
    "executors": "Slurm SlurmSpec ResourceBindType",
    "execution": """SlurmExecutionError SlurmJob SlurmArrayJob SlurmHeterogeneousJob SlurmHandle
        SlurmExecutionClient get_client launch""",
    "experimental.parameter_controller": "ParameterControllerMode parameter_controller",
    "experiment": "SlurmExperiment SlurmWorkUnit",
    "job_blocks": "JobArgs get_args_for_python_entrypoint",
    "packageables": """docker_image docker_container python_container mamba_container
        conda_container uv_container""",
    "resources": """ResourceType AcceleratorType NVGPUAcceleratorType FeatureType Topology
        InvalidTopologyError ResourceQuantity JobRequirements""",
    "status": """SlurmJobState SlurmPendingJobStates SlurmRunningJobStates SlurmActiveJobStates
        SlurmCompletedJobStates SlurmFailedJobStates SlurmCancelledJobStates
        SlurmWorkUnitStatusEnum SlurmWorkUnitStatus""",
}
KEYWORDS = {
    ("", "docker_image"): "image args env_vars",
    ("", "docker_container"): """executor_spec dockerfile context target ssh build_args cache_from
        labels args env_vars""",
    ("", "python_container"): """executor_spec entrypoint context requirements base_image
        extra_system_packages extra_python_packages cache_from labels ssh args env_vars""",
    ("", "uv_container"): """executor_spec entrypoint context base_image extra_system_packages
        extra_python_packages cache_from labels ssh args env_vars""",
    ("", "mamba_container"): """executor_spec entrypoint context environment base_image cache_from
        labels ssh args env_vars""",
    ("", "Dockerfile"): "dockerfile context target ssh build_args cache_from labels platforms",
    ("", "DockerImage"): "image workdir",
    ("", "create_experiment"): "experiment_title",
    ("", "get_experiment"): "experiment_id",
    ("", "JobRequirements"): "resources replicas location cluster",
    ("", "Topology"): "mesh switches switches_grace_period",
    ("", "Slurm"): """requirements time bind bind_flag account partition qos priority reservation
        exclusive oversubscribe overcommit nice kill_on_invalid_dependencies timeout_signal
        timeout_signal_grace_period requeue requeue_on_exit_code requeue_on_timeout
        requeue_max_attempts""",
    ("config", "SSHConfig"): "endpoints public_key user",
    ("config", "MountSpec"): "host container kind mode selector",
    ("config", "SlurmClusterConfig"): """name ssh cwd prolog epilog account partition qos proxy
        runtime host_environment container_environment mounts resources features validate
        recommended_resources""",
    ("config", "nvidia_mounts"): "prefix selector",
    ("contrib.clusters", "mila"): "user partition mounts",
    ("contrib.clusters.drac", "narval"): "user account proxy mounts",
    ("contrib.clusters.drac", "fir"): "user account mounts",
    ("experimental.parameter_controller", "parameter_controller"): """executable executor
        controller_mode controller_name controller_args controller_env_vars""",
    ("experiment", "SlurmExperiment.add"): "job args role dependency identity",
    ("experiment", "SlurmWorkUnit.add"): "job args dependency identity",
    ("experiment", "SlurmWorkUnit.after_started"): "time",
    ("experiment", "SlurmWorkUnit.logs"): "num_lines block_size wait follow jobs raw",
}


def module(name: str):
    return importlib.import_module(f"xmslurm_repro.xm.{name}" if name else "xmslurm_repro.xm")


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there(name: str):
    missing = [each for each in NAMES[name].split() if not hasattr(module(name), each)]

    assert [] == missing


def test_modules_are_there_without_being_imported_one_by_one():
    modules = [name for name in NAMES if name and "." not in name]

    assert [] == [name for name in modules if not hasattr(xm_slurm, name)]


@pytest.mark.parametrize(("name", "function"), KEYWORDS)
def test_every_keyword_is_there(name: str, function: str):
    found = module(name)
    for part in function.split("."):
        found = getattr(found, part)
    known = inspect.signature(found).parameters

    assert [] == [each for each in KEYWORDS[name, function].split() if each not in known]


SPEC = xm_slurm.Slurm.Spec()
MODULE = xm.ModuleName("train")


@pytest.mark.parametrize(
    ("ask", "problem"),
    [
        (
            lambda: xm_slurm.docker_container(executor_spec=SPEC, ssh=True),
            "docker_container fetches nothing over SSH",
        ),
        (
            lambda: xm_slurm.uv_container(executor_spec=SPEC, entrypoint=MODULE, labels={"a": "b"}),
            "uv_container gives images no labels: a",
        ),
        (
            lambda: xm_slurm.python_container(executor_spec=SPEC, entrypoint=MODULE, ssh=True),
            "python_container fetches nothing over SSH",
        ),
        (
            lambda: parameter_controller(
                executable=None,
                executor=None,
                controller_mode=ParameterControllerMode.REMOTE_ONLY,
            ),
            "parameter controller",
        ),
        (execution.SlurmExecutionClient, "execution client"),
        (execution.get_client, "execution client"),
        (lambda: asyncio.run(execution.launch(job=None)), "without an experiment"),
        (config.infiniband_mounts, "InfiniBand"),
        (lambda: Console().print_json("{}"), "has no print_json"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name_with_a_way_out(ask, problem: str):
    with pytest.raises(NotSupportedError, match=problem) as caught:
        ask()

    assert (29, "not-supported") == (caught.value.exit_status, caught.value.code)
    assert caught.value.hint is not None
    assert isinstance(caught.value, ReproError)


def test_gpus_are_told_from_other_resources():
    kind = xm_slurm.ResourceType

    assert kind.A100 in resources.AcceleratorType
    assert kind.GPU in resources.AcceleratorType
    assert kind.GPU not in resources.NVGPUAcceleratorType
    assert isinstance(kind.H100_1G_10GIB, resources.NVGPUAcceleratorType)
    assert not isinstance(kind.CPU, resources.AcceleratorType)
    assert kind.A100 is resources.AcceleratorType.A100
    assert kind.L40S is resources.AcceleratorType["L40S"]
    assert len(list(resources.AcceleratorType)) == len(resources.AcceleratorType) > 35
    with pytest.raises(AttributeError):
        resources.AcceleratorType.CPU  # noqa: B018


def test_short_names_of_images_are_read_as_docker_reads_them():
    short = executables.ImageURI("python:3.11")
    pinned = short.with_digest("sha256:" + "a" * 64)

    assert ("docker.io", "library/python", "3.11", None) == (
        short.domain,
        short.path,
        short.tag,
        short.digest,
    )
    assert "docker.io/library/python:3.11" == str(short) == short.locator
    assert f"docker.io/library/python@{pinned.digest}" == pinned.locator
    assert executables.ImageURI("docker://docker.io/library/python:3.12") != short.with_tag("3.12")
    assert executables.ImageURI("python:3.12") == short.with_tag("3.12")
    with pytest.raises(ArgumentError):
        executables.ImageURI("Python:")


def test_an_entrypoint_is_also_given_as_arguments_of_python():
    assert ["-m", "train"] == get_args_for_python_entrypoint(MODULE).to_list(escaper=str)


def test_the_console_leaves_logs_as_they_are(capsys):
    Console().print(Verbatim("[loss] 0.1 [/path]"), end="")

    assert "[loss] 0.1 [/path]" == capsys.readouterr().out


def test_the_console_prints_text_without_markup(capsys):
    console = Console()
    console.print("[bold red]done[/] [1, 2]", r"\[kept]", 3, style="dim")
    with console.status("[b]waiting[/b]"):
        console.rule("x")

    done = capsys.readouterr()

    assert "done [1, 2] [kept] 3\n--- x ---\n" == done.out
    assert "waiting\n" == done.err
    assert not hasattr(console, "_private")


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        ([], "COMPLETED"),
        (["COMPLETED", "PENDING"], "PENDING"),
        (["COMPLETED", "RUNNING", "PENDING"], "RUNNING"),
        (["CANCELLED", "RUNNING"], "CANCELLED"),
        (["CANCELLED", "OUT_OF_MEMORY", "COMPLETED"], "FAILED"),
        (["SUSPENDED"], "RUNNING"),
        (["REQUEUED"], "PENDING"),
    ],
)
def test_several_jobs_stand_where_the_gravest_of_them_stands(states, worst):
    found = status.SlurmWorkUnitStatus.aggregate([status.SlurmJobState[s] for s in states])

    assert status.SlurmWorkUnitStatusEnum[worst] is found.status


def test_every_state_of_a_job_has_one_meaning():
    groups = (
        status.SlurmPendingJobStates,
        status.SlurmRunningJobStates,
        status.SlurmCompletedJobStates,
        status.SlurmFailedJobStates,
        status.SlurmCancelledJobStates,
    )

    assert 15 == sum(map(len, groups)) == len(frozenset().union(*groups))
    assert status.SlurmJobState.CANCELLED is status.SlurmJobState.from_slurm_str("CANCELLED by 7")
    assert status.SlurmJobState.TIMEOUT is status.SlurmJobState.from_slurm_str("TIMEOUT+")
    with pytest.raises(ArgumentError):
        status.SlurmJobState.from_slurm_str("")


@pytest.mark.parametrize("state", list(RunState))
def test_only_a_completed_run_is_a_completed_unit(state: RunState):
    found = status.SlurmWorkUnitStatus(state)

    assert found.is_completed is state.is_success
    assert found.is_active is (not state.is_final)


def test_requeueing_is_on_only_where_it_is_asked_for():
    def said(**fields):
        return dict(xm_slurm.Slurm(**fields).submit_options()).keys() & {"requeue", "no-requeue"}

    assert {"requeue"} == said() == said(requeue=True)
    assert {"no-requeue"} == said(requeue=False) == said(requeue_max_attempts=0)
    assert {"no-requeue"} == said(
        requeue=False, requeue_on_exit_code=42, requeue_on_timeout=True, requeue_max_attempts=5
    )


def test_a_grace_period_counts_days_and_reaches_the_command():
    three_days = xm_slurm.Slurm(
        time=dt.timedelta(days=3), timeout_signal_grace_period=dt.timedelta(minutes=15)
    )

    assert "900" == dict(three_days.submit_options())["timeout-grace"]
    assert dt.timedelta(days=2, hours=23, minutes=45) == three_days.requeue_timeout
    assert 258300 == three_days.requeue_timeout.total_seconds()
    assert "signal" not in dict(xm_slurm.Slurm().submit_options())


def test_bindings_are_options_of_sbatch():
    executor = xm_slurm.Slurm(
        bind={
            xm_slurm.ResourceType.GPU: "closest",
            xm_slurm.ResourceType.RAM: None,
            "shard": "single:1",
            "nic": None,
        },
        bind_flag="enforce-binding",
        requeue=False,
    )

    assert [
        "--gpu-bind=closest",
        "--gres-flags=enforce-binding",
        "--mem-bind=none",
        "--no-requeue",
        "--tres-bind=gres/shard:single:1+gres/nic:none",
    ] == executor.batch_directives()
    assert [] == executor.step_directives()


@pytest.mark.parametrize(
    ("fields", "error", "problem"),
    [
        ({"bind": {xm_slurm.ResourceType.CPU: "x"}}, TypeError, "bind takes ResourceType.GPU"),
        ({"bind": {"nic": 3}}, TypeError, "bind takes text or None"),
        ({"bind_flag": 3}, TypeError, "bind_flag must be a str"),
        ({"timeout_signal": 12}, TypeError, "timeout_signal must be a signal"),
        ({"timeout_signal_grace_period": 90}, TypeError, "must be a timedelta"),
        ({"timeout_signal_grace_period": dt.timedelta(days=1)}, ValueError, "from 1 to 65535"),
        (
            {"time": dt.timedelta(minutes=1), "timeout_signal_grace_period": dt.timedelta(hours=1)},
            ValueError,
            "leaves nothing",
        ),
        ({"requeue_on_exit_code": 0}, ValueError, "must not be 0"),
        ({"requeue_on_exit_code": "42"}, TypeError, "must be a whole number"),
        ({"requeue_on_timeout": 1}, TypeError, "requeue_on_timeout must be a bool"),
        ({"requeue_max_attempts": -1}, ValueError, "at least 0"),
    ],
)
def test_fields_about_ends_and_bindings_are_checked(fields: dict, error: type, problem: str):
    with pytest.raises(error, match=problem):
        xm_slurm.Slurm(**fields)
