"""Experiments as launch scripts know them, in a world of memory."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from xmanager import xm

import xmslurm_repro.xm as xm_slurm
from tests.support.xm_world import World
from xmslurm_repro.errors import ConnectionLostError, NotSupportedError, SubmitRefusedError
from xmslurm_repro.model.run import RunState
from xmslurm_repro.services.lookup import read_manifest, read_unit
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError, ExperimentNotFoundError


@pytest.fixture
def world():
    return World()


def end(world, unit, **how):
    world.cluster.end(unit.receipt.run_id, **how)


def test_a_job_is_submitted_with_its_exact_command(world, capsys):
    with world.create() as experiment:
        experiment.add(
            world.job(
                executable=world.executable(args={"lr": 0.1, "name": "default"}),
                args={"name": "it's $HOME *", "flag": True, "off": False, "skip": None},
            )
        )

    assert [
        [("python", "-m", "train", "--lr=0.1", "--name=it's $HOME *", "--flag", "--nooff")]
    ] == world.commands
    assert "experiment 1: work unit 1 is job 100 on alpha\n" in capsys.readouterr().err


def test_the_same_works_in_a_coroutine(world):
    async def main():
        async with world.create() as experiment:
            unit = await experiment.add(world.job(args=["a b"]))
            return unit.work_unit_id, unit.launched_jobs[0].address, unit.launched_jobs[0].name

    assert (1, "100", "train") == asyncio.run(main())
    assert [[("python", "-m", "train", "a b")]] == world.commands


def test_a_block_in_a_coroutine_must_be_async(world):
    async def main():
        with world.create():
            pass

    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(main())


def test_variables_of_the_job_outrank_those_of_the_executable(world):
    with world.create() as experiment:
        experiment.add(
            world.job(
                executable=world.executable(env_vars={"A": 1, "B": "two $HOME"}),
                env_vars={"A": 'say "x"'},
            )
        )

    env = dict(world.cluster.submissions[0].tasks[0].env)

    assert ('say "x"', "two $HOME") == (env["A"], env["B"])


def test_arguments_given_to_add_are_merged_into_the_job_and_leave_it_as_it_was(world):
    job = world.job(args={"lr": 1}, env_vars={"A": "1"})
    with world.create() as experiment:
        experiment.add(job, args={"args": {"lr": 2}, "env_vars": {"B": "2"}})

    assert [[("python", "-m", "train", "--lr=2")]] == world.commands
    assert {"B": "2", "A": "1"}.items() <= dict(world.cluster.submissions[0].tasks[0].env).items()
    assert {"lr": 1} == job.args.to_dict()
    assert {"A": "1"} == job.env_vars


def test_a_sequence_of_arguments_is_one_array(world, capsys):
    values = ["plain", "two words", "it's", '"q"', "$HOME", "a,b", "", "ä\n", "--x", "*"]
    with world.create() as experiment:
        experiment.add(
            world.job(env_vars={"COMMON": "1"}),
            args=[{"args": {"v": v}, "env_vars": {"V": v}} for v in values],
        )

    (submission,) = world.cluster.submissions

    assert [("python", "-m", "train", f"--v={v}") for v in values] == [
        task.argv for task in submission.tasks
    ]
    assert [(v, "1") for v in values] == [
        (dict(task.env)["V"], dict(task.env)["COMMON"]) for task in submission.tasks
    ]
    assert [f"100_{n}" for n in range(10)] == [
        run.receipt.job_id for run in world.tools.record.runs()
    ]
    assert "work units 1 to 10 are tasks of job 100 on alpha" in capsys.readouterr().err


def test_an_array_gives_back_its_units_in_order(world):
    async def main():
        async with world.create() as experiment:
            first = await experiment.add(world.job())
            units = await experiment.add(world.job(), args=[{"args": [n]} for n in range(3)])
            return [first.work_unit_id, *(unit.work_unit_id for unit in units)]

    assert [1, 2, 3, 4] == asyncio.run(main())


def test_an_array_may_be_throttled(world):
    with world.create() as experiment:
        experiment.add(
            world.job(executor=xm_slurm.Slurm(max_parallel_tasks=2)),
            args=[{"args": [n]} for n in range(3)],
        )

    assert 2 == world.cluster.submissions[0].max_parallel_tasks


def test_an_array_of_generators_is_one_submission(world):
    async def generator(work_unit, *, seed):
        await asyncio.sleep(0.01 * (3 - seed))
        await work_unit.add(world.job(args={"seed": seed, "unit": work_unit.work_unit_id}))

    with world.create() as experiment:
        experiment.add(generator, args=[{"seed": n} for n in range(3)])

    assert [
        [("python", "-m", "train", f"--seed={n}", f"--unit={n + 1}") for n in range(3)]
    ] == world.commands


def test_an_array_whose_generator_fails_submits_nothing_and_does_not_hang(world):
    async def generator(work_unit, *, seed):
        if seed == 1:
            raise OSError("no data")
        await work_unit.add(world.job())

    with pytest.raises(OSError, match="no data"), world.create() as experiment:
        experiment.add(generator, args=[{"seed": n} for n in range(3)])

    assert [] == world.commands


def test_an_array_whose_generator_adds_no_job_is_refused(world):
    async def generator(work_unit, *, seed):
        if seed != 1:
            await work_unit.add(world.job())

    with (
        pytest.raises(ArgumentError, match="generator of work unit 2 added no job"),
        world.create() as experiment,
    ):
        experiment.add(generator, args=[{"seed": n} for n in range(3)])

    assert [] == world.commands


def test_an_array_whose_jobs_differ_in_more_than_arguments_is_refused(world):
    async def generator(work_unit, *, minutes):
        executor = xm_slurm.Slurm(time=dt.timedelta(minutes=minutes), partition=f"p{minutes}")
        await work_unit.add(world.job(executor=executor))

    with (
        pytest.raises(ArgumentError, match="differ in requirements or time, executor options"),
        world.create() as experiment,
    ):
        experiment.add(generator, args=[{"minutes": n} for n in (1, 2)])

    assert [] == world.commands


@pytest.mark.parametrize(
    ("args", "problem"),
    [([], "without any arguments"), (["x"], "must be mappings"), ([{"arg": 1}], "arg")],
)
def test_an_array_needs_mappings_of_arguments(world, args, problem):
    with pytest.raises((ValueError, TypeError), match=problem), world.create() as experiment:
        experiment.add(world.job(), args=args)

    assert [] == world.commands


def test_a_generator_is_given_its_unit_and_its_arguments(world):
    seen = []

    async def generator(work_unit, *, lr):
        seen.append(
            (
                work_unit.work_unit_id,
                work_unit.experiment_id,
                xm_slurm.get_current_work_unit() is work_unit,
                xm_slurm.get_current_experiment() is work_unit.experiment,
            )
        )
        work_unit.add(world.job(args={"lr": lr}))

    with world.create() as experiment:
        experiment.add(generator, args={"lr": 0.5})

    assert [(1, 1, True, True)] == seen
    assert [[("python", "-m", "train", "--lr=0.5")]] == world.commands


def test_a_generator_without_a_job_takes_a_number_and_holds_up_nobody(world):
    async def generator(work_unit):
        del work_unit

    async def main():
        async with world.create() as experiment:
            empty = await experiment.add(generator)
            unit = await experiment.add(world.job())
            await empty.wait_until_complete()
            return unit.work_unit_id, (await empty.get_status()).is_completed

    assert (2, True) == asyncio.run(main())
    assert [2] == [run.receipt.unit_number for run in world.tools.record.runs()]


def test_a_generator_may_wait_for_a_unit_that_it_adds(world):
    async def main():
        async with world.create() as experiment:

            async def generator(work_unit):
                first = await experiment.add(world.job(args=["first"]))
                end(world, first)
                await first.wait_until_complete()
                await work_unit.add(world.job(args=["second"]))

            await experiment.add(generator)

    asyncio.run(asyncio.wait_for(main(), 20))

    assert [[("python", "-m", "train", "first")], [("python", "-m", "train", "second")]] == (
        world.commands
    )


def test_what_a_generator_raises_is_raised_when_the_block_ends(world):
    async def generator(work_unit):
        raise OSError("no data")

    def script():
        with world.create() as experiment:
            experiment.add(generator)
            experiment.add(world.job())

    with pytest.raises(OSError, match="no data"):
        script()

    assert [2] == [run.receipt.unit_number for run in world.tools.record.runs()]
    assert 0 == world.open_now


def test_jobs_enter_the_manifest_in_the_order_in_which_they_were_added(world):
    with world.create() as experiment:
        for number in range(20):
            experiment.add(world.job(args=[number]))

    manifest = read_manifest(world.tools.store, world.tools.record.experiment(1))

    assert [str(n) for n in range(20)] == [
        read_unit(world.tools.store, unit).jobs[0].argv[-1] for unit in manifest.units
    ]
    assert list(range(1, 21)) == [r.receipt.unit_number for r in world.tools.record.runs()]


def test_the_same_script_makes_the_same_manifest(world):
    def script():
        with world.create() as experiment:
            experiment.add(world.job(), args=[{"args": {"lr": n}} for n in (1, 2)])
            experiment.add(world.job(args=["last"]))
        return world.tools.record.experiment(experiment.experiment_id).manifest

    assert script() == script()


def test_an_identity_that_was_added_is_not_submitted_again(world):
    async def main():
        async with world.create() as experiment:
            first = await experiment.add(world.job(args=[1]), identity="seed")
            again = await experiment.add(world.job(args=[2]), identity="seed")
            return first is again

    assert asyncio.run(main())
    assert [[("python", "-m", "train", "1")]] == world.commands


def test_an_identity_is_known_to_later_processes(world):
    with world.create("mine") as experiment:
        experiment.add(world.job(args=[1]), identity="one")
        experiment.add(world.job(), args=[{"args": [n]} for n in range(3)], identity="sweep")
    with world.get(experiment.experiment_id) as again:
        again.add(world.job(args=[1]), identity="one")
        again.add(world.job(), args=[{"args": [n]} for n in range(4)], identity="sweep")
        again.add(world.job(args=["new"]), identity="new")

    assert ("mine", 6) == (again.experiment_title, again.work_unit_count)
    assert [
        [("python", "-m", "train", "1")],
        [("python", "-m", "train", str(n)) for n in range(3)],
        [("python", "-m", "train", "3")],
        [("python", "-m", "train", "new")],
    ] == world.commands
    assert {1: "one", 2: "sweep_0", 3: "sweep_1", 4: "sweep_2", 5: "sweep_3", 6: "new"} == {
        number: unit.identity for number, unit in again.work_units.items()
    }
    assert [1, 2, 3, 4, 5, 6] == [r.receipt.unit_number for r in world.tools.record.runs()]


def test_generators_run_again_for_an_identity_and_submit_nothing(world):
    ran = []

    async def generator(work_unit):
        ran.append(work_unit.work_unit_id)
        await work_unit.add(world.job())

    with world.create() as experiment:
        experiment.add(generator, identity="g")
    with world.get(1) as experiment:
        experiment.add(generator, identity="g")

    assert [1, 1] == ran
    assert 1 == len(world.commands)


def test_a_refused_unit_is_submitted_when_it_is_added_again(world):
    world.cluster.trouble["submit"] = SubmitRefusedError("Invalid account")
    with (
        pytest.raises(SubmitRefusedError, match="Invalid account"),
        world.create() as experiment,
    ):
        experiment.add(world.job(), identity="one")
    world.cluster.trouble.clear()
    manifest = world.tools.record.experiment(1).manifest

    with world.get(1) as experiment:
        experiment.add(world.job(), identity="one")

    assert [(1, RunState.CANCELLED), (1, RunState.PENDING)] == [
        (run.receipt.unit_number, run.state) for run in world.tools.record.runs()
    ]
    assert manifest == world.tools.record.experiment(1).manifest


@pytest.mark.parametrize("trouble", ["trouble", "late_trouble"])
def test_a_unit_of_which_nothing_is_known_is_never_submitted_twice(world, trouble):
    getattr(world.cluster, trouble)["submit"] = ConnectionLostError("gone", may_have_run=True)
    with pytest.raises(ConnectionLostError, match="gone"), world.create() as experiment:
        experiment.add(world.job(), identity="one")
    getattr(world.cluster, trouble).clear()

    for _ in range(2):
        with world.get(1) as experiment:
            experiment.add(world.job(), identity="one")

    assert 1 == len(world.cluster.submissions)
    assert ["100"] == [run.receipt.job_id for run in world.tools.record.runs()]


def test_within_one_process_a_lost_unit_is_not_submitted_twice_either(world):
    async def main():
        async with world.create() as experiment:
            world.cluster.late_trouble["submit"] = ConnectionLostError("gone", may_have_run=True)
            lost = experiment.add(world.job(), identity="one")
            await asyncio.wait([lost])
            world.cluster.late_trouble.clear()
            await experiment.add(world.job(), identity="one")

    with pytest.raises(ConnectionLostError):
        asyncio.run(main())

    assert 1 == len(world.tools.record.runs())


def test_waiting_returns_the_unit_when_its_run_has_ended_well(world):
    async def main():
        async with world.create() as experiment:
            units = await experiment.add(world.job(), args=[{"args": [n]} for n in range(3)])
            waiting = [asyncio.ensure_future(unit.wait_until_complete()) for unit in units]
            await asyncio.sleep(0)
            for unit in units:
                end(world, unit)
            return units == await asyncio.gather(*waiting)

    assert asyncio.run(main())


def test_one_question_is_asked_however_many_units_are_waited_for(world):
    async def main():
        async with world.create() as experiment:
            units = await experiment.add(world.job(), args=[{"args": [n]} for n in range(50)])
            for unit in units:
                end(world, unit)
            await asyncio.gather(*(unit.wait_until_complete() for unit in units))

    asyncio.run(main())

    assert 1 == world.cluster.asked.count("observe")


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (RunState.FAILED, xm.ExperimentUnitFailedError),
        (RunState.TIMEOUT, xm.ExperimentUnitFailedError),
        (RunState.OUT_OF_MEMORY, xm.ExperimentUnitFailedError),
        (RunState.NODE_FAIL, xm.ExperimentUnitFailedError),
        (RunState.REFUSED, xm.ExperimentUnitFailedError),
        (RunState.LOST, xm.ExperimentUnitFailedError),
        (RunState.CANCELLED, xm.ExperimentUnitNotCompletedError),
    ],
)
def test_waiting_raises_unless_the_run_has_ended_well(world, state, error):
    async def main():
        async with world.create() as experiment:
            unit = await experiment.add(world.job())
            end(world, unit, state=state)
            with pytest.raises(error, match=f"1/1 ended as {state.value}") as caught:
                await unit.wait_until_complete()
            assert caught.value.work_unit is unit

    asyncio.run(main())

    assert [state] == [run.state for run in world.tools.record.runs()]


def test_waiting_may_go_on_after_the_block(world):
    async def main():
        async with world.create() as experiment:
            unit = await experiment.add(world.job())
            other = await experiment.add(world.job())
            early = asyncio.ensure_future(unit.wait_until_complete())
            await asyncio.sleep(0.01)
        end(world, unit)
        end(world, other)
        await early
        await other.wait_until_complete()
        return (await unit.get_status()).is_completed

    assert asyncio.run(asyncio.wait_for(main(), 20))
    assert 0 == world.open_now


def test_after_a_synchronous_block_units_can_still_be_waited_for(world):
    with world.create() as experiment:
        experiment.add(world.job())
    (unit,) = experiment.work_units.values()
    end(world, unit, state=RunState.FAILED)

    with pytest.raises(xm.ExperimentUnitFailedError):
        asyncio.run(_wait(unit))


async def _wait(unit):
    await unit.wait_until_complete()


def test_a_status_says_where_a_unit_stands(world):
    async def main():
        async with world.create() as experiment:
            unit = await experiment.add(world.job())
            before = await unit.get_status()
            end(world, unit, state=RunState.FAILED)
            after = await unit.get_status()
            return before, after

    before, after = asyncio.run(main())

    assert (True, False, False) == (before.is_active, before.is_completed, before.is_failed)
    assert (False, False, True) == (after.is_active, after.is_completed, after.is_failed)
    assert ("pending", "failed") == (before.message, after.message)


def test_stopping_cancels_the_job(world):
    cancelled = []

    async def cancel(job_ids):
        cancelled.extend(job_ids)

    world.cluster.cancel = cancel
    with world.create() as experiment:
        experiment.add(world.job())
    (unit,) = experiment.work_units.values()
    unit.stop()
    with world.get(1) as experiment:
        experiment.work_units[1].stop()
    end(world, unit)
    asyncio.run(_wait(unit))
    unit.stop()

    assert ["100", "100"] == cancelled


def test_an_experiment_that_adds_nothing_leaves_nothing_behind(world):
    with world.create():
        pass

    assert () == tuple(world.tools.record.experiments())


def test_an_experiment_has_its_number_before_anything_is_added(world):
    experiment = world.create("titled")

    assert 1 == experiment.experiment_id
    with experiment:
        assert 1 == experiment.experiment_id
    assert ["titled"] == [row.title for row in world.tools.record.experiments()]


def test_an_unknown_experiment_is_not_found_in_both_senses(world):
    with pytest.raises(ExperimentNotFoundError, match="no experiment 7"):
        world.get(7)
    with pytest.raises(xm.NotFoundError):
        world.get(7)


def test_nothing_can_be_added_outside_the_block(world):
    experiment = world.create()
    with experiment:
        experiment.add(world.job())

    with pytest.raises(ArgumentError, match="the experiment is not entered"):
        experiment.add(world.job())


def test_the_connection_is_open_once_and_closed_with_the_block(world):
    with world.create() as experiment:
        for _ in range(5):
            experiment.add(world.job())
        assert 1 == world.open_now

    assert (1, 0) == (world.opened, world.open_now)


def test_replicas_reach_each_other_unless_the_network_is_said(world):
    requirements = xm_slurm.JobRequirements(cpu=1, replicas=2)
    with world.create() as experiment:
        experiment.add(world.job(executor=xm_slurm.Slurm(requirements=requirements)))
        experiment.add(
            world.job(executor=xm_slurm.Slurm(requirements=requirements, network="none"))
        )
        experiment.add(world.job())

    assert [(2, "host"), (2, "none"), (1, "none")] == [
        (each.resources.replicas, each.network.value) for each in world.cluster.submissions
    ]


def test_configurations_as_jobs_are_refused_clearly(world):
    class Config(xm.JobConfig):
        pass

    for job, problem in ((Config(), "Config"),):

        def script(job=job):
            with world.create() as experiment:
                experiment.add(job)

        with pytest.raises(NotSupportedError, match=problem):
            script()

    assert [] == world.commands


def test_the_last_lines_of_a_log_are_shown_and_with_follow_all_of_it(world):
    world.cluster.printed = [b"one\ntw", b"o \xc3", b"\xa4\nthree"]

    async def main():
        async with world.create() as experiment:
            unit = await experiment.add(world.job())

            async def read(**how):
                return "".join([piece async for piece in unit.logs(**how)])

            texts = [await read(**how) for how in ({}, {"num_lines": 2}, {"num_lines": 0})]
            texts += [await read(follow=True), await read(jobs=["train"], raw=False)]
            with pytest.raises(ValueError, match="no job x"):
                await read(jobs=["x"])
            return texts

    whole = "one\ntwo ä\nthree"

    assert [whole, "two ä\nthree", "", whole, whole] == asyncio.run(main())


def test_a_group_of_one_is_a_job(world):
    with world.create() as experiment:
        experiment.add(xm.JobGroup(only=world.job()), args={"only": {"args": {"lr": 1}}})

    assert [[("python", "-m", "train", "--lr=1")]] == world.commands


def test_what_was_not_packaged_here_is_refused(world):
    class Other(xm.Executable):
        pass

    with (
        pytest.raises(ArgumentTypeError, match="was not packaged here"),
        world.create() as experiment,
    ):
        experiment.add(world.job(executable=Other(name="x")))


def test_a_wrong_command_is_refused_before_anything_is_recorded(world):
    with (
        pytest.raises(ArgumentError, match="NUL"),
        world.create() as experiment,
    ):
        experiment.add(world.job(args=["a\0b"]))

    assert () == tuple(world.tools.record.experiments())


def test_requirements_and_executor_reach_the_cluster(world):
    executor = xm_slurm.Slurm(
        requirements=xm_slurm.JobRequirements(cpu=4, ram=16 * xm.GiB, a100=2, cluster="alpha"),
        time=dt.timedelta(days=3, seconds=1),
        partition="gpu",
        network="host",
    )
    with world.create() as experiment:
        experiment.add(world.job(executor=executor))

    (submission,) = world.cluster.submissions
    resources = submission.resources

    assert (4, 16384, 2, "a100l", 3 * 24 * 60 + 1) == (
        resources.cpus,
        resources.memory_mib,
        resources.gpus,
        resources.gpu_type,
        resources.time_limit_minutes,
    )
    assert ("gpu", "host") == (dict(submission.options)["partition"], submission.network.value)


def test_annotations_are_kept_and_reading_them_changes_nothing(world):
    with world.create("first") as experiment:
        experiment.add(world.job())
        notes = experiment.context.annotations
        notes.description, notes.note = "long", "short"
        notes.tags.add("a,b")
        notes.tags.add("c")
        notes.tags.add("a,b")
        experiment.context.artifacts["logs"] = "file:///x"
    experiment.work_units[1].context.artifacts.add("model", "s3://y")

    for _ in range(3):
        again = world.get(1)
        notes = again.context.annotations
        assert ("first", "long", "short") == (notes.title, notes.description, notes.note)
        assert ["a,b", "c"] == list(notes.tags)
        assert {"logs": "file:///x"} == dict(again.context.artifacts)
        assert {"model": "s3://y"} == dict(again.work_units[1].context.artifacts)
    del again.context.artifacts["logs"]
    again.context.annotations.tags.discard("a,b")
    again.context.annotations.set_title("second")

    again = world.get(1)
    assert ("second", ["c"]) == (
        again.context.annotations.title,
        list(again.context.annotations.tags),
    )
    assert {} == dict(again.context.artifacts)
    with pytest.raises(KeyError):
        del again.context.artifacts["logs"]
