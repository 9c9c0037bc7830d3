"""Replay and diff, over a cluster that only remembers."""

import asyncio
from dataclasses import replace

import pytest

from tests.support.world import make_prepared, make_world
from xmslurm_repro.errors import ConnectionLostError, IntegrityError, NotFoundError, UsageError
from xmslurm_repro.model.run import RunState
from xmslurm_repro.model.verdict import Level
from xmslurm_repro.model.work import Network, Resources, WorkUnit
from xmslurm_repro.services.diff import diff
from xmslurm_repro.services.launch import add_units, make_job
from xmslurm_repro.services.logs import log, runs_with_logs
from xmslurm_repro.services.lookup import select
from xmslurm_repro.services.observe import refresh_unfinished
from xmslurm_repro.services.replay import finish_replay, start_replay
from xmslurm_repro.services.status import summaries
from xmslurm_repro.services.submit import Batch, submit

HASHES = {"same": "a", "other": "b"}


def launched(
    tools, cluster, *, files=None, commands=(("train",),), outputs="same", env=None, options=()
):
    """Launch and let every run end; return the experiment's id."""
    prepared = make_prepared(tools, files or {"train.py": b"lr = 1\n"})
    units = [
        WorkUnit(
            jobs=(
                make_job(
                    prepared,
                    argv=command,
                    env=env or {},
                    resources=Resources(),
                    network=Network.NONE,
                ),
            )
        )
        for command in commands
    ]
    experiment = tools.record.new_experiment(title="t", created_at=tools.now())
    runs = add_units(tools, experiment, prepared, units)
    batch = Batch(experiment_id=experiment, runs=tuple(runs), cluster="alpha", options=options)
    for receipt in asyncio.run(submit(tools, batch)):
        cluster.end(
            receipt.run_id,
            outputs={"result": HASHES[outputs]},
            image=prepared.image.manifest.digest,
        )
    return experiment


def replayed(tools, cluster, name, *, outputs="same", **options):
    selection = select(tools.record, str(name))
    started = asyncio.run(start_replay(tools, selection, **options))
    for receipt in started.receipts:
        image = next(s for s in cluster.submissions if s.token == receipt.run_id.token).image
        cluster.end(
            receipt.run_id, outputs={"result": HASHES[outputs]}, image=image.manifest.digest
        )
    return started, *asyncio.run(finish_replay(tools, started))


def test_a_replay_submits_the_same_image_command_and_environment():
    tools, cluster = make_world()
    launched(tools, cluster, env={"LR": "1"})

    replayed(tools, cluster, 1)

    first, second = cluster.submissions
    assert second.image == first.image
    assert [(t.argv, t.env) for t in second.tasks] == [(t.argv, t.env) for t in first.tasks]
    assert second.resources == first.resources


def test_a_replayed_job_sees_the_number_of_what_it_repeats():
    tools, cluster = make_world()
    launched(tools, cluster)
    replayed(tools, cluster, 1)

    replayed(tools, cluster, 2)

    assert dict(cluster.submissions[-1].tasks[0].run_env)["XMSLURM_EXPERIMENT_ID"] == "1"


def test_a_replay_waits_for_no_job_and_no_time_that_the_original_waited_for():
    tools, cluster = make_world()
    when = {"begin": "16:00", "deadline": "2026-01-01", "dependency": "afterok:1"}
    options = {**when, "kill-on-invalid-dep": "yes", "partition": "gpu"}
    launched(tools, cluster, options=tuple(sorted(options.items())))

    replayed(tools, cluster, 1)

    assert cluster.submissions[0].options == tuple(sorted(options.items()))
    assert cluster.submissions[1].options == (("partition", "gpu"),)


def test_equal_outputs_give_r3():
    tools, cluster = make_world()
    launched(tools, cluster)

    started, verdicts, unjudged = replayed(tools, cluster, 1)

    assert [verdict.level for verdict in verdicts] == [Level.R3]
    assert unjudged == []
    assert tools.record.experiment(started.experiment_id).replay_of == 1


