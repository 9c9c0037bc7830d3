"""What jobs ask for, in XManager's words and in ours."""

from __future__ import annotations

import datetime as dt

import pytest
from xmanager import xm

from xmslurm_repro.errors import UsageError
from xmslurm_repro.model.work import Resources
from xmslurm_repro.xm import JobRequirements, ResourceType, Slurm, SlurmSpec, Topology
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError
from xmslurm_repro.xm.resources import InvalidTopologyError

REFERENCE_NAMES = """
CPU MEMORY RAM EPHEMERAL_STORAGE DISK GPU RTX8000 P4 P100 P100_16GIB V100 V100_32GIB
A100_40GIB A100 A100_7G_40GIB A100_40GIB_1G_5GIB A100_1G_5GIB A100_40GIB_1G_10GIB A100_1G_10GIB
A100_40GIB_2G_10GIB A100_2G_10GIB A100_40GIB_3G_20GIB A100_3G_20GIB A100_40GIB_4G_20GIB
A100_4G_20GIB A100_80GIB A100_80GIB_7G_80GIB A100_80GIB_1G_10GIB A100_80GIB_1G_20GIB
A100_80GIB_2G_20GIB A100_80GIB_3G_40GIB A100_80GIB_4G_40GIB A5000 A6000 H100_80GIB H100
H100_80GIB_7G_80GIB H100_80GIB_1G_10GIB H100_1G_10GIB H100_80GIB_1G_20GIB H100_1G_20GIB
H100_80GIB_2G_20GIB H100_2G_20GIB H100_80GIB_3G_40GIB H100_3G_40GIB H100_80GIB_4G_40GIB
H100_4G_40GIB H200_141GIB H200 H200_141GIB_7G_141GIB H200_141GIB_1G_18GIB H200_1G_18GIB
H200_141GIB_1G_35GIB H200_1G_35GIB H200_141GIB_2G_35GIB H200_2G_35GIB H200_141GIB_3G_71GIB
H200_3G_71GIB H200_141GIB_4G_71GIB H200_4G_71GIB L40S_48GIB L40S B200_180GIB B200
B200_180GIB_7G_180GIB B200_180GIB_1G_23GIB B200_1G_23GIB B200_180GIB_1G_45GIB B200_1G_45GIB
B200_180GIB_2G_45GIB B200_2G_45GIB B200_180GIB_3G_90GIB B200_3G_90GIB B200_180GIB_4G_90GIB
B200_4G_90GIB
"""


def resources(requirements: JobRequirements, **gpu_types: str) -> Resources:
    return requirements.to_resources(
        Resources(), gpu_types=gpu_types, time_limit_minutes=None, nodes=None
    )


def test_every_name_of_the_reference_is_known_and_no_other():
    assert sorted(REFERENCE_NAMES.split()) == sorted(ResourceType.__members__)
    assert ResourceType.RAM is ResourceType.MEMORY
    assert ResourceType.A100_1G_5GIB is ResourceType.A100_40GIB_1G_5GIB


def test_names_are_read_in_any_case_and_with_their_aliases():
    asked = JobRequirements(CPU=4, ram=16 * xm.GiB, Disk=xm.GiB, a100_40gib=2)

    assert Resources(cpus=4, memory_mib=16384, disk_mib=1024, gpus=2, gpu_type="a100") == resources(
        asked
    )


def test_members_and_names_may_be_mixed():
    asked = JobRequirements({ResourceType.GPU: 1, "cpu": 2}, memory="1048577")

    assert Resources(cpus=2, memory_mib=2, gpus=1) == resources(asked)


def test_a_cluster_may_have_names_of_its_own_for_gpus():
    assert "a100l" == resources(JobRequirements(a100_80gib=1), A100_80GIB="a100l").gpu_type
    assert (
        "slice" == resources(JobRequirements(a100_1g_5gib=1), A100_40GIB_1G_5GIB="slice").gpu_type
    )
    assert "h100" == resources(JobRequirements(h100=1), A100="x").gpu_type
    assert "mine" == resources(JobRequirements({"gpu:mine": 3})).gpu_type


