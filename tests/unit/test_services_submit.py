"""Promise, act, confirm: nothing is submitted twice, nothing is forgotten."""

import asyncio
from dataclasses import replace

import pytest

from tests.support.world import make_prepared, make_world
from xmslurm_repro.errors import ConnectionLostError, SubmitRefusedError, SubmitUnknownError
from xmslurm_repro.model.run import RunState
from xmslurm_repro.model.work import Network, Resources, WorkUnit
from xmslurm_repro.services.launch import add_units, make_job
from xmslurm_repro.services.submit import Batch, settle, submit


class Killed(BaseException):
    """The process is gone."""


def launch_units(tools, *commands, **batch):
    prepared = make_prepared(tools, {"train.py": b"pass"})
    units = [
        WorkUnit(
            jobs=(
                make_job(
                    prepared,
                    argv=command,
                    env={},
                    resources=Resources(),
                    network=Network.NONE,
                ),
            )
        )
        for command in commands
    ]
    experiment = tools.record.new_experiment(title="t", created_at=tools.now())
    runs = add_units(tools, experiment, prepared, units)
    return asyncio.run(
        submit(tools, Batch(experiment_id=experiment, runs=tuple(runs), cluster="alpha", **batch))
    )


def test_a_launch_ends_with_confirmed_receipts():
    tools, _cluster = make_world()

    receipts = launch_units(tools, ["python", "a.py"])

    assert [receipt.job_id for receipt in receipts] == ["100"]
    assert [run.receipt for run in tools.record.runs()] == list(receipts)
    assert list(tools.record.unconfirmed()) == []


def test_several_units_become_one_array_whose_tasks_have_job_ids_of_their_own():
    tools, cluster = make_world()

    receipts = launch_units(tools, ["a"], ["b"], ["c"], max_parallel_tasks=2)

    assert [receipt.job_id for receipt in receipts] == ["100_0", "100_1", "100_2"]
    assert [task.argv for task in cluster.submissions[0].tasks] == [("a",), ("b",), ("c",)]
    assert cluster.submissions[0].max_parallel_tasks == 2


def test_the_promise_is_on_disk_before_the_cluster_hears_of_it():
    tools, cluster = make_world()
    seen = []

    async def submit_and_look(submission):
        seen.append([run.state for run in tools.record.runs(token=submission.token)])
        return "7"

    cluster.submit = submit_and_look
    launch_units(tools, ["a"])

    assert seen == [[RunState.PROMISED]]


@pytest.mark.parametrize("where", ["trouble", "late_trouble"])
def test_a_process_killed_while_submitting_leaves_one_job_in_the_end(where):
    tools, cluster = make_world()
    getattr(cluster, where)["submit"] = Killed()
    with pytest.raises(Killed):
        launch_units(tools, ["a"])
    getattr(cluster, where).clear()

    troubles = asyncio.run(settle(tools))

    assert troubles == []
    assert len(cluster.submissions) == 1
    assert [run.receipt.job_id for run in tools.record.runs()] == ["100"]


def test_a_process_killed_before_it_confirms_leaves_one_job_in_the_end():
    tools, cluster = make_world()

    class DiesAtConfirm:
        def __getattr__(self, name):
            return getattr(tools.record, name)

        def confirm(self, token, job_ids):
            raise Killed

    with pytest.raises(Killed):
        launch_units(replace(tools, record=DiesAtConfirm()), ["a"], ["b"])
    asyncio.run(settle(tools))
    asyncio.run(settle(tools))

    assert len(cluster.submissions) == 1
    assert [run.receipt.job_id for run in tools.record.runs()] == ["100_0", "100_1"]


def test_settling_submits_exactly_what_was_promised():
    calm, calm_cluster = make_world()
    launch_units(calm, ["a"], ["b"], options=(("partition", "gpu"),), max_parallel_tasks=1)
    tools, cluster = make_world()
    cluster.trouble["submit"] = Killed()
    with pytest.raises(Killed):
        launch_units(tools, ["a"], ["b"], options=(("partition", "gpu"),), max_parallel_tasks=1)
    cluster.trouble.clear()

    asyncio.run(settle(tools))

    assert cluster.submissions == calm_cluster.submissions


