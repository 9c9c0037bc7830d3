"""Units that wait for others, on a real Slurm and on a machine without one."""

from __future__ import annotations

import json

from tests.real.conftest import cluster_config

SCRIPT = """\
import asyncio
import datetime as dt
import functools
import json
import operator

from xmanager import xm

import xmslurm_repro.xm as xm_slurm
from xmslurm_repro.errors import SubmitRefusedError

COUNT = 12
STAMPS = "date +%s%N; sleep 1; date +%s%N"


async def times(unit):
    await unit.wait_until_complete()
    text = "".join([piece async for piece in unit.logs(num_lines=100)])
    return [int(word) for word in text.split()]


async def ending(unit):
    try:
        await unit.wait_until_complete()
    except xm.ExperimentUnitFailedError:
        return "failed"
    except xm.ExperimentUnitNotCompletedError:
        return "not completed"
    return "completed"


def option(unit):
    return dict(unit.receipt.options).get("dependency")


async def main(argv):
    async with xm_slurm.create_experiment("dependencies") as experiment:
        [image] = experiment.package(
            [xm_slurm.docker_image(image="default", args=["/bin/sh", "-c"])]
        )

        def job(text):
            return xm.Job(image, xm_slurm.Slurm(time=dt.timedelta(minutes=5)), args=[text])

        trials = [{"args": [str(number)]} for number in range(COUNT)]
        slow = await experiment.add(job(STAMPS), trials)
        pairs = await experiment.add(
            job(STAMPS), trials, dependency=[u.after_completed() for u in slow], identity="pairs"
        )
        everything = functools.reduce(operator.and_, [u.after_finished() for u in pairs])
        last = await experiment.add(job(STAMPS), dependency=everything, identity="last")
        failing = await experiment.add(job("sleep 4; exit 3"))
        never = await experiment.add(job("true"), dependency=failing.after_completed())
        mended = await experiment.add(job(STAMPS), dependency=failing.after_failed())
        either = await experiment.add(
            job(STAMPS), dependency=failing.after_completed() | slow[0].after_started()
        )
        options = {
            "pairs": sorted({option(unit) for unit in pairs}),
            "slow": slow[0].launched_jobs[0].address.partition("_")[0],
            "last": option(last),
            "pair": pairs[0].launched_jobs[0].address.partition("_")[0],
        }
        said = {
            "options": options,
            "slow": await asyncio.gather(*map(times, slow)),
            "pairs": await asyncio.gather(*map(times, pairs)),
            "last": await times(last),
            "ends": [await ending(unit) for unit in (failing, never, mended, either)],
        }
        after_all = await experiment.add(job("true"), dependency=last.after_completed())
        said["after all"] = [option(after_all), await ending(after_all)]
        print(json.dumps(said))
    try:
        async with xm_slurm.get_experiment(experiment.experiment_id) as experiment:
            failed = experiment.work_units[failing.work_unit_id]
            await experiment.add(job("true"), dependency=failed.after_completed())
    except SubmitRefusedError as error:
        print(json.dumps([error.message, *error.details]))
"""

LOCAL = """\
import datetime as dt
import json

from xmanager import xm

import xmslurm_repro.xm as xm_slurm


async def main(argv):
    async with xm_slurm.create_experiment("dependencies") as experiment:
        [image] = experiment.package(
            [xm_slurm.docker_image(image="default", args=["/bin/sh", "-c"])]
        )
        slow = await experiment.add(
            xm.Job(image, xm_slurm.Slurm(), args=["sleep 1; date +%s%N; exit $0"]),
            [{"args": ["0"]}, {"args": ["3"]}],
        )
        units = [
            await experiment.add(xm.Job(image, xm_slurm.Slurm(), args=["date +%s%N"]), dependency=d)
            for d in (slow[0].after_completed(), slow[1].after_failed() & slow[0].after_started())
        ]
        said = []
        for unit in [slow[0], *units]:
            await unit.wait_until_complete()
            said.append(int("".join([piece async for piece in unit.logs(follow=True)])))
        print(json.dumps(said))
        await experiment.add(
            xm.Job(image, xm_slurm.Slurm(), args=["true"]), dependency=slow[1].after_completed()
        )
"""


def test_units_on_slurm_wait_for_what_they_are_told_to(make_cli, testbed):
    cli = make_cli({"launch.py": SCRIPT}, config=cluster_config(testbed))

    done = cli.run("launch", "launch.py")
    said, refused = map(json.loads, done.stdout.splitlines())
    options = said["options"]

    assert [f"aftercorr:{options['slow']}"] == options["pairs"]
    assert f"afterany:{options['pair']}" == options["last"]
    for (_, ended), (started, _) in zip(said["slow"], said["pairs"], strict=True):
        assert ended < started
    assert max(ended for _, ended in said["pairs"]) < said["last"][0]
    assert ["failed", "not completed", "completed", "completed"] == said["ends"]
    assert [None, "completed"] == said["after all"]
    assert [
        "a job would wait for what can never be",
        "afterok: work unit 1/26 ended as failed",
    ] == (refused)


def test_a_replay_of_units_that_waited_waits_for_nothing(make_cli, testbed):
    cli = make_cli(
        {
            "launch.py": (
                "from xmanager import xm\n"
                "import xmslurm_repro.xm as xm_slurm\n"
                "async def main(argv):\n"
                "    async with xm_slurm.create_experiment('two') as experiment:\n"
                "        [image] = experiment.package([xm_slurm.docker_image(image='default')])\n"
                "        job = xm.Job(image, xm_slurm.Slurm(), args=['echo', 'x'])\n"
                "        first = await experiment.add(job)\n"
                "        second = await experiment.add(job, dependency=first.after_completed())\n"
                "        await second.wait_until_complete()\n"
            )
        },
        config=cluster_config(testbed),
    )
    cli.run("launch", "launch.py")

    replay = cli.json("replay", "1")

    assert ["R3", "R3"] == [verdict["level"] for verdict in replay["verdicts"]]


def test_a_machine_without_slurm_keeps_dependencies_too(make_cli):
    cli = make_cli({"launch.py": LOCAL})

    done = cli.run("launch", "launch.py", status=19)
    ended, first, second = json.loads(done.stdout)

    assert ended < min(first, second)
    assert "error: a job would wait for what can never be" in done.stderr
    assert "afterok: work unit 1/2 ended as failed" in done.stderr
    assert {"completed": 3, "failed": 1} == cli.json("list")[0]["states"]