def test_differing_outputs_do_not():
    tools, cluster = make_world()
    launched(tools, cluster)

    _, [verdict], _ = replayed(tools, cluster, 1, outputs="other")

    assert [file.path for file in verdict.differing] == ["result"]


def test_a_sweep_is_replayed_as_one_array_and_one_unit_of_it_alone():
    tools, cluster = make_world()
    launched(tools, cluster, commands=(("a",), ("b",), ("c",)))

    _started, verdicts, _ = replayed(tools, cluster, 1)
    alone, [_verdict], _ = replayed(tools, cluster, "1/2")

    assert len(cluster.submissions[1].tasks) == 3
    assert len(verdicts) == 3
    assert [task.argv for task in cluster.submissions[2].tasks] == [("b",)]
    assert [receipt.unit_number for receipt in alone.receipts] == [2]


def test_a_run_that_left_no_record_cannot_be_judged():
    tools, cluster = make_world()
    launched(tools, cluster)
    selection = select(tools.record, "1")
    started = asyncio.run(start_replay(tools, selection))
    cluster.states[started.receipts[0].run_id] = RunState.LOST

    verdicts, [unjudged] = asyncio.run(finish_replay(tools, started))

    assert verdicts == []
    assert unjudged.reason == "the replay has left no record of its end"


def test_a_damaged_store_is_found_out_before_anything_is_submitted_and_every_fault_named():
    tools, cluster = make_world()
    launched(tools, cluster, files={"a": b"one", "b": b"two"})
    digests = [tools.store.put(b"one"), tools.store.put(b"two")]
    tools.store.objects[digests[0]] = b"0ne"
    del tools.store.objects[digests[1]]

    with pytest.raises(IntegrityError) as caught:
        asyncio.run(start_replay(tools, select(tools.record, "1")))

    assert len(caught.value.details) == 2
    assert len(cluster.submissions) == 1
    assert len(tools.record.experiments()) == 1


def test_an_image_that_is_gone_is_built_again_and_must_come_out_the_same():
    tools, cluster = make_world()
    launched(tools, cluster)
    prepared = make_prepared(tools, {"train.py": b"lr = 1\n"})
    calls = []

    class Builder:
        def __init__(self, image):
            self.image = image

        def build(self, recipe, base, tree, progress):
            calls.append(recipe)
            return self.image

    class Parts:
        def resolve(self, reference, **_):
            return prepared.plan.base

        def fetch(self, artifacts, *, progress):
            pass

    parts = {"bases": Parts(), "locks": Parts()}
    same = replace(tools, fresh_builder=Builder(prepared.image), **parts)
    started = asyncio.run(start_replay(same, select(tools.record, "1"), rebuild=True))

    assert started.rebuilt == (prepared.image.manifest.digest,)
    assert calls == [prepared.image.recipe]

    other = make_prepared(tools, {"train.py": b"lr = 2\n"}).image
    different = replace(tools, fresh_builder=Builder(other), **parts)
    with pytest.raises(IntegrityError, match="is not the same"):
        asyncio.run(start_replay(different, select(tools.record, "1"), rebuild=True))


def test_launching_the_same_tree_twice_gives_the_same_manifest():
    tools, cluster = make_world()
    launched(tools, cluster)
    launched(tools, cluster)

    first, second = tools.record.experiments()
    assert first.manifest == second.manifest


def differences(tools, left, right):
    found = asyncio.run(diff(tools, select(tools.record, left), select(tools.record, right)))
    return {axis.path: axis for axis in found}


def test_equal_experiments_do_not_differ():
    tools, cluster = make_world()
    launched(tools, cluster)
    replayed(tools, cluster, 1)

    assert differences(tools, "1", "2") == {}