def test_what_is_no_resource_type_is_a_generic_resource():
    assert (("licence", 2), ("nvme", 1)) == resources(JobRequirements(nvme=1, licence=2)).gres


def test_the_defaults_hold_where_nothing_is_asked_for():
    defaults = Resources(cpus=8, memory_mib=100, time_limit_minutes=5, gres=(("a", 1), ("b", 1)))

    asked = JobRequirements(memory=xm.GiB, a=2).to_resources(
        defaults, gpu_types={}, time_limit_minutes=7, nodes=2
    )

    assert asked == Resources(
        cpus=8, memory_mib=1024, time_limit_minutes=7, nodes=2, gres=(("a", 2), ("b", 1))
    )


def test_a_topology_spreads_gpus_over_replicas():
    asked = resources(JobRequirements(h100=Topology("2x4")))

    assert (2, 4) == (asked.gpus, asked.replicas)
    assert Resources(gpus=4) == resources(JobRequirements(gpu="4"))
    assert Resources(gpus=3, replicas=2) == resources(JobRequirements(gpu=6, replicas=2))
    with pytest.raises(ArgumentError, match="5 GPUs cannot be dealt evenly to 2 replicas"):
        resources(JobRequirements(gpu=5, replicas=2))


def test_places_and_switches_are_options():
    topology = Topology("2", switches=1, switches_grace_period=dt.timedelta(seconds=61))

    assert {"nodelist": "n1,n2", "switches": "1@2"} == JobRequirements(
        gpu=topology, location=["n1", "n2"]
    ).options()


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"ram": 16}, "MEMORY is 16 bytes, which is less than a MiB"),
        ({"cpu": 1.5}, "CPU must be a whole number, not 1.5"),
        ({"cpu": 0}, "CPU must be more than zero"),
        ({"cpu": float("nan")}, "CPU must be more than zero"),
        ({"cpu": -1}, "CPU must be more than zero"),
        ({"a100": 1, "h100": 1}, "both A100 and H100 are asked for"),
        ({"cpu": Topology("2")}, "a topology spreads GPUs, and CPU is none"),
        ({"ram": xm.GiB, "memory": xm.GiB}, "MEMORY is asked for twice"),
        ({"gpu": Topology("2x4"), "replicas": 3}, "has 4 replicas, not 3"),
        ({"replicas": 0}, "replicas must be at least 1"),
        ({"gpu": "2x"}, "'2x' is no topology"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict, problem: str):
    with pytest.raises(ArgumentError, match=problem) as caught:
        JobRequirements(**asked)

    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    "asked",
    [{"cpu": None}, {"cpu": True}, {"cluster": 3}, {"replicas": "two"}, {"resources": {3: 1}}],
)
def test_what_is_of_the_wrong_type_is_a_type_error(asked: dict):
    with pytest.raises(ArgumentTypeError) as caught:
        JobRequirements(**asked)

    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("mesh", ["", "0", "x", "2x", "2x4x8", "-1", "a", " 2", "2 x 4"])
def test_what_is_no_topology_is_refused(mesh: str):
    with pytest.raises(InvalidTopologyError):
        Topology(mesh)


def test_topologies_are_equal_by_what_they_say():
    assert Topology("2x4") == Topology("2x4")
    assert Topology("2x4") != Topology("2x4", switches=1)
    assert 1 == len({Topology("2"), Topology("2")})
    assert (8, 2) == (Topology("2x4").chip_count, Topology("2x4").ndim)


def test_requirements_can_be_said_anew_in_part():
    before = JobRequirements(cpu=4, a100=Topology("2x4"), cluster="alpha", location="n1")

    same = before.replace(cpu=8)
    other = before.replace(h100=1, replicas=2, cluster="beta")

    assert "JobRequirements(cpu=8, a100=8, replicas=4, cluster='alpha')" == repr(same)
    assert ("n1", Topology("2x4")) == (same.location, same.topology)
    assert "JobRequirements(cpu=4, h100=1, replicas=2, cluster='beta')" == repr(other)


