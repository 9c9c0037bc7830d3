"""Every field of `Slurm(…)` that decides something arrives at a real Slurm."""

from __future__ import annotations

import re

import pytest

from tests.real.conftest import cluster_config
from tests.real.test_submit_limits import configured

SCRIPT = """\
import datetime as dt
import signal
from xmanager import xm
import xmslurm_repro.xm as xm_slurm

GiB = 1 << 30
needs = xm_slurm.JobRequirements

def executors():
    yield "plain", xm_slurm.Slurm()
    yield "most", xm_slurm.Slurm(
        requirements=needs(cpu=2, ram=GiB),
        time=dt.timedelta(hours=1, seconds=1), account="lab", partition="low", qos="normal",
        constraint="cpu", exclude=["n1", "n2"], nodes=1, nice=7, begin="now+1hour",
        deadline="now+2days", licenses="matlab:1", mail_type=["END", "FAIL"],
        mail_user="me@example.org", exclusive=True, requeue=False,
        kill_on_invalid_dependencies=True, options={"comment": "mine", "reboot": False},
    )
    yield "shared", xm_slurm.Slurm(oversubscribe=True, overcommit=True, requeue=True,
        options={"hold": True, "time-min": "5"}, time=dt.timedelta(minutes=10))
    yield "gpus", xm_slurm.Slurm(
        requirements=needs({"gpu:fake": 2}, location="n1"),
        bind_flag="enforce-binding")
    yield "reserved", xm_slurm.Slurm(reservation="first")
    yield "reserved twice", xm_slurm.Slurm(reservation=["first", "second"])
    yield "limits", xm_slurm.Slurm(
        time=dt.timedelta(minutes=20), timeout_signal=signal.SIGUSR1,
        timeout_signal_grace_period=dt.timedelta(seconds=90), requeue_on_timeout=True,
        requeue_on_exit_code=42, requeue_max_attempts=3)
    yield "replicas", xm_slurm.Slurm(requirements=needs(
        {"gpu:fake": xm_slurm.Topology("1x2", switches=1)}, cpu=2))

async def main(argv):
    async with xm_slurm.create_experiment("fields") as experiment:
        [image] = experiment.package([xm_slurm.docker_image(image="default", args=["true"])])
        first = await experiment.add(xm.Job(image, xm_slurm.Slurm(options={"hold": True})))
        for name, executor in executors():
            unit = await experiment.add(xm.Job(image, executor), dependency=first.after_finished())
            print(name, unit.launched_jobs[0].address, sep="=")
        array = await experiment.add(
            xm.Job(image, xm_slurm.Slurm(max_parallel_tasks=2)), [{}, {}, {}],
            dependency=first.after_finished())
        print("array", array[0].launched_jobs[0].address.partition("_")[0], sep="=")
"""


@pytest.fixture(scope="module")
def bed(testbed):
    with configured(testbed, "Licenses=matlab:2"):
        for name, node in (("first", "n3"), ("second", "n4")):
            words = ["starttime=now", "duration=60", "flags=maint", f"nodes={node}"]
            who = f"users=root,{testbed.ssh_user}"
            testbed.run(
                ["scontrol", "create", "reservation", f"reservationname={name}", *words, who]
            )
        try:
            yield testbed
        finally:
            testbed.cancel_all()
            for name in ("first", "second"):
                testbed.run(["scontrol", "delete", f"reservationname={name}"])


def shown(bed, job_id: str) -> dict[str, str]:
    text = bed.run(["scontrol", "show", "job", "-o", job_id]).splitlines()[0]
    pairs = re.findall(r"([A-Za-z:/_]+)=(.*?)(?= [A-Za-z:/_]+=|$)", text)
    return {name: value.strip() for name, value in pairs}


def script_of(bed, job_id: str) -> str:
    return bed.run(["scontrol", "write", "batch_script", job_id, "-"])


def test_every_field_arrives(make_cli, bed):
    cli = make_cli({"main.py": "print()\n"}, config=cluster_config(bed))
    (cli.folder / "launch.py").write_text(SCRIPT)

    said = cli.run("launch", "launch.py").stdout
    jobs = dict(line.rsplit("=", 1) for line in said.splitlines() if "=" in line)

    plain = shown(bed, jobs["plain"])
    assert ("debug", "1", "1") == (plain["Partition"], plain["NumCPUs"], plain["Requeue"])
    assert plain["Dependency"].startswith("afterany:")

    most = shown(bed, jobs["most"])
    assert "2" == most["CPUs/Task"]
    assert "1G" == most["MinMemoryNode"]
    assert "01:01:00" == most["TimeLimit"]
    assert ("lab", "low", "normal") == (most["Account"], most["Partition"], most["QOS"])
    assert "cpu" == most["Features"]
    assert "n[1-2]" == most["ExcNodeList"]
    assert "7" == most["Nice"]
    assert most["EligibleTime"] > most["SubmitTime"]
    assert most["Deadline"] > most["EligibleTime"]
    assert "matlab:1" == most["Licenses"]
    assert ("me@example.org", "END,FAIL") == (most["MailUser"], most["MailType"])
    assert "NO" == most["OverSubscribe"]
    assert "0" == most["Requeue"]
    assert "mine" == most["Comment"]
    assert "Yes" == most["KillOInInvalidDependent"]

    both = shown(bed, jobs["shared"])
    assert "YES" == both["OverSubscribe"]
    assert "1" == both["Requeue"]
    assert "00:05:00" == both["TimeMin"]
    assert "#SBATCH --overcommit" in script_of(bed, jobs["shared"])

    gpus = shown(bed, jobs["gpus"])
    assert "gres:gpu:fake:2" == gpus["TresPerNode"]
    assert "n1" == gpus["ReqNodeList"]
    assert "#SBATCH --gres-flags=enforce-binding" in script_of(bed, jobs["gpus"])

    assert "first" == shown(bed, jobs["reserved"])["Reservation"]
    assert "first,second" == shown(bed, jobs["reserved twice"])["Reservation"]

    limits = shown(bed, jobs["limits"])
    assert "1" == limits["Requeue"]
    script = script_of(bed, jobs["limits"]).splitlines()
    assert "#SBATCH --signal=B:USR2@90" in script
    assert {
        "xm_again_codes=42",
        "xm_again_on_timeout=1",
        "xm_again_most=3",
        "xm_timeout_signal=USR1",
        "xm_timeout_grace=90",
    } <= set(script)

    replicas = shown(bed, jobs["replicas"])
    assert ("2", "2") == (replicas["NumTasks"], replicas["CPUs/Task"])
    assert "gres:gpu:fake:1" == replicas["TresPerTask"]
    assert "1" == replicas["Switches"].partition("@")[0]

    assert "2" == shown(bed, jobs["array"])["ArrayTaskThrottle"]
