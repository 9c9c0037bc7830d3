"""Groups of jobs and auxiliary units, in a world of memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from xmanager import xm

import xmslurm_repro.xm as xm_slurm
from tests.support.world import MemoryCluster
from tests.support.xm_world import World
from xmslurm_repro.errors import ConnectionLostError, NotSupportedError
from xmslurm_repro.model.run import RunState
from xmslurm_repro.services.lookup import select
from xmslurm_repro.services.replay import start_replay
from xmslurm_repro.services.tools import ClusterSite
from xmslurm_repro.xm.faults import ArgumentError


@pytest.fixture
def world():
    return World()


def run(world, script):
    async def main():
        async with world.create() as experiment:
            return await script(experiment)

    return asyncio.run(asyncio.wait_for(main(), 60))


def group_of(world):
    executor = xm_slurm.Slurm(requirements=xm_slurm.JobRequirements(cpu=2), partition="gpu")
    return xm.JobGroup(
        learner=world.job(args=["learn"], executor=executor),
        actors=xm.JobGroup(
            a=world.job(
                args=["act"], executable=world.executable(files={"actor.py": b"other code"})
            )
        ),
    )


def test_a_group_is_one_submission_of_a_unit_with_several_jobs(world):
    async def script(experiment):
        unit = await experiment.add(group_of(world))
        return [(job.name, job.address) for job in unit.launched_jobs]

    launched = run(world, script)

    [submission] = world.cluster.submissions
    assert ["learner", "actors.a"] == [member.name for member in submission.group]
    assert [2, 1] == [member.resources.cpus for member in submission.group]
    assert [{"partition": "gpu"}, {}] == [
        {name: value for name, value in member.options if name == "partition"}
        for member in submission.group
    ]
    assert 2 == len({member.image.manifest.digest for member in submission.group})
    assert {"host"} == {member.network.value for member in submission.group}
    assert 2 == len(world.cluster.delivered)
    assert [("learner", "100+0"), ("actors.a", "100+1")] == launched
    assert ["1/1 learner", "1/1 actors.a"] == [
        row.receipt.name for row in world.tools.record.runs()
    ]


def test_the_state_of_a_group_is_the_gravest_of_its_members(world):
    async def script(experiment):
        unit = await experiment.add(group_of(world))
        learner, actor = (row.receipt.run_id for row in world.tools.record.runs())
        world.cluster.end(learner)
        said = [(await unit.get_status()).message]
        world.cluster.end(actor, state=RunState.FAILED)
        said.append((await unit.get_status()).message)
        with pytest.raises(xm.ExperimentUnitFailedError, match="failed"):
            await unit.wait_until_complete()
        return said

    assert ["pending", "failed"] == run(world, script)


def test_others_wait_for_a_group_as_a_whole(world):
    async def script(experiment):
        unit = await experiment.add(group_of(world), identity="group")
        await experiment.add(world.job(), dependency=unit.after_completed())
        await experiment.add(
            group_of(world), dependency=unit.after_finished(), identity="after the group"
        )
        for row in world.tools.record.runs(experiment_id=1)[:2]:
            world.cluster.end(row.receipt.run_id)
        await experiment.add(world.job(), dependency=unit.after_completed())

    run(world, script)

    assert [None, "afterok:100", "afterany:100", None] == [
        dict(each.options).get("dependency") for each in world.cluster.submissions
    ]
    assert ["afterany:100"] * 2 == [
        dict(member.options)["dependency"] for member in world.cluster.submissions[2].group
    ]


def test_a_group_is_never_added_twice(world):
    async def script(experiment):
        await experiment.add(group_of(world), identity="once")

    run(world, script)

    async def again():
        async with world.get(1) as experiment:
            unit = await experiment.add(group_of(world), identity="once")
            return [job.address for job in unit.launched_jobs]

    assert ["100+0", "100+1"] == asyncio.run(again())
    assert 1 == len(world.cluster.submissions)


def test_a_group_of_which_nothing_is_known_is_looked_up_before_it_is_sent_again(world):
    world.cluster.late_trouble = {"submit": ConnectionLostError("gone", may_have_run=True)}

    async def script(experiment):
        await experiment.add(group_of(world), identity="once")

    with pytest.raises(ConnectionLostError):
        run(world, script)
    world.cluster.late_trouble = {}

    async def again():
        async with world.get(1) as experiment:
            await experiment.add(group_of(world), identity="once")

    asyncio.run(again())
    assert 1 == len(world.cluster.submissions)
    assert ["100+0", "100+1"] == [row.receipt.job_id for row in world.tools.record.runs()]


def test_a_replay_of_a_group_is_a_group(world, monkeypatch):
    async def script(experiment):
        await experiment.add(group_of(world))
        await experiment.add(world.job())

    run(world, script)
    monkeypatch.setattr("xmslurm_repro.services.replay.require_whole", lambda *_: None)
    monkeypatch.setattr("xmslurm_repro.services.replay.ensure_image", lambda *_, **__: False)

    replayed = asyncio.run(start_replay(world.tools, select(world.tools.record, "1")))

    assert ["learner", "actors.a", None] == [each.member for each in replayed.receipts]
    before, _, after, _ = world.cluster.submissions
    assert before.group == after.group
    assert [task.argv for task in before.tasks] == [task.argv for task in after.tasks]


def test_logs_of_a_group_have_the_name_before_each_line(world):
    world.cluster.printed = [b"one\ntw", b"o\n"]

    async def script(experiment):
        unit = await experiment.add(group_of(world))
        whole = sorted([line async for line in unit.logs(follow=True)])
        alone = "".join([text async for text in unit.logs(jobs=["learner"])])
        with pytest.raises(ArgumentError, match="no job nobody"):
            [text async for text in unit.logs(jobs=["nobody"])]
        return whole, alone

    whole, alone = run(world, script)

    assert ["actors.a | one\n", "actors.a | two\n", "learner  | one\n", "learner  | two\n"] == whole
    assert "one\ntwo\n" == alone


def test_a_group_for_several_clusters_is_refused(world):
    elsewhere = xm_slurm.Slurm(requirements=xm_slurm.JobRequirements(cluster="beta"))
    group = xm.JobGroup(a=world.job(), b=world.job(executor=elsewhere))
    world.tools = replace(
        world.tools, site=lambda name: ClusterSite(cluster=MemoryCluster(name=name or "alpha"))
    )

    async def script(experiment):
        with pytest.raises(ArgumentError, match="several clusters: alpha, beta"):
            await experiment.add(group)

    with pytest.raises(ArgumentError):
        run(world, script)


def test_what_is_no_program_in_a_group_is_refused(world):
    class Config(xm.JobConfig):
        pass

    async def script(experiment):
        with pytest.raises(NotSupportedError, match="Config in a group"):
            await experiment.add(xm.JobGroup(a=world.job(), b=Config()))

    with pytest.raises(NotSupportedError):
        run(world, script)


def test_auxiliary_units_are_submitted_like_others(world):
    async def script(experiment):
        await experiment.add(world.job(args=["a"]))
        unit = await experiment.add(
            xm.AuxiliaryUnitJob(world.job(args=["b"]), termination_delay_secs=1)
        )
        other = await experiment.add(
            world.job(args=["c"]), role=xm.AuxiliaryUnitRole(termination_delay_secs=1)
        )
        return [type(each._role).__name__ for each in (unit, other)]

    assert ["AuxiliaryUnitRole"] * 2 == run(world, script)
    assert ["a", "b", "c"] == [each.tasks[0].argv[-1] for each in world.cluster.submissions]
