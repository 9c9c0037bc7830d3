"""Groups and replicas of a launch script, on a real Slurm over SSH."""

from __future__ import annotations

from tests.real.conftest import cluster_config

SCRIPT = """\
import datetime as dt
from xmanager import xm
import xmslurm_repro.xm as xm_slurm

async def main(argv):
    async with xm_slurm.create_experiment("group") as experiment:
        [image] = experiment.package(
            [xm_slurm.docker_image(image="default", args=["/bin/sh", "-c"])])

        def job(text, **asked):
            needs = xm_slurm.JobRequirements(cpu=1, **asked)
            executor = xm_slurm.Slurm(requirements=needs, time=dt.timedelta(minutes=5))
            return xm.Job(image, executor, args=[text])

        unit = await experiment.add(xm.JobGroup(
            learner=job("echo learnt > /xm/outputs/model;"
                        "echo $XMSLURM_JOB_GROUP_ACTORS_NODELIST"),
            actors=job("echo $RANK of $WORLD_SIZE; echo $RANK > /xm/outputs/$RANK", replicas=2),
        ))
        last = await experiment.add(job("true"), dependency=unit.after_completed())
        await unit.wait_until_complete()
        await last.wait_until_complete()
"""


def test_a_group_is_launched_seen_fetched_and_replayed(make_cli, testbed):
    cli = make_cli({"main.py": "print()\n"}, config=cluster_config(testbed))
    (cli.folder / "launch.py").write_text(SCRIPT)

    cli.run("launch", "launch.py")
    found = cli.json("status", "1")
    logs = cli.run("logs", "1").stdout.splitlines()
    cli.run("fetch", "1/1", "--to", "here")
    replay = cli.json("replay", "1", status=None)

    first = found[0]["job"].partition("+")[0]
    assert [f"{first}+0", f"{first}+1"] == [run["job"] for run in found[:2]]
    assert ["learner", "actors", None] == [run["member"] for run in found]
    assert {"completed"} == {run["state"] for run in found}
    assert "1/1 learner | " + found[1]["outcome"]["facts"]["node"] in logs
    assert {"1/1 actors | 0: 0 of 2", "1/1 actors | 1: 1 of 2"} <= set(logs)
    assert "learnt\n" == (cli.folder / "here" / "1-learner" / "model").read_text()
    assert "1\n" == (cli.folder / "here" / "1-actors" / "1").read_text()
    assert ["R3", "R3", "R3"] == [verdict["level"] for verdict in replay["verdicts"]]


def test_replicas_are_launched_from_the_command_line(make_cli, testbed):
    cli = make_cli({"main.py": "print()\n"}, config=cluster_config(testbed))
    words = ["sh", "-c", "echo $RANK of $WORLD_SIZE >/xm/outputs/$RANK"]

    launched = cli.launch(*words, options=("--wait", "--replicas", "2"))

    [status] = launched["status"]
    assert "completed" == status["state"]
    assert ["0", "1"] == [output["path"] for output in status["outcome"]["outputs"]]
