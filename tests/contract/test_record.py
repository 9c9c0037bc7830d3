"""What every `Record` promises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xmslurm_repro.errors import IntegrityError, NotFoundError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import Outcome, OutputFile, Receipt, RunId, RunState
from xmslurm_repro.ports.record import Annotation, ExperimentRow, Record
from xmslurm_repro.record.keeping import KeepingRecord, PieceList
from xmslurm_repro.record.memory import MemoryRecord
from xmslurm_repro.record.sqlite import SqliteRecord
from xmslurm_repro.store.objects import DiskObjectStore

NOON = "2026-01-02T12:00:00Z"
TOKEN = "abcdefgh0123"
MANIFEST = Digest.blake3("1" * 64)
UNIT = Digest.blake3("2" * 64)


@pytest.fixture(params=["memory", "sqlite", "keeping"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Record]:
    made: Record = MemoryRecord()
    if request.param != "memory":
        made = SqliteRecord(tmp_path / "record.db")
    if request.param == "keeping":
        store = DiskObjectStore(tmp_path / "objects")
        made = KeepingRecord(made, store, PieceList(tmp_path / "record.pieces"))
    yield made
    made.close()


def receipt(experiment_id: int, *, token: str = TOKEN, task: int = 0, unit: int = 1) -> Receipt:
    return Receipt(
        run_id=RunId(token=token, task=task),
        experiment_id=experiment_id,
        unit_number=unit,
        unit=UNIT,
        cluster="alpha",
        options=(("account", "ä b"), ("partition", "gpu")),
        promised_at=NOON,
        tool_version="0.1.0",
        replay_of=RunId(token="zzzzzzzz", task=3),
        origin=Digest.blake3("3" * 64),
    )


def outcome(run_id: RunId, attempt: str = "12.0", exit_code: int = 0) -> Outcome:
    return Outcome(
        run_id=run_id,
        attempt=attempt,
        state=RunState.FAILED if exit_code else RunState.COMPLETED,
        exit_code=exit_code,
        reason=None,
        started_at=NOON,
        ended_at=NOON,
        image=Digest.sha256("4" * 64),
        facts=(("kernel", "6.1"), ("node", "n1")),
        outputs=(OutputFile(path="a b.txt", sha256=Digest.sha256("5" * 64), size_bytes=3),),
        log=Digest.sha256("6" * 64),
    )


def promised(record: Record, *, tasks: int = 1, token: str = TOKEN) -> tuple[int, list[Receipt]]:
    experiment = record.new_experiment(title="one", created_at=NOON)
    receipts = [receipt(experiment, token=token, task=t, unit=t + 1) for t in range(tasks)]
    record.promise(receipts)
    return experiment, receipts


def test_experiments_are_numbered_from_one(record: Record):
    ids = [record.new_experiment(title=f"e{n}", created_at=NOON) for n in range(3)]

    assert [1, 2, 3] == ids
    assert ["e0", "e1", "e2"] == [row.title for row in record.experiments()]


def test_a_new_experiment_has_no_manifest_yet(record: Record):
    first = record.new_experiment(title="größe \N{SNOWMAN}", created_at=NOON)
    second = record.new_experiment(title="", created_at=NOON, replay_of=first)

    assert record.experiment(first) == ExperimentRow(
        id=first, title="größe \N{SNOWMAN}", manifest=None, created_at=NOON, replay_of=None
    )
    assert first == record.experiment(second).replay_of


def test_the_manifest_of_an_experiment_may_be_set_again(record: Record):
    first = record.new_experiment(title="one", created_at=NOON)
    second = record.new_experiment(title="two", created_at=NOON)
    record.set_manifest(first, UNIT)
    record.set_manifest(first, MANIFEST)

    assert MANIFEST == record.experiment(first).manifest
    assert record.experiment(second).manifest is None


@pytest.mark.parametrize("unknown", [0, -1, 7, 2**63, 10**40])
def test_an_unknown_experiment_is_named_in_the_error(record: Record, unknown: int):
    calls: list[Callable[[], object]] = [
        lambda: record.experiment(unknown),
        lambda: record.set_manifest(unknown, MANIFEST),
        lambda: record.promise([receipt(unknown)]),
        lambda: record.new_experiment(title="", created_at=NOON, replay_of=unknown),
        lambda: record.annotate(unknown, 0, "a", 1),
        lambda: record.annotations(unknown),
    ]
    for call in calls:
        with pytest.raises(NotFoundError, match=f"no experiment {unknown}$"):
            call()

    assert () == tuple(record.experiments())
    assert () == tuple(record.runs())


def test_a_promised_run_waits_for_its_job_id(record: Record):
    experiment, receipts = promised(record, tasks=3)

    rows = record.runs(experiment_id=experiment)

    assert receipts == [row.receipt for row in rows]
    assert {(RunState.PROMISED, None)} == {(row.state, row.reason) for row in rows}
    assert receipts == list(record.unconfirmed())


def test_a_run_id_is_promised_once_and_then_nothing_of_the_call_is_kept(record: Record):
    experiment, receipts = promised(record, tasks=2)
    others = [receipt(experiment, token="othertoken", task=n) for n in range(2)]

    with pytest.raises(IntegrityError, match=f"run {TOKEN}.1 is in the record already"):
        record.promise([*others, receipts[1]])
    with pytest.raises(IntegrityError, match=r"run othertoken.1"):
        record.promise([*others, others[1]])

    assert receipts == [row.receipt for row in record.runs()]


def test_confirming_gives_each_task_its_job_id_in_order(record: Record):
    experiment = record.new_experiment(title="one", created_at=NOON)
    record.promise([receipt(experiment, task=task) for task in (2, 0, 10, 1)])
    record.confirm(TOKEN, ["9_0", "9_1", "9_2", "9_10"])

    found = {row.receipt.run_id.task: row.receipt.job_id for row in record.runs(token=TOKEN)}

    assert {0: "9_0", 1: "9_1", 2: "9_2", 10: "9_10"} == found
    assert {RunState.PENDING} == {row.state for row in record.runs()}
    assert () == tuple(record.unconfirmed())


def test_confirming_again_changes_nothing(record: Record):
    promised(record, tasks=2)
    record.confirm(TOKEN, ["9_0", "9_1"])
    record.set_states([(RunId(token=TOKEN, task=1), RunState.RUNNING, "on n1")])
    before = record.runs()
    record.confirm(TOKEN, ["9_0", "9_1"])

    assert before == record.runs()


@pytest.mark.parametrize("job_ids", [["9_0", "8_1"], ["9_0"], ["9_0", "9_1", "9_2"], []])
def test_a_confirmation_that_contradicts_an_earlier_one_is_refused(
    record: Record, job_ids: list[str]
):
    promised(record, tasks=2)
    record.confirm(TOKEN, ["9_0", "9_1"])

    with pytest.raises(IntegrityError):
        record.confirm(TOKEN, job_ids)

    assert ["9_0", "9_1"] == [row.receipt.job_id for row in record.runs()]


def test_a_withdrawn_submission_is_cancelled_and_awaits_nothing(record: Record):
    promised(record, tasks=2)
    record.withdraw(TOKEN, "Invalid account")
    record.withdraw(TOKEN, "Invalid account")

    rows = record.runs(token=TOKEN)

    assert [(RunState.CANCELLED, "Invalid account")] * 2 == [(r.state, r.reason) for r in rows]
    assert () == tuple(record.unconfirmed())


def test_a_cancelled_run_without_a_job_id_is_still_looked_for(record: Record):
    _, receipts = promised(record)
    record.set_states([(receipts[0].run_id, RunState.CANCELLED, "by you")])

    assert receipts == list(record.unconfirmed())


def test_a_job_that_turns_up_after_all_outranks_a_withdrawal(record: Record):
    promised(record)
    record.withdraw(TOKEN, "refused, it seemed")
    record.confirm(TOKEN, ["77"])

    (row,) = record.runs()

    assert ("77", RunState.PENDING, None) == (row.receipt.job_id, row.state, row.reason)


def test_a_submission_that_has_jobs_cannot_be_withdrawn(record: Record):
    promised(record)
    record.confirm(TOKEN, ["77"])

    with pytest.raises(IntegrityError, match="accepted as job 77"):
        record.withdraw(TOKEN, "refused")

    assert [RunState.PENDING] == [row.state for row in record.runs()]


def test_a_submission_that_was_never_promised_is_not_found(record: Record):
    for call in (
        lambda: record.confirm("nosuchtoken", ["1"]),
        lambda: record.withdraw("nosuchtoken", "refused"),
    ):
        with pytest.raises(NotFoundError, match="nosuchtoken"):
            call()


def test_runs_are_found_by_experiment_and_by_submission(record: Record):
    first, _ = promised(record, tasks=2, token="firsttoken")
    second, _ = promised(record, tasks=1, token="secondtoken")
    record.promise([receipt(first, token="thirdtoken")])

    def tokens(**wanted: object) -> list[str]:
        return [str(row.receipt.run_id) for row in record.runs(**wanted)]  # type: ignore[arg-type]

    assert ["firsttoken.0", "firsttoken.1", "thirdtoken.0"] == tokens(experiment_id=first)
    assert ["secondtoken.0"] == tokens(experiment_id=second)
    assert ["secondtoken.0"] == tokens(token="secondtoken")
    assert [] == tokens(experiment_id=second, token="firsttoken")
    assert [] == tokens(experiment_id=99)
    assert 4 == len(tokens())


def test_a_run_is_found_by_its_id(record: Record):
    _, receipts = promised(record, tasks=3)

    assert receipts[1] == record.run(receipts[1].run_id).receipt
    with pytest.raises(NotFoundError, match="nosuchtoken"):
        record.run(RunId(token="nosuchtoken", task=0))


def test_states_are_recorded_together_or_not_at_all(record: Record):
    _, receipts = promised(record, tasks=2)
    known = receipts[0].run_id
    record.set_states([(known, RunState.RUNNING, None), (known, RunState.FAILED, "exit code 3")])

    with pytest.raises(NotFoundError, match="no run nosuchtoken.0"):
        record.set_states(
            [
                (known, RunState.COMPLETED, None),
                (RunId(token="nosuchtoken", task=0), RunState.LOST, None),
            ]
        )

    assert [(RunState.FAILED, "exit code 3"), (RunState.PROMISED, None)] == [
        (row.state, row.reason) for row in record.runs()
    ]


def test_outcomes_come_back_as_they_went_in_oldest_attempt_first(record: Record):
    _, receipts = promised(record)
    run_id = receipts[0].run_id
    kept = [outcome(run_id, attempt) for attempt in ("9.0", "9.2", "9.10", "10_1.0", "10_1.1")]
    for each in reversed(kept):
        record.add_outcome(each)

    assert kept == list(record.outcomes(run_id))


def test_an_outcome_is_kept_once_and_a_differing_one_is_refused(record: Record):
    _, receipts = promised(record)
    run_id = receipts[0].run_id
    record.add_outcome(outcome(run_id))
    record.add_outcome(outcome(run_id))

    with pytest.raises(IntegrityError, match=r"attempt 12\.0 .* another outcome"):
        record.add_outcome(outcome(run_id, exit_code=1))

    assert [outcome(run_id)] == list(record.outcomes(run_id))


def test_an_outcome_of_an_unknown_run_is_refused(record: Record):
    stray = RunId(token="nosuchtoken", task=0)

    with pytest.raises(NotFoundError, match=r"nosuchtoken\.0"):
        record.add_outcome(outcome(stray))

    assert () == tuple(record.outcomes(stray))


def test_an_outcome_with_every_fact_missing_is_kept_too(record: Record):
    _, receipts = promised(record)
    bare = replace(
        outcome(receipts[0].run_id),
        state=RunState.REFUSED,
        exit_code=None,
        reason="layer 3 is damaged",
        started_at=None,
        ended_at=None,
        image=None,
        facts=(),
        outputs=(),
        log=None,
    )
    record.add_outcome(bare)

    assert [bare] == list(record.outcomes(bare.run_id))


def test_notes_are_kept_by_experiment_unit_and_name(record: Record):
    first = record.new_experiment(title="one", created_at=NOON)
    second = record.new_experiment(title="two", created_at=NOON)
    record.annotate(first, 2, "identity", "seed-1")
    record.annotate(first, 0, "tags", ["a,b", "c"])
    record.annotate(first, 0, "note", "old")
    record.annotate(first, 0, "note", {"text": "new"})
    record.annotate(second, 0, "note", False)

    assert [
        Annotation(unit_number=0, name="note", value={"text": "new"}),
        Annotation(unit_number=0, name="tags", value=["a,b", "c"]),
        Annotation(unit_number=2, name="identity", value="seed-1"),
    ] == list(record.annotations(first))
    assert [False] == [note.value for note in record.annotations(second)]


def test_a_note_without_a_value_is_no_note(record: Record):
    only = record.new_experiment(title="one", created_at=NOON)
    record.annotate(only, 0, "note", "x")
    record.annotate(only, 0, "note", None)
    record.annotate(only, 1, "never", None)

    assert () == tuple(record.annotations(only))


def test_reading_never_changes_anything(record: Record):
    experiment, receipts = promised(record, tasks=2)
    record.add_outcome(outcome(receipts[0].run_id))
    record.annotate(experiment, 0, "note", "x")

    def everything() -> tuple[object, ...]:
        return (
            record.experiments(),
            record.experiment(experiment),
            record.runs(),
            record.unconfirmed(),
            record.outcomes(receipts[0].run_id),
            record.annotations(experiment),
        )

    assert everything() == everything()


def test_threads_may_share_a_record(record: Record):
    experiment = record.new_experiment(title="one", created_at=NOON)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                token = f"thread{number}x{step:03}"
                record.promise([receipt(experiment, token=token)])
                record.confirm(token, [f"{number}{step}"])
                record.runs(token=token)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failures
    assert 40 == len(record.runs())
    assert () == tuple(record.unconfirmed())
