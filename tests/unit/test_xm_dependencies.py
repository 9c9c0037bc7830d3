"""Units that wait for others, in a world of memory."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import operator

import pytest
from xmanager import xm

import xmslurm_repro.xm as xm_slurm
from tests.support.xm_world import World
from xmslurm_repro.errors import ConnectionLostError, SubmitRefusedError
from xmslurm_repro.model.run import RunState
from xmslurm_repro.xm import dependencies
from xmslurm_repro.xm.dependencies import NoChainingException, SlurmDependencyException
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError


@pytest.fixture
def world():
    return World()


def run(world, script, *, scheduler="slurm"):
    """Run *script* in an experiment; return what the submissions were told to wait for."""
    world.scheduler = scheduler

    async def main():
        async with world.create() as experiment:
            await script(experiment)

    asyncio.run(asyncio.wait_for(main(), 60))
    return [dict(each.options).get("dependency") for each in world.cluster.submissions]


def slowly(method):
    """The same as *method*, but others run before it does."""

    async def later(*args):
        await asyncio.sleep(0.001)
        return await method(*args)

    return later


def trials(count):
    return [{"args": [str(number)]} for number in range(count)]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda unit: unit.after_started(), "after:100"),
        (lambda unit: unit.after_started(time=dt.timedelta(0)), "after:100"),
        (lambda unit: unit.after_started(time=dt.timedelta(seconds=61)), "after:100+2"),
        (lambda unit: unit.after_started(time=dt.timedelta(days=3)), "after:100+4320"),
        (lambda unit: unit.after_finished(), "afterany:100"),
        (lambda unit: unit.after_completed(), "afterok:100"),
        (lambda unit: unit.after_failed(), "afternotok:100"),
        (lambda unit: unit.after_completed() & unit.after_started(), "afterok:100,after:100"),
        (lambda unit: unit.after_completed() | unit.after_failed(), "afterok:100?afternotok:100"),
        (lambda unit: unit.after_completed() & unit.after_completed(), "afterok:100"),
    ],
)
def test_a_unit_waits_in_slurms_words(world, ask, said):
    async def script(experiment):
        first = await experiment.add(world.job())
        await experiment.add(world.job(), dependency=ask(first))

    assert [None, said] == run(world, script)


def test_a_dependency_survives_an_identity(world):
    async def script(experiment):
        first = await experiment.add(world.job(), identity="first")
        await experiment.add(world.job(), dependency=first.after_completed(), identity="second")
        await experiment.add(
            world.job(), trials(2), dependency=first.after_completed(), identity="array"
        )

    assert [None, "afterok:100", "afterok:100"] == run(world, script)


def test_a_dependency_survives_a_group_of_one_and_a_generator(world):
    async def generator(unit, *, lr):
        await unit.add(world.job(args={"lr": lr}), dependency=seen[0].after_started())

    seen = []

    async def script(experiment):
        seen.append(await experiment.add(world.job()))
        group = xm.JobGroup(only=world.job())
        await experiment.add(group, dependency=seen[0].after_failed())
        await experiment.add(generator, {"lr": 1}, dependency=seen[0].after_finished())

    assert [None, "afternotok:100", "afterany:100,after:100"] == run(world, script)


def test_a_dependency_survives_a_lost_connection(world):
    async def script(experiment):
        first = await experiment.add(world.job())
        world.cluster.trouble["submit"] = ConnectionLostError("gone", may_have_run=True)
        await experiment.add(world.job(), dependency=first.after_completed(), identity="second")

    with pytest.raises(ConnectionLostError):
        run(world, script)
    world.cluster.trouble.clear()
    with world.get(1) as experiment:
        experiment.add(world.job())

    assert [None, "afterok:100", None] == [
        dict(each.options).get("dependency") for each in world.cluster.submissions
    ]


def test_a_unit_that_was_added_before_waits_for_nothing_again(world):
    async def script(experiment):
        first = await experiment.add(world.job(), identity="first")
        for _ in range(2):
            await experiment.add(world.job(), dependency=first.after_completed(), identity="second")

    assert [None, "afterok:100"] == run(world, script)


def test_a_unit_may_be_told_the_same_again(world):
    async def script(experiment):
        first = await experiment.add(world.job(), identity="first")
        either = first.after_completed() | first.after_failed()

        async def generator(unit):
            await unit.add(world.job(), dependency=either)

        for _ in range(2):
            await experiment.add(generator, dependency=either, identity="second")

    assert [None, "afterok:100?afternotok:100"] == run(world, script)


@pytest.mark.parametrize("waits", [False, True])
def test_a_unit_that_is_added_twice_at_once_is_submitted_once(world, waits):
    for name in ("observe", "submit", "deliver"):
        setattr(world.cluster, name, slowly(getattr(world.cluster, name)))

    async def script(experiment):
        first = await experiment.add(world.job())

        async def generator(unit):
            await unit.add(world.job())

        await asyncio.gather(
            *(
                experiment.add(
                    generator,
                    dependency=first.after_completed() if waits else None,
                    identity="second",
                )
                for _ in range(5)
            )
        )

    assert [None, "afterok:100" if waits else None] == run(world, script)


@pytest.mark.parametrize("count", [2, 11, 12, 300])
def test_arrays_of_any_length_wait_one_by_one(world, count):
    async def script(experiment):
        first = await experiment.add(world.job(), trials(count))
        await experiment.add(
            world.job(), trials(count), dependency=[unit.after_completed() for unit in first]
        )

    assert [None, "aftercorr:100"] == run(world, script)
    assert [count, count] == [len(each.tasks) for each in world.cluster.submissions]


def test_units_whose_numbers_do_not_correspond_are_submitted_one_by_one(world):
    async def script(experiment):
        first = await experiment.add(world.job(), trials(3))
        await experiment.add(
            world.job(), trials(3), dependency=[u.after_completed() for u in reversed(first)]
        )
        await experiment.add(
            world.job(), trials(2), dependency=[first[0].after_failed(), first[0].after_started()]
        )
        lone = [await experiment.add(world.job()) for _ in range(2)]
        await experiment.add(
            world.job(), trials(2), dependency=[unit.after_completed() for unit in lone]
        )

    assert [
        None,
        *("afterok:100_2", "afterok:100_1", "afterok:100_0"),
        *("afternotok:100_0", "after:100_0"),
        *(None, None),
        *("afterok:106", "afterok:107"),
    ] == run(world, script)
    assert [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] == [
        row.receipt.unit_number for row in world.tools.record.runs()
    ]


def test_a_job_may_wait_for_a_whole_array_or_for_a_part_of_it(world):
    async def script(experiment):
        first = await experiment.add(world.job(), trials(1200))
        whole = functools.reduce(operator.and_, [unit.after_completed() for unit in first])
        await experiment.add(world.job(), dependency=whole)
        await experiment.add(
            world.job(), trials(2), dependency=first[0].after_failed() & first[3].after_failed()
        )

    assert [None, "afterok:100", "afternotok:100_0:100_3"] == run(world, script)


def test_a_number_of_dependencies_that_fits_no_array_is_refused(world):
    async def script(experiment):
        first = await experiment.add(world.job(), trials(2))
        await experiment.add(
            world.job(), trials(3), dependency=[unit.after_completed() for unit in first]
        )

    with pytest.raises(ArgumentError, match="2 dependencies were given for 3 work units"):
        run(world, script)


def test_and_and_or_do_not_mix(world):
    async def script(experiment):
        unit = await experiment.add(world.job())
        done, failed, begun = unit.after_completed(), unit.after_failed(), unit.after_started()
        for mix in (
            lambda: (done | failed) & begun,
            lambda: begun & (done | failed),
            lambda: (done & failed) | begun,
            lambda: begun | (done & failed),
            lambda: begun | dependencies.SlurmJobDependencyAfterOK([*done.handles, *done.handles]),
        ):
            with pytest.raises(NoChainingException):
                mix()
        assert "after:100,afterok:100,afternotok:100" == (begun & done & failed).to_dependency_str()
        assert (
            "--dependency=after:100?afterok:100?afternotok:100"
            == (begun | (done | failed)).to_directive()
        )
        assert (
            "afterany:100,afterany:100"
            == (begun & done)
            .traverse(
                lambda part: (
                    unit.after_finished()
                    if isinstance(part, dependencies.SlurmJobDependencyLeaf)
                    else part
                )
            )
            .to_dependency_str()
        )

    run(world, script)


def test_what_is_no_dependency_is_refused(world):
    async def script(experiment):
        unit = await experiment.add(world.job())
        for wrong in (
            lambda: experiment.add(world.job(), dependency="afterok:1"),
            lambda: experiment.add(world.job(), dependency=unit),
            lambda: unit.after_completed() & "afterok:1",
            lambda: dependencies.SlurmJobDependencyAfterOK(["1"]),
            lambda: unit.after_started(time=3),
        ):
            with pytest.raises((ArgumentTypeError, ArgumentError)):
                wrong()
        for wrong in (
            lambda: dependencies.SlurmJobDependencyAfterOK([]),
            lambda: unit.after_started(time=-dt.timedelta(1)),
            lambda: dependencies.SlurmJobArrayDependencyAfterOK(unit.after_completed().handles),
        ):
            with pytest.raises(SlurmDependencyException):
                wrong()

    assert [None] == run(world, script)


def test_nothing_can_wait_for_a_unit_without_a_job(world):
    async def script(experiment):
        async def generator(unit):
            del unit

        empty = await experiment.add(generator)
        for ask in (empty.after_completed, empty.after_started, empty.after_finished):
            with pytest.raises(ArgumentError, match="work unit 1/1 has no job yet"):
                ask()

    run(world, script)


def test_a_dependency_given_twice_is_refused(world):
    async def script(experiment):
        first = await experiment.add(world.job())
        executor = xm_slurm.Slurm(options={"dependency": "singleton"})
        await experiment.add(world.job(executor=executor), dependency=first.after_completed())

    with pytest.raises(ArgumentError, match="singleton in the executor's options and afterok:100"):
        run(world, script)

    assert 1 == len(world.cluster.submissions)


def test_a_job_cannot_wait_for_one_on_another_cluster(world):
    async def script(experiment):
        first = await experiment.add(world.job())
        world.cluster.name = "beta"
        await experiment.add(world.job(), dependency=first.after_completed())

    with pytest.raises(ArgumentError, match="a job on beta cannot wait for work unit 1/1"):
        run(world, script)


def test_what_becomes_of_a_job_that_can_never_start_is_said(world):
    async def script(experiment):
        first = await experiment.add(world.job())
        for kill in (True, False):
            executor = xm_slurm.Slurm(kill_on_invalid_dependencies=kill)
            await experiment.add(world.job(executor=executor), dependency=first.after_completed())

    run(world, script)

    assert [None, "yes", "no"] == [
        dict(each.options).get("kill-on-invalid-dep") for each in world.cluster.submissions
    ]


@pytest.mark.parametrize(
    ("state", "met", "never"),
    [
        (RunState.COMPLETED, "after afterany afterok", "afternotok"),
        (RunState.FAILED, "after afterany afternotok", "afterok"),
        (RunState.CANCELLED, "after afterany afternotok", "afterok"),
        (RunState.RUNNING, "after", ""),
        (RunState.NODE_FAIL, "after", ""),
        (RunState.LOST, "after", ""),
    ],
)
def test_what_has_ended_is_not_waited_for(world, state, met, never):
    """Slurm forgets a job a few minutes after its end; the record does not."""

    async def script(experiment):
        first = await experiment.add(world.job())
        world.cluster.end(first.receipt.run_id, state=state)
        for ask in (
            first.after_started,
            first.after_finished,
            first.after_completed,
            first.after_failed,
        ):
            dependency = ask()
            before = len(world.cluster.submissions)
            if dependency.kind in never.split():
                with pytest.raises(SubmitRefusedError) as caught:
                    await world.submitted_apart(dependency)
                assert (f"{dependency.kind}: work unit 1/1 ended as {state.value}",) == (
                    caught.value.details
                )
                assert before == len(world.cluster.submissions)
                continue
            await experiment.add(world.job(), dependency=dependency)
            said = dict(world.cluster.submissions[-1].options).get("dependency")
            expected = None if dependency.kind in met.split() else f"{dependency.kind}:100"
            assert expected == said

    run(world, script)


def test_of_several_only_what_is_open_is_waited_for(world):
    async def script(experiment):
        ended, failed, open_one = [await experiment.add(world.job()) for _ in range(3)]
        world.cluster.end(ended.receipt.run_id)
        world.cluster.end(failed.receipt.run_id, state=RunState.FAILED)
        for dependency in (
            ended.after_completed() & open_one.after_completed(),
            failed.after_completed() | open_one.after_completed(),
            ended.after_completed() | open_one.after_completed(),
        ):
            await experiment.add(world.job(), dependency=dependency)

    assert ["afterok:102", "afterok:102", None] == run(world, script)[3:]


def test_the_minutes_after_a_start_go_on_after_the_end(world):
    async def script(experiment):
        first = await experiment.add(world.job())
        world.cluster.end(first.receipt.run_id)  # begun at 03:04:05, and it is 03:04:05
        await experiment.add(
            world.job(), dependency=first.after_started(time=dt.timedelta(hours=1))
        )
        await world.tools.clock.sleep(3600)
        await experiment.add(
            world.job(), dependency=first.after_started(time=dt.timedelta(hours=1))
        )

    assert [None, "after:100+60", None] == run(world, script)


@pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.FAILED])
def test_where_there_is_no_slurm_the_launch_itself_waits(world, state):
    seen = []

    async def script(experiment):
        first = await experiment.add(world.job())

        async def end():
            await asyncio.sleep(0.05)
            seen.append(len(world.cluster.submissions))
            world.cluster.end(first.receipt.run_id, state=state)

        task = asyncio.ensure_future(end())
        await experiment.add(world.job(), dependency=first.after_finished())
        await task

    assert [None, None] == run(world, script, scheduler="local")
    assert [1] == seen


@pytest.mark.parametrize("state", [RunState.NODE_FAIL, RunState.LOST, RunState.CANCELLED])
def test_where_there_is_no_slurm_what_can_never_be_is_not_waited_for(world, state):
    async def script(experiment):
        first = await experiment.add(world.job())
        world.cluster.end(first.receipt.run_id, state=state)
        await experiment.add(world.job(), dependency=first.after_completed())

    with pytest.raises(SubmitRefusedError, match="what can never be"):
        run(world, script, scheduler="local")

    assert 1 == len(world.cluster.submissions)


def test_one_to_one_holds_over_arrays_that_were_too_long_for_the_cluster(world):
    world.cluster.most_tasks = 4

    async def script(experiment):
        first = await experiment.add(world.job(), trials(9))
        await experiment.add(
            world.job(), trials(9), dependency=[u.after_completed() for u in first]
        )

    said = run(world, script)

    assert [None] * 3 + ["aftercorr:100", "aftercorr:101", "afterok:102"] == said
    assert [4, 4, 1, 4, 4, 1] == [len(each.tasks) for each in world.cluster.submissions]


def test_an_array_whose_parts_would_not_fit_those_it_waits_for_is_refused(world):
    async def script(experiment):
        first = await experiment.add(world.job(), trials(4))
        world.cluster.most_tasks = 3
        with pytest.raises(SubmitRefusedError, match="no more than 3 at once"):
            await experiment.add(
                world.job(), trials(4), dependency=[u.after_completed() for u in first]
            )

    with pytest.raises(SubmitRefusedError):
        run(world, script)
    assert 1 == len(world.cluster.submissions)
