"""A record that is lost or damaged is made again from the objects of the store."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.test_record import NOON, outcome, receipt
from xmslurm_repro.config import Settings, load_settings
from xmslurm_repro.errors import IntegrityError, StoreError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import RunId, RunState
from xmslurm_repro.record import keeping
from xmslurm_repro.record.keeping import KeepingRecord
from xmslurm_repro.record.sqlite import SqliteRecord
from xmslurm_repro.store.objects import DiskObjectStore
from xmslurm_repro.wiring.record import open_record, pieces_of, rebuild_record


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def settings_of(home: Path) -> Settings:
    return load_settings(environ={"XMSLURM_REPRO_HOME": str(home)}, start=home.parent)


def opened(home: Path) -> KeepingRecord:
    return open_record(home, DiskObjectStore(home / "objects"))


def file_of(home: Path, name: Digest) -> Path:
    [path] = (home / "objects").rglob(f"{name.hex}.zst")
    return path


def everything(home: Path) -> tuple[object, ...]:
    record = opened(home)
    rows = record.runs()
    found = (
        record.experiments(),
        rows,
        [record.outcomes(row.receipt.run_id) for row in rows],
        record.unconfirmed(),
        [record.annotations(row.id) for row in record.experiments()],
    )
    record.close()
    return found


def fill(home: Path, *, created_at: str = NOON, token: str = "abcdefgh") -> None:
    record = opened(home)
    record.new_experiment(title="without runs", created_at=created_at)
    for number in range(3):
        experiment = record.new_experiment(
            title=f"n° {number}", created_at=created_at, replay_of=1 if number else None
        )
        record.set_manifest(experiment, Digest.blake3(f"{number}" * 64))
        name = f"{token}{number}"
        record.promise([receipt(experiment, token=name, task=task) for task in range(3)])
        if number == 2:
            record.withdraw(name, "no such partition")
            continue
        if number == 1:
            continue
        record.annotate(experiment, 2, "tags", ["a", {"b": 1}])
        record.confirm(name, ["7_0", "7_1", "7_2"])
        for attempt, code in (("7.0", 1), ("7.1", 0)):
            record.add_outcome(outcome(RunId(token=name, task=1), attempt, code))
        record.set_states(
            [
                (RunId(token=name, task=1), RunState.COMPLETED, None),
                (RunId(token=name, task=2), RunState.RUNNING, None),
            ]
        )
        record.annotate(experiment, 0, "late", "note")
    record.close()


def as_after_a_rebuild(found: tuple[object, ...]) -> tuple[object, ...]:
    """States that pass are asked for again: a run that was seen running waits again."""
    rows = [
        replace(row, state=RunState.PENDING) if row.state is RunState.RUNNING else row
        for row in found[1]
    ]
    return (found[0], tuple(rows), *found[2:])


@pytest.mark.parametrize("damage", ["gone", "empty", "rubbish", "cut"])
def test_a_lost_record_is_said_to_be_and_made_again_with_the_same_ids(home: Path, damage: str):
    fill(home)
    before = everything(home)
    database = home / "record.db"
    if damage == "gone":
        database.unlink()
    else:
        data = {"empty": b"", "rubbish": b"x" * 5000, "cut": database.read_bytes()[:4096]}[damage]
        database.write_bytes(data)
    with pytest.raises(StoreError) as caught:
        everything(home)

    made = rebuild_record(settings_of(home))

    assert "--rebuild-record" in (caught.value.hint or "")
    assert as_after_a_rebuild(before) == everything(home)
    assert () == made.faults
    assert (damage == "gone") == (made.old is None)
    record = opened(home)
    assert 5 == record.new_experiment(title="next", created_at=NOON)
    record.close()


def test_pieces_are_found_among_all_objects_when_their_list_is_lost_too(home: Path):
    fill(home)
    before = everything(home)
    store = DiskObjectStore(home / "objects")
    with store.batch() as batch:
        for number in range(50):
            batch.put(b'{"annotations":[] "format":"xmslurm-record/1", %d' % number)
            batch.put(os.urandom(3000))
    (home / "record.db").unlink()
    (home / "record.pieces").unlink()

    made = rebuild_record(settings_of(home))

    assert as_after_a_rebuild(before) == everything(home)
    # What only looks like a piece is said, and is none.
    assert 50 == len(made.faults)


def test_a_damaged_piece_is_named_and_the_rest_is_made_again(home: Path):
    fill(home)
    victim = pieces_of(home).names()[-1]
    path = file_of(home, victim)
    path.write_bytes(path.read_bytes()[:20])
    (home / "record.db").unlink()

    made = rebuild_record(settings_of(home))

    assert victim.hex in made.faults[0]
    assert 4 == len(made.whole.experiments)


def test_what_is_readable_of_the_old_record_counts_too(home: Path):
    fill(home)
    before = everything(home)
    for name in pieces_of(home).names():
        file_of(home, name).unlink()

    made = rebuild_record(settings_of(home))

    assert before == everything(home)
    assert made.old is not None
    assert made.old.exists()


def test_experiments_of_two_records_that_counted_from_one_are_all_there(home: Path):
    fill(home)
    lost = (home / "record.pieces").read_bytes()
    for name in ("record.db", "record.pieces"):
        (home / name).unlink()
    fill(home, created_at="2026-02-02T12:00:00Z", token="zyxwvuts")
    with (home / "record.pieces").open("ab") as file:
        file.write(lost)

    made = rebuild_record(settings_of(home))

    assert [1, 2, 3, 4, 5, 6, 7, 8] == [row.id for row in made.whole.experiments]
    assert ((1, 5), (2, 6), (3, 7), (4, 8)) == made.whole.renumbered
    record = opened(home)
    first = record.runs(experiment_id=2)
    assert ["abcdefgh0"] * 3 == [row.receipt.run_id.token for row in first]
    assert ["zyxwvuts0"] * 3 == [r.receipt.run_id.token for r in record.runs(experiment_id=6)]
    record.close()


def test_nothing_to_make_a_record_of_is_an_error(home: Path):
    home.mkdir()

    with pytest.raises(IntegrityError, match="nothing of a record"):
        rebuild_record(settings_of(home))

    assert not (home / "record.db").exists()


def test_a_record_from_before_there_were_pieces_is_kept_as_a_whole(home: Path):
    old = SqliteRecord(home / "record.db")
    experiment = old.new_experiment(title="old", created_at=NOON)
    old.promise([receipt(experiment)])
    old.close()

    record = opened(home)
    record.new_experiment(title="new", created_at=NOON)
    record.close()
    before = everything(home)
    (home / "record.db").unlink()
    rebuild_record(settings_of(home))

    assert before == everything(home)


def test_pieces_that_lag_behind_are_kept_again(home: Path):
    fill(home)
    record = opened(home)
    assert 0 == record.keep_again()
    names = record.pieces()
    file_of(home, names[2]).unlink()

    assert 4 == record.keep_again()
    assert 0 == record.keep_again()
    record.close()
    before = everything(home)
    (home / "record.db").unlink()
    rebuild_record(settings_of(home))
    assert before == everything(home)


def test_a_disk_without_room_for_pieces_does_not_stop_a_launch(home: Path):
    record = opened(home)
    (home / "objects").mkdir(exist_ok=True)
    (home / "objects" / "incoming").write_text("in the way")

    experiment = record.new_experiment(title="x", created_at=NOON)
    record.promise([receipt(experiment)])
    record.close()

    assert 1 == len(everything(home)[1])
    (home / "objects" / "incoming").unlink()
    record = opened(home)
    assert 1 == record.keep_again()
    record.close()


def test_a_record_that_is_not_what_its_pieces_say_is_found_out_and_mended(home: Path):
    fill(home)
    before = everything(home)
    connection = sqlite3.connect(home / "record.db")
    connection.execute("UPDATE outcomes SET outcome = replace(outcome, '5555', '4444')")
    connection.execute("UPDATE experiments SET title = 'other' WHERE id = 2")
    connection.execute("DELETE FROM runs WHERE token LIKE '%2'")
    connection.commit()
    connection.close()
    record = opened(home)

    said = [problem for _, problem in record.disagreements()]

    record.close()
    assert any("experiment 2 " in problem for problem in said)
    assert 3 == sum("run abcdefgh2." in problem for problem in said)
    assert 2 == sum("outcome of run" in problem for problem in said)
    rebuild_record(settings_of(home))
    assert as_after_a_rebuild(before) == everything(home)
    record = opened(home)
    assert () == record.disagreements()
    record.close()


def test_a_file_that_sqlite_finds_damaged_is_said_to_be(home: Path):
    fill(home)
    connection = sqlite3.connect(home / "record.db")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'runs_of_experiment'")
    connection.commit()
    connection.close()
    record = opened(home)

    said = record.disagreements()

    assert said
    record.close()


def test_very_many_pieces_are_put_together(home: Path, monkeypatch: pytest.MonkeyPatch):
    fill(home)
    record = opened(home)
    for number in range(9):
        record.annotate(2, 0, "note", number)
        record.set_states([(RunId(token="abcdefgh0", task=1), RunState.COMPLETED, None)])
    assert (0, 17) == (record.keep_again(), len(record.pieces()))
    monkeypatch.setattr(keeping, "_MANY_PIECES", 2)

    assert 4 == record.keep_again()

    assert (0, 4) == (record.keep_again(), len(record.pieces()))
    record.close()
    before = everything(home)
    (home / "record.db").unlink()
    rebuild_record(settings_of(home))
    assert before[-1] == everything(home)[-1]
