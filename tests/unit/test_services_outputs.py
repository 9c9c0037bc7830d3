"""Looking at runs: which are meant, waiting for them, and their outputs on the way here."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.support.world import make_prepared, make_world
from xmslurm_repro.errors import (
    ConnectionLostError,
    DigestMismatchError,
    NotFoundError,
    StoreError,
    UsageError,
)
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import Outcome, OutputFile, RunState
from xmslurm_repro.model.work import Network, Resources, WorkUnit
from xmslurm_repro.services.launch import add_units, make_job
from xmslurm_repro.services.logs import follow_logs, runs_with_logs
from xmslurm_repro.services.lookup import runs_of, select
from xmslurm_repro.services.observe import wait
from xmslurm_repro.services.outputs import fetch
from xmslurm_repro.services.submit import Batch, submit


def launched(count=1):
    tools, cluster = make_world()
    prepared = make_prepared(tools, {"train.py": b"pass"})
    job = make_job(prepared, argv=["train"], env={}, resources=Resources(), network=Network.NONE)
    experiment = tools.record.new_experiment(title="t", created_at=tools.now())
    runs = add_units(tools, experiment, prepared, [WorkUnit(jobs=(job,))] * count)
    batch = Batch(experiment_id=experiment, runs=tuple(runs), cluster="alpha")
    return tools, cluster, asyncio.run(submit(tools, batch))


def ended(cluster, receipt, attempt="100.0", **files):
    """Let a run end with these outputs."""
    cluster.states[receipt.run_id] = RunState.COMPLETED
    outputs = []
    for path, data in files.items():
        cluster.files[receipt.run_id, path] = data
        digest = Digest.sha256(hashlib.sha256(data).hexdigest())
        outputs.append(OutputFile(path=path, sha256=digest, size_bytes=len(data)))
    cluster.outcomes.setdefault(receipt.run_id, []).append(
        Outcome(
            run_id=receipt.run_id,
            attempt=attempt,
            state=RunState.COMPLETED,
            exit_code=0,
            reason=None,
            started_at=None,
            ended_at=None,
            image=None,
            facts=(),
            outputs=tuple(outputs),
            log=None,
        )
    )


def bring(tools, folder, text="1", **how):
    return asyncio.run(fetch(tools, select(tools.record, text), folder, **how))


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- which ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers", "name"),
    [
        ("1", None, "1"),
        ("1/3", (3,), "1/3"),
        ("1/2-4", (2, 3, 4), "1/2-4"),
        ("latest/6,1-3,2", (1, 2, 3, 6), "1/1-3,6"),
    ],
)
def test_units_are_named_one_by_one_and_by_ranges(text, numbers, name):
    tools, _, _ = launched(6)

    found = select(tools.record, text)

    assert (numbers, name) == (found.unit_numbers, found.name)
    assert len(runs_of(tools.record, found)) == len(numbers or range(6))


@pytest.mark.parametrize("text", ["1/", "1/0", "1/x", "1/3-1", "1/2-", "1/1,,2", "1/-2", "1/1.5"])
def test_what_is_no_range_is_said_so(text):
    tools, _, _ = launched()

    with pytest.raises(UsageError, match="does not name a work unit"):
        select(tools.record, text)


@pytest.mark.parametrize("text", ["1/7", "1/5-9", "1/1,8"])
def test_units_that_are_not_there_are_named(text):
    tools, _, _ = launched(6)

    with pytest.raises(NotFoundError, match="has no work unit [789]"):
        select(tools.record, text)


def test_what_takes_one_unit_refuses_several():
    tools, _, _ = launched(3)

    with pytest.raises(UsageError, match="1/1-2 names several work units"):
        _ = select(tools.record, "1/1-2").unit_number


# --- outputs -------------------------------------------------------------------------------------


def test_outputs_of_several_units_come_with_one_question(tmp_path):
    tools, cluster, receipts = launched(3)
    for receipt in receipts:
        ended(cluster, receipt, same=b"same", own=str(receipt.unit_number).encode())
    cluster.asked.clear()

    bring(tools, tmp_path / "out", "1/1-2")

    expected = {f"{n}/{name}": data for n in (1, 2) for name, data in
                (("same", b"same"), ("own", str(n).encode()))}  # fmt: skip
    assert expected == tree(tmp_path / "out")
    assert ["observe", "fetch_many"] == cluster.asked


def test_a_fetch_that_is_cut_goes_on_where_it_was(tmp_path):
    tools, cluster, (receipt,) = launched()
    ended(cluster, receipt, large=bytes(range(256)) * 10, small=b"s")
    cluster.cut_after = 1000

    bring(tools, tmp_path)

    assert {"large": bytes(range(256)) * 10, "small": b"s"} == tree(tmp_path)


def test_a_fetch_that_was_given_up_is_gone_on_with_later(tmp_path):
    tools, cluster, (receipt,) = launched()
    ended(cluster, receipt, large=bytes(range(256)) * 10)
    cluster.cut_after = 1000

    class Impatient(type(tools.clock)):
        async def sleep(self, seconds):
            raise ConnectionLostError("given up", may_have_run=True)

    tools.clock.__class__ = Impatient
    with pytest.raises(ConnectionLostError):
        bring(tools, tmp_path)
    (part,) = tmp_path.iterdir()
    assert part.stat().st_size == 1000

    bring(tools, tmp_path)

    assert {"large": bytes(range(256)) * 10} == tree(tmp_path)


def test_what_is_here_already_is_not_asked_for_again(tmp_path):
    tools, cluster, (receipt,) = launched()
    ended(cluster, receipt, one=b"1", two=b"2")
    bring(tools, tmp_path)
    (tmp_path / "two").unlink()
    cluster.files[receipt.run_id, "one"] = b"would not do"

    bring(tools, tmp_path)

    assert {"one": b"1", "two": b"2"} == tree(tmp_path)


def test_other_bytes_in_the_way_are_named_and_nothing_is_copied(tmp_path):
    tools, cluster, receipts = launched(2)
    for receipt in receipts:
        ended(cluster, receipt, result=b"new")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "result").write_bytes(b"old")

    with pytest.raises(StoreError, match="1 files with other bytes") as caught:
        bring(tools, tmp_path)

    assert [str(tmp_path / "2" / "result")] == list(caught.value.details)
    assert {"2/result": b"old"} == tree(tmp_path)


def test_bytes_that_are_not_those_of_the_run_are_thrown_away(tmp_path):
    tools, cluster, (receipt,) = launched()
    ended(cluster, receipt, result=b"right")
    cluster.files[receipt.run_id, "result"] = b"wrong"

    with pytest.raises(DigestMismatchError, match="output result of run"):
        bring(tools, tmp_path)

    assert {} == tree(tmp_path)


def test_an_earlier_attempt_is_fetched_by_its_name(tmp_path):
    tools, cluster, (receipt,) = launched()
    ended(cluster, receipt, attempt="100.0", first=b"1")
    ended(cluster, receipt, attempt="100.1", second=b"2")

    bring(tools, tmp_path, attempt="100.0")

    assert {"first": b"1"} == tree(tmp_path)
    with pytest.raises(NotFoundError, match="no attempt 100.7"):
        bring(tools, tmp_path, attempt="100.7")


# --- waiting and logs ----------------------------------------------------------------------------


def test_waiting_outlives_a_cluster_that_does_not_answer_for_a_while():
    tools, cluster, (receipt,) = launched()
    lost = ConnectionLostError("the line went dead", may_have_run=True)
    troubles, looks = [], []

    def look(runs):
        looks.append([run.state for run in runs])
        cluster.trouble["observe"] = lost

    def trouble(error):
        troubles.append(error)
        if len(troubles) == 4:
            del cluster.trouble["observe"]
            cluster.states[receipt.run_id] = RunState.COMPLETED

    cluster.states[receipt.run_id] = RunState.RUNNING
    runs = tools.record.runs()
    (run,) = asyncio.run(wait(tools, runs, on_change=look, on_trouble=trouble))

    assert run.state is RunState.COMPLETED
    assert [lost] * 4 == troubles
    assert [[RunState.RUNNING], [RunState.COMPLETED]] == looks


def test_waiting_begins_only_with_a_cluster_that_answers():
    tools, cluster, _ = launched()
    cluster.trouble["observe"] = ConnectionLostError("no route to host", may_have_run=False)

    with pytest.raises(ConnectionLostError, match="no route"):
        asyncio.run(wait(tools, tools.record.runs()))


def test_logs_that_are_gone_are_named_together():
    tools, cluster, receipts = launched(2)
    for receipt in receipts:
        cluster.end(receipt.run_id)
    asyncio.run(wait(tools, tools.record.runs()))
    cluster.printed = []

    async def read():
        found = runs_with_logs(tools, select(tools.record, "1"))
        return [piece async for _, piece in follow_logs(tools, found)]

    with pytest.raises(NotFoundError, match="logs of 2 runs") as caught:
        asyncio.run(read())
    assert ["1/1 on alpha", "1/2 on alpha"] == list(caught.value.details)