def test_a_diff_names_the_edit_and_the_changed_output():
    tools, cluster = make_world()
    launched(tools, cluster)
    launched(tools, cluster, files={"train.py": b"lr = 2\n"}, outputs="other")

    found = differences(tools, "1", "2")

    assert list(found) == ["code", "outputs"]
    [edit] = found["code"].children
    assert edit.path == "train.py"
    assert edit.note == "@@ -1 +1 @@\n-lr = 1\n+lr = 2"
    assert [child.path for child in found["outputs"].children] == ["result"]


def test_a_diff_shows_commands_and_variables():
    tools, cluster = make_world()
    launched(tools, cluster, commands=(("train", "--lr", "1"),), env={"A": "1"})
    launched(tools, cluster, commands=(("train", "--lr", "2"),), env={"B": "1"})

    found = differences(tools, "1", "2")

    assert (found["command"].left, found["command"].right) == (
        '["train","--lr","1"]',
        '["train","--lr","2"]',
    )
    assert [(c.path, c.left, c.right) for c in found["environment"].children] == [
        ("A", "1", None),
        ("B", None, "1"),
    ]


def test_two_units_of_one_experiment_can_be_compared():
    tools, cluster = make_world()
    launched(tools, cluster, commands=(("a",), ("b",)))

    assert list(differences(tools, "1/1", "1/2")) == ["command"]


def test_files_that_are_no_text_or_are_gone_are_named_without_lines():
    tools, cluster = make_world()
    launched(tools, cluster, files={"data": b"\0\1", "gone": b"x\n"})
    launched(tools, cluster, files={"data": b"\0\2"})

    binary, gone = differences(tools, "1", "2")["code"].children

    assert (binary.path, binary.note) == ("data", None)
    assert (gone.path, gone.right) == ("gone", None)


def test_experiments_are_found_by_number_prefix_and_latest():
    tools, cluster = make_world()
    launched(tools, cluster)
    launched(tools, cluster, files={"b": b""})
    first, second = tools.record.experiments()

    assert select(tools.record, "latest").row == second
    assert select(tools.record, first.manifest.hex[:8]).row == first
    assert select(tools.record, str(first.manifest)).row == first
    assert select(tools.record, "2/1").unit_number == 1


@pytest.mark.parametrize("name", ["3", "ffffffffff", "1/2"])
def test_what_is_not_there_is_said(name):
    tools, cluster = make_world()
    launched(tools, cluster)

    with pytest.raises(NotFoundError):
        select(tools.record, name)


@pytest.mark.parametrize("name", ["", "x", "1/", "1/0", "1/x", "-1", "abc"])
def test_what_names_nothing_is_a_usage_error(name):
    tools, _ = make_world()

    with pytest.raises(UsageError):
        select(tools.record, name)


def test_a_list_knows_what_has_ended_since_and_names_clusters_out_of_reach():
    tools, cluster = make_world()
    launched(tools, cluster)

    assert asyncio.run(refresh_unfinished(tools)) == []
    assert [item.states for item in summaries(tools)] == [{"completed": 1}]

    launched(tools, cluster)
    cluster.trouble["observe"] = ConnectionLostError("no route", may_have_run=False)
    assert len(asyncio.run(refresh_unfinished(tools))) == 1
    assert [item.states for item in summaries(tools)] == [{"completed": 1}, {"pending": 1}]


def test_a_log_that_is_gone_is_said_to_be_gone():
    tools, cluster = make_world()
    launched(tools, cluster)
    asyncio.run(refresh_unfinished(tools))

    async def printed():
        [run] = runs_with_logs(tools, select(tools.record, "1"))
        return [chunk async for chunk in log(tools, run)]

    with pytest.raises(NotFoundError, match="is not on alpha any more"):
        asyncio.run(printed())


def test_a_damaged_experiment_does_not_hide_the_others():
    tools, cluster = make_world()
    launched(tools, cluster)
    launched(tools, cluster, files={"b": b""})
    first, _ = tools.record.experiments()
    tools.store.objects[first.manifest] = b"{}"

    damaged, whole = summaries(tools)

    assert str(first.manifest) in damaged.trouble
    assert (whole.trouble, whole.command) == (None, ("train",))