def test_a_refusal_is_recorded_and_never_tried_again():
    tools, cluster = make_world()
    cluster.trouble["submit"] = SubmitRefusedError("Slurm refused the job")
    with pytest.raises(SubmitRefusedError):
        launch_units(tools, ["a"])
    cluster.trouble.clear()

    asyncio.run(settle(tools))

    assert cluster.submissions == []
    [run] = tools.record.runs()
    assert (run.state, run.reason) == (RunState.CANCELLED, "Slurm refused the job")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLostError("cut", may_have_run=True),
        SubmitUnknownError("socket timed out"),
    ],
)
def test_what_is_unknown_stays_open_until_somebody_knows(error):
    tools, cluster = make_world()
    cluster.late_trouble["submit"] = error
    with pytest.raises(type(error)):
        launch_units(tools, ["a"])

    assert asyncio.run(settle(tools)) == [error]
    cluster.late_trouble.clear()
    assert asyncio.run(settle(tools)) == []
    assert len(cluster.submissions) == 1


def test_a_cluster_out_of_reach_does_not_keep_others_from_being_settled():
    tools, cluster = make_world()
    cluster.trouble["submit"] = Killed()
    for command in (["a"], ["b"]):
        with pytest.raises(Killed):
            launch_units(tools, command)
    cluster.trouble.clear()
    tokens = sorted({receipt.run_id.token for receipt in tools.record.unconfirmed()})
    plain_find = cluster.find

    async def find(asked):
        if list(asked) == tokens[:1]:
            raise ConnectionLostError("no route", may_have_run=False)
        return await plain_find(asked)

    cluster.find = find

    assert len(asyncio.run(settle(tools))) == 1
    assert len(cluster.submissions) == 1


def test_a_job_is_told_the_number_of_the_experiment_and_unit():
    tools, cluster = make_world()

    launch_units(tools, ["a"], ["b"])

    assert [dict(task.run_env) for task in cluster.submissions[0].tasks] == [
        {
            "XMSLURM_EXPERIMENT_ID": "1",
            "XMSLURM_RUN_ID": f"token00000001.{task}",
            "XMSLURM_WORK_UNIT_ID": str(task + 1),
        }
        for task in range(2)
    ]


def test_more_units_than_the_cluster_takes_at_once_become_several_arrays():
    tools, cluster = make_world()
    cluster.most_tasks = 2

    receipts = launch_units(tools, *([name] for name in "abcde"))

    assert ["100_0", "100_1", "101_0", "101_1", "102"] == [r.job_id for r in receipts]
    assert [1, 2, 3, 4, 5] == [r.unit_number for r in receipts]
    assert [False, True, True] == [each.has_time for each in cluster.submissions]
    assert 1 == len(cluster.delivered)


def test_a_throttle_holds_over_all_arrays_of_a_sweep():
    tools, cluster = make_world()
    cluster.most_tasks = 2
    options = (("dependency", "afterok:7"),)

    launch_units(tools, *([name] for name in "abcde"), max_parallel_tasks=2, options=options)

    assert ["afterok:7", "afterok:7,afterany:100", "afterok:7,afterany:101"] == [
        dict(each.options)["dependency"] for each in cluster.submissions
    ]


def test_what_was_submitted_before_a_refusal_stays_and_the_rest_was_never_promised():
    tools, cluster = make_world()
    cluster.most_tasks = 2
    submit_part = cluster.submit

    async def full(submission):
        if len(cluster.submissions) == 1:
            raise SubmitRefusedError("no more")
        return await submit_part(submission)

    cluster.submit = full
    with pytest.raises(SubmitRefusedError):
        launch_units(tools, *([name] for name in "abcdef"))

    assert [RunState.PENDING] * 2 + [RunState.CANCELLED] * 2 == [
        run.state for run in tools.record.runs()
    ]
