"""What a record promises as a file: modes, durability, several processes, damage, versions."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from xmslurm_repro.errors import FormatError, StoreError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import Receipt, RunId, RunState
from xmslurm_repro.record.database import file_system_type
from xmslurm_repro.record.schema import APPLICATION_ID, MIGRATIONS
from xmslurm_repro.record.sqlite import SqliteRecord

NOON = "2026-01-02T12:00:00Z"

WRITER = """
import sys
from pathlib import Path
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import Receipt, RunId
from xmslurm_repro.record.sqlite import SqliteRecord

path, name, count, tasks = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
record = SqliteRecord(path)
for step in range(count):
    experiment = record.new_experiment(title=f"{name} {step}", created_at="2026-01-02T12:00:00Z")
    token = f"{name}{step:08}"
    record.promise([
        Receipt(
            run_id=RunId(token=token, task=task), experiment_id=experiment, unit_number=task + 1,
            unit=Digest.blake3("2" * 64), cluster="c", options=(),
            promised_at="2026-01-02T12:00:00Z", tool_version="0",
        )
        for task in range(tasks)
    ])
    record.confirm(token, [f"{step}_{task}" for task in range(tasks)])
    print(token, flush=True)
"""


def start_writer(path: Path, name: str, *, count: int, tasks: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count), str(tasks)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_was_written_is_there_when_the_file_is_opened_again(tmp_path: Path):
    first = SqliteRecord(tmp_path / "home" / "record.db")
    number = first.new_experiment(title="one", created_at=NOON)
    first.annotate(number, 0, "note", "x")
    first.close()
    second = SqliteRecord(tmp_path / "home" / "record.db")

    assert ["one"] == [row.title for row in second.experiments()]
    assert ["x"] == [note.value for note in second.annotations(number)]
    second.close()


def test_nothing_is_recorded_that_names_objects_before_these_are_safe_on_disk(tmp_path: Path):
    def fail() -> None:
        raise StoreError("the disk is full")

    path, run_id = tmp_path / "record.db", RunId(token="0123456789ab", task=0)
    receipt = Receipt(
        run_id=run_id,
        experiment_id=1,
        unit_number=1,
        unit=Digest.blake3("2" * 64),
        cluster="c",
        options=(),
        promised_at=NOON,
        tool_version="0",
    )
    record = SqliteRecord(path, settle=fail)
    number = record.new_experiment(title="one", created_at=NOON)
    for write in (
        lambda: record.set_manifest(number, Digest.blake3("1" * 64)),
        lambda: record.promise([receipt]),
    ):
        with pytest.raises(StoreError, match="full"):
            write()
    record.close()

    settled: list[int] = []
    again = SqliteRecord(path, settle=lambda: settled.append(len(again.runs())))
    assert again.experiment(number).manifest is None
    assert () == again.runs()
    again.set_manifest(number, Digest.blake3("1" * 64))
    again.promise([receipt])
    assert [0, 0] == settled
    assert [run_id] == [row.receipt.run_id for row in again.runs()]
    again.close()


def test_an_id_is_not_used_again_after_its_row_is_gone(tmp_path: Path):
    record = SqliteRecord(tmp_path / "record.db")
    record.new_experiment(title="one", created_at=NOON)
    record.new_experiment(title="two", created_at=NOON)
    with sqlite3.connect(tmp_path / "record.db") as other:
        other.execute("DELETE FROM experiments")
    other.close()

    assert 3 == record.new_experiment(title="three", created_at=NOON)
    record.close()


def test_only_the_owner_may_read_the_record(tmp_path: Path):
    before = os.umask(0)
    try:
        record = SqliteRecord(tmp_path / "home" / "record.db")
        record.new_experiment(title="one", created_at=NOON)
    finally:
        os.umask(before)

    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "home").iterdir()}

    assert {0o600} == set(modes.values())
    assert "record.db-wal" in modes
    assert 0o700 == (tmp_path / "home").stat().st_mode & 0o777
    record.close()


def test_two_processes_may_write_at_once_and_neither_loses_anything(tmp_path: Path):
    writers = [
        start_writer(tmp_path / "record.db", name, count=25, tasks=3) for name in ("left", "right")
    ]
    said = [writer.communicate(timeout=120)[0].split() for writer in writers]

    assert [0, 0] == [writer.returncode for writer in writers]
    record = SqliteRecord(tmp_path / "record.db")
    assert list(range(1, 51)) == [row.id for row in record.experiments()]
    assert 150 == len(record.runs())
    assert {token for tokens in said for token in tokens} == {
        row.receipt.run_id.token for row in record.runs()
    }
    assert () == tuple(record.unconfirmed())
    record.close()


@pytest.mark.parametrize("after", [1, 4])
def test_a_process_killed_while_it_writes_leaves_whole_transactions(tmp_path: Path, after: int):
    writer = start_writer(tmp_path / "record.db", "victim", count=10_000, tasks=40)
    assert writer.stdout is not None
    said = [writer.stdout.readline().strip() for _ in range(after)]
    writer.send_signal(signal.SIGKILL)
    rest, _ = writer.communicate()
    said += rest.split("\n")[:-1]
    record = SqliteRecord(tmp_path / "record.db")

    kept: dict[str, list[RunState]] = {}
    for row in record.runs():
        kept.setdefault(row.receipt.run_id.token, []).append(row.state)

    assert set(said) <= set(kept)
    assert {40} == {len(states) for states in kept.values()}
    assert all(len(set(states)) == 1 for states in kept.values())
    assert all({RunState.PENDING} == set(kept[token]) for token in said)
    assert record.new_experiment(title="after", created_at=NOON) >= after
    record.close()


def test_a_newer_record_is_left_alone(tmp_path: Path):
    path = tmp_path / "record.db"
    SqliteRecord(path).close()
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO migrations VALUES (?, 'from the future')", (99,))
    other.close()

    with pytest.raises(FormatError, match="schema 99, written by a newer version") as caught:
        SqliteRecord(path)

    assert caught.value.hint is not None
    assert "Upgrade" in caught.value.hint


def test_a_database_of_another_program_is_left_alone(tmp_path: Path):
    path = tmp_path / "record.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(FormatError, match="another program"):
        SqliteRecord(path)

    assert before == path.read_bytes()


@pytest.mark.parametrize("damage", [b"this is no database at all" * 100, b"SQLite format 3\0rest"])
def test_a_file_that_is_no_database_is_called_damaged(tmp_path: Path, damage: bytes):
    path = tmp_path / "record.db"
    path.write_bytes(damage)

    with pytest.raises(StoreError, match=r"record\.db is damaged") as caught:
        SqliteRecord(path)

    assert caught.value.hint is not None
    assert "--rebuild-record" in caught.value.hint
    assert damage == path.read_bytes()


def test_damage_inside_the_file_is_reported_when_it_is_met(tmp_path: Path):
    path = tmp_path / "record.db"
    record = SqliteRecord(path)
    for number in range(300):
        record.new_experiment(title="t" * 200 + str(number), created_at=NOON)
    record.close()
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xee" * (len(data) - 8192)
    path.write_bytes(data)

    with pytest.raises(StoreError, match="is damaged"):
        SqliteRecord(path).experiments()


def test_a_receipt_that_was_tampered_with_is_named(tmp_path: Path):
    path = tmp_path / "record.db"
    writer = start_writer(path, "writer", count=1, tasks=1)
    writer.communicate(timeout=60)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE runs SET receipt = replace(receipt, 'blake3:', 'blake4:')")
    other.close()
    record = SqliteRecord(path)

    with pytest.raises(
        FormatError, match=r"receipt of run writer00000000\.0: unit: expected a dig"
    ):
        record.runs()
    record.close()


def test_a_record_that_cannot_be_written_says_so(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StoreError, match="cannot be written"):
        SqliteRecord(tmp_path / "file" / "record.db")


def test_a_record_in_use_for_too_long_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "record.db"
    SqliteRecord(path).close()
    monkeypatch.setattr("xmslurm_repro.record.database._BUSY_SECONDS", 0.1)
    record = SqliteRecord(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    with pytest.raises(StoreError, match="in use by another process"):
        record.new_experiment(title="x", created_at=NOON)

    holder.execute("ROLLBACK")
    assert 1 == record.new_experiment(title="x", created_at=NOON)
    holder.close()
    record.close()


def test_an_empty_file_left_by_a_killed_process_becomes_a_record(tmp_path: Path):
    path = tmp_path / "record.db"
    path.touch(mode=0o600)
    record = SqliteRecord(path)

    with sqlite3.connect(path) as other:
        versions = other.execute("SELECT version FROM migrations").fetchall()
        owner = other.execute("PRAGMA application_id").fetchone()
    other.close()

    assert [(number + 1,) for number in range(len(MIGRATIONS))] == versions
    assert (APPLICATION_ID,) == owner
    record.close()


def test_the_write_ahead_log_is_used_on_a_local_disk_and_not_on_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def journal(path: Path) -> str:
        record = SqliteRecord(path)
        record.new_experiment(title="x", created_at=NOON)
        record.close()
        other = sqlite3.connect(path)
        (mode,) = other.execute("PRAGMA journal_mode").fetchone()
        other.close()
        return str(mode)

    assert "wal" == journal(tmp_path / "record.db")
    monkeypatch.setattr("xmslurm_repro.record.database.file_system_type", lambda *_: "nfs4")
    assert "delete" == journal(tmp_path / "remote.db")
    assert "delete" == journal(tmp_path / "record.db")


MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /home rw shared:2 - nfs4 server:/home rw
31 30 0:41 / /home/alice/with\040space rw - xfs /dev/sdb rw
32 21 0:42 / /home2 rw - lustre 10.0.0.1@tcp:/l rw
33 21 0:43 / /scratch rw - ext4 /dev/sdc rw
34 33 0:44 / /scratch rw - beegfs beegfs_nodev rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/lib/x", "ext4"),
        ("/home/alice/record.db", "nfs4"),
        ("/home/alice/with space/record.db", "xfs"),
        ("/home2/bob", "lustre"),
        ("/homework", "ext4"),
        ("/scratch/x", "beegfs"),
    ],
)
def test_the_file_system_is_that_of_the_innermost_and_newest_mount(path: str, expected: str):
    assert expected == file_system_type(Path(path), MOUNTS)


def test_without_a_mount_table_the_file_system_is_not_known():
    assert file_system_type(Path("/x"), "") is None