def test_an_executor_says_its_options_in_sbatchs_words():
    executor = Slurm(
        account="lab",
        partition="gpu",
        reservation=iter(["a", "b"]),
        exclusive=True,
        nice=-5,
        mail_type=["END", "FAIL"],
        mail_user="a@example.org",
        options={"gres-flags": "enforce-binding", "spread-job": True, "partition": "cpu"},
    )

    said = executor.submit_options()

    assert said == executor.submit_options()
    assert said == (
        ("account", "lab"),
        ("exclusive", ""),
        ("gres-flags", "enforce-binding"),
        ("mail-type", "END,FAIL"),
        ("mail-user", "a@example.org"),
        ("nice", "-5"),
        ("partition", "cpu"),
        ("requeue", ""),
        ("reservation", "a,b"),
        ("spread-job", ""),
    )


def test_no_requeue_means_no_requeue():
    assert (("no-requeue", ""),) == Slurm(requeue=False).submit_options()
    assert (("requeue", ""),) == Slurm(requeue=True).submit_options()


def test_a_dependency_says_what_becomes_of_a_job_that_can_never_start():
    said = dict(
        Slurm(
            options={"dependency": "afterok:1"}, kill_on_invalid_dependencies=False
        ).submit_options()
    )

    assert ("afterok:1", "no") == (said["dependency"], said["kill-on-invalid-dep"])


def test_a_machine_without_slurm_is_told_only_what_was_asked_for():
    assert () == Slurm().submit_options(scheduler="local")
    assert (("partition", "x"),) == Slurm(partition="x").submit_options(scheduler="local")


def test_an_option_may_be_taken_away():
    assert () == Slurm(options={"requeue": False}).submit_options()


@pytest.mark.parametrize(
    ("span", "minutes"),
    [
        (dt.timedelta(days=3), 4320),
        (dt.timedelta(seconds=1), 1),
        (dt.timedelta(minutes=90, milliseconds=1), 91),
        (None, None),
    ],
)
def test_the_time_limit_counts_days_and_is_rounded_up(span: dt.timedelta | None, minutes: int):
    assert minutes == Slurm(time=span).time_limit_minutes


@pytest.mark.parametrize(
    ("fields", "error", "problem"),
    [
        ({"requirements": xm.JobRequirements(cpu=1)}, TypeError, "our own JobRequirements"),
        ({"time": 3}, TypeError, "time must be a timedelta"),
        ({"time": dt.timedelta(0)}, ValueError, "time must be more than zero"),
        ({"account": 3}, TypeError, "account must be a str"),
        ({"exclusive": 1}, TypeError, "exclusive must be a bool"),
        ({"requeue": "yes"}, TypeError, "requeue must be a bool"),
        ({"nice": 1 << 31}, ValueError, "nice must be from -2147483645 to 2147483645"),
        ({"nice": 1.5}, TypeError, "nice must be a whole number"),
        ({"priority": -1}, ValueError, "priority must be at least 0"),
        ({"nodes": 0}, ValueError, "nodes must be at least 1"),
        ({"max_parallel_tasks": True}, TypeError, "max_parallel_tasks must be a whole number"),
        ({"reservation": [1]}, TypeError, "reservation must be text or several texts"),
        ({"reservation": 1}, TypeError, "reservation must be text or several texts"),
        ({"exclusive": True, "oversubscribe": True}, ValueError, "contradict each other"),
        ({"network": "lan"}, ValueError, 'network must be "none" or "host"'),
        ({"options": {"--partition": "x"}}, ValueError, "no option's long name"),
        ({"options": {"partition": None}}, TypeError, "option partition must be text"),
    ],
)
def test_every_field_of_an_executor_is_checked(fields: dict, error: type, problem: str):
    with pytest.raises(error, match=problem) as caught:
        Slurm(**fields)

    assert isinstance(caught.value, UsageError)


def test_an_executor_has_a_spec():
    assert SlurmSpec(tag="registry.example/x") == Slurm.Spec(tag="registry.example/x")
    assert SlurmSpec() == Slurm().Spec()
