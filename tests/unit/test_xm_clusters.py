"""Clusters that a launch script describes itself."""

from __future__ import annotations

import subprocess
import tomllib

import pytest
from xmanager import xm

import xmslurm_repro.xm as xm_slurm
from tests.support.xm_world import World
from xmslurm_repro.config import ClusterSettings, load_settings
from xmslurm_repro.errors import NotSupportedError
from xmslurm_repro.model.work import Resources
from xmslurm_repro.xm import config
from xmslurm_repro.xm.accelerators import FeatureType, ResourceType
from xmslurm_repro.xm.contrib import clusters
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError
from xmslurm_repro.xm.session import describe_in

KEY = config.PublicKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIHg")
SSH = config.SSHConfig(
    endpoints=(config.Endpoint("robot.example.org", 2222), config.Endpoint("example.org", 2222)),
    public_key=KEY,
    user="me",
)


def cluster(**fields):
    return config.SlurmClusterConfig(**{"name": "beta", "ssh": SSH, **fields})


@pytest.fixture
def world():
    return World()


def test_a_description_becomes_settings():
    described = cluster(
        account="lab",
        partition="gpu",
        qos="high",
        runtime=config.ContainerRuntime.PODMAN,
        container_environment={"B": "$HOME", "A": "1"},
        resources={ResourceType.A100_80GIB: "a100l"},
        features={FeatureType.NVIDIA_NVLINK: "nvlink"},
        cwd="/scratch",
    )

    assert (
        ClusterSettings(
            name="beta",
            scheduler="slurm",
            transport="ssh",
            hosts=("robot.example.org", "example.org"),
            user="me",
            port=2222,
            host_keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHg",),
            runtime="podman",
            gpu_types=(("A100_80GIB", "a100l"),),
            options=(("account", "lab"), ("partition", "gpu"), ("qos", "high")),
            env=(("A", "1"), ("B", "$HOME")),
        )
        == described.to_settings()
    )


@pytest.mark.parametrize("runtime", ["singularity", "apptainer"])
def test_runtimes_that_do_not_show_in_a_job_are_taken_for_any(runtime):
    described = cluster(runtime=config.ContainerRuntime.from_string(runtime))

    assert "auto" == described.to_settings().runtime


def test_without_a_pinned_key_the_users_known_hosts_decide():
    described = cluster(ssh=config.SSHConfig(endpoints=(config.Endpoint("example.org"),)))

    assert ((), None, None) == (
        described.to_settings().host_keys,
        described.to_settings().known_hosts,
        described.to_settings().port,
    )


@pytest.mark.parametrize(
    "described",
    [
        cluster(
            account="lab",
            container_environment={"A b": 'say "x"\\ \n é \x7f'},
            resources={ResourceType.H100: "h100"},
            prolog='module load "apptainer"\n',
            epilog="true",
            host_environment={"A": "b"},
        ),
        cluster(name="a.b", ssh=config.SSHConfig(endpoints=(config.Endpoint("h"),))),
        clusters.mila(user="me", partition="main"),
        clusters.drac.narval(account="def-x"),
    ],
    ids=lambda described: described.name,
)
def test_what_is_to_be_put_into_a_configuration_file_means_the_same(described, tmp_path):
    text = config.as_toml(described.to_settings())
    file = tmp_path / "xmslurm-repro.toml"
    file.write_text(text)

    read = load_settings(environ={"HOME": str(tmp_path)}, start=tmp_path)

    assert described.name in tomllib.loads(text)["clusters"]
    assert described.to_settings() == read.clusters[described.name]


MOUNT = config.MountSpec("/data", kind=config.MountKind.DIR)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"mounts": {MOUNT}}, "/data:/data:rw"),
        (
            {
                "mounts": {
                    config.MountSpec(
                        "/a", "/b", kind=config.MountKind.FILE, mode=config.MountMode.RO
                    )
                }
            },
            "/a:/b:ro",
        ),
        ({"proxy": "submission-host"}, "no proxy"),
    ],
)
def test_what_would_let_a_job_see_more_than_was_recorded_is_refused(fields, problem):
    with pytest.raises(NotSupportedError, match=f"cluster beta: .*{problem}") as caught:
        cluster(**fields)

    assert caught.value.hint


def test_hosts_on_several_ports_are_refused():
    ssh = config.SSHConfig(endpoints=(config.Endpoint("a"), config.Endpoint("b", 2222)))

    with pytest.raises(NotSupportedError, match=r"a, \[b\]:2222 have several ports"):
        cluster(ssh=ssh).to_settings()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: cluster(name="a b"), ArgumentError),
        (lambda: cluster(name=3), ArgumentTypeError),
        (lambda: cluster(ssh="host"), ArgumentTypeError),
        (lambda: cluster(runtime="podman"), ArgumentTypeError),
        (lambda: config.SSHConfig(endpoints=()), ArgumentError),
        (lambda: config.SSHConfig(endpoints=("host",)), ArgumentTypeError),
        (
            lambda: config.SSHConfig(endpoints=(config.Endpoint("h"),), public_key="ssh-rsa x"),
            ArgumentTypeError,
        ),
        (lambda: config.ContainerRuntime.from_string("enroot"), ArgumentError),
    ],
)
def test_descriptions_are_checked(make, error):
    with pytest.raises(error):
        make()


def test_gpus_bring_their_own_driver_so_nothing_is_mounted():
    assert set() == config.nvidia_mounts(prefix="/opt")
    assert MOUNT == config.MountSpec("/data", "/data", kind="dir", mode="rw")
    assert 1 == len({MOUNT, config.MountSpec("/data", "/data", kind="dir", mode="rw")})
    gpu = xm_slurm.Slurm(requirements=xm_slurm.JobRequirements(gpu=1))
    assert [False, True] == [
        config.nvidia_gpu_selector(gpu),
        config.nvidia_gpu_selector(gpu, include_generic=True),
    ]


def test_a_job_runs_on_the_cluster_that_its_script_describes(world, capsys):
    checked = []
    described = cluster(
        partition="gpu",
        account="lab",
        container_environment={"A": "cluster", "B": "cluster"},
        resources={ResourceType.A100: "a100l"},
        validate=checked.append,
    )
    executor = xm_slurm.Slurm(
        requirements=xm_slurm.JobRequirements(a100=2, cluster=described), account="other"
    )
    job = world.job(executor=executor, env_vars={"A": "job"})
    with world.create() as experiment:
        experiment.add(job)
        experiment.add(job)

    first, second = world.cluster.submissions

    assert first.options == second.options
    assert {"account": "other", "partition": "gpu"}.items() <= dict(first.options).items()
    assert {"A": "job", "B": "cluster"}.items() <= dict(first.tasks[0].env).items()
    assert "a100l" == first.resources.gpu_type
    assert 2 == len(checked)
    said = capsys.readouterr().err
    assert 1 == said.count("cluster beta is known to this script only")
    assert "[clusters.beta]" in said


def test_what_validate_raises_stops_the_launch(world):
    def refuse(job):
        raise OSError(f"no {type(job).__name__} today")

    executor = xm_slurm.Slurm(
        requirements=xm_slurm.JobRequirements(cluster=cluster(validate=refuse))
    )
    with pytest.raises(OSError, match="no Job today"), world.create() as experiment:
        experiment.add(world.job(executor=executor))

    assert [] == world.commands


def test_two_clusters_of_one_name_are_refused(world):
    def script():
        with world.create() as experiment:
            for partition in ("a", "b"):
                requirements = xm_slurm.JobRequirements(cluster=cluster(partition=partition))
                experiment.add(world.job(executor=xm_slurm.Slurm(requirements=requirements)))

    with pytest.raises(ArgumentError, match="two different clusters are called beta"):
        script()

    assert 1 == len(world.commands)


def test_a_configured_cluster_stays_as_it_is():
    configured = ClusterSettings(name="beta", hosts=("real.example.org",))
    known = {"beta": configured}
    clusters_now = dict(known)

    assert describe_in(clusters_now, cluster().to_settings(), known=known) is False
    assert known == clusters_now


def test_what_goes_with_a_gpu_is_asked_for_where_nothing_else_is():
    described = cluster(
        recommended_resources={
            ResourceType.A100: lambda: {ResourceType.CPU: 12, ResourceType.RAM: 100 * xm.GiB},
            ResourceType.GPU: {ResourceType.CPU: 3},
        }
    )

    def resources(**asked):
        requirements = xm_slurm.JobRequirements(cluster=described, **asked)
        return requirements.to_resources(
            Resources(cpus=1), gpu_types={}, time_limit_minutes=None, nodes=None
        )

    assert (24, 200 * 1024) == (resources(a100=2).cpus, resources(a100=2).memory_mib)
    assert (5, 100 * 1024) == (resources(a100=1, cpu=5).cpus, resources(a100=1, cpu=5).memory_mib)
    assert 3 == resources(gpu=1).cpus
    assert 1 == resources(h100=1).cpus
    assert 1 == resources().cpus


@pytest.mark.parametrize(
    "name", ["fir", "killarney", "narval", "nibi", "rorqual", "tamia", "vulcan"]
)
def test_the_alliances_clusters_are_ready(name):
    described = getattr(clusters.cc, name)(user="me", account="def-x")
    settings = described.to_settings()

    assert f"{name}.alliancecan.ca" == settings.hosts[-1]
    assert (name, "me", (("account", "def-x"),)) == (settings.name, settings.user, settings.options)
    assert settings.gpu_types
    assert () == settings.host_keys
    with pytest.raises(NotSupportedError, match="mounts"):
        getattr(clusters.drac, name)(mounts={MOUNT})


def test_automation_hosts_come_first():
    assert ("robot.narval.alliancecan.ca", "narval.alliancecan.ca") == (
        clusters.drac.narval().to_settings().hosts
    )
    with pytest.raises(NotSupportedError, match="proxy"):
        clusters.drac.narval(proxy="submission-host")


def test_mila_is_ready():
    settings = clusters.mila(partition="long").to_settings()

    assert (("login.server.mila.quebec",), 2222) == (settings.hosts, settings.port)
    assert "a100l" == dict(settings.gpu_types)["A100_80GIB"]


def test_requirements_keep_a_described_cluster():
    described = cluster()
    before = xm_slurm.JobRequirements(cpu=1, cluster=described)

    assert described is before.replace(cpu=2).cluster
    assert "beta" == before.cluster_name
    assert "JobRequirements(cpu=1, cluster='beta')" == repr(before)
    assert "alpha" == before.replace(cluster="alpha").cluster_name


def test_variables_of_the_host_are_set_before_the_prolog_and_may_name_others():
    described = cluster(
        host_environment={"CACHE": '$SCRATCH/"a" `b` \\ $(c)', "TMP": "$X"}, prolog='echo "$CACHE"'
    )

    done = subprocess.run(
        ["bash", "-c", described.to_settings().setup],
        env={"SCRATCH": "/s", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert '/s/"a" `b` \\ $(c)\n' == done.stdout


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [("docker", "docker"), ("podman", "podman"), ("apptainer", "auto"), ("singularity", "auto")],
)
def test_a_runtime_is_the_one_of_that_name(runtime, expected):
    settings = cluster(runtime=config.ContainerRuntime.from_string(runtime)).to_settings()

    assert expected == settings.runtime
