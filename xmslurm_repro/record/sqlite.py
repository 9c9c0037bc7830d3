"""The record as a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xmslurm_repro.errors import FormatError, StoreError
from xmslurm_repro.model.canonical import Json, canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.run import Outcome, Receipt, RunId, RunState
from xmslurm_repro.ports.record import Annotation, ExperimentRow, RunRow
from xmslurm_repro.record import rules
from xmslurm_repro.record.database import Database
from xmslurm_repro.record.pieces import KeptRun, Whole

_EXPERIMENT = "SELECT id, title, manifest, created_at, replay_of FROM experiments"
_RUN = "SELECT token, task, receipt, state, reason FROM runs"


class SqliteRecord:
    """
    A `Record` in one SQLite file, mode 0600.

    Receipts and outcomes stand in it whole, as canonical JSON; the columns beside them are there
    to find them. Several processes and threads may use it at once.
    """

    def __init__(self, path: Path, *, settle: Callable[[], None] | None = None) -> None:
        """
        Open the record at *path*, making it if there is none.

        Args:
            path: The file.
            settle: Lets all that a manifest or receipt may name be safe on disk. Called before
                any is recorded.

        Raises:
            StoreError: If it cannot be opened, or is damaged.
            FormatError: If it is no record of ours, or a newer tool's.
        """
        self._path = path
        self._database = Database(path)
        self._settle = settle or _nothing

    def new_experiment(self, *, title: str, created_at: str, replay_of: int | None = None) -> int:
        """Begin an experiment; return its fresh id."""
        with self._database.transaction() as connection:
            if replay_of is not None:
                _demand_experiment(connection, replay_of)
            cursor = connection.execute(
                "INSERT INTO experiments (title, created_at, replay_of) VALUES (?, ?, ?)",
                (title, created_at, replay_of),
            )
            assert cursor.lastrowid is not None  # noqa: S101 (an INSERT always has one)
            return cursor.lastrowid

    def set_manifest(self, experiment_id: int, manifest: Digest) -> None:
        """Say what the experiment now consists of."""
        self._settle()
        with self._database.transaction() as connection:
            _demand_experiment(connection, experiment_id)
            connection.execute(
                "UPDATE experiments SET manifest = ? WHERE id = ?", (str(manifest), experiment_id)
            )

    def experiment(self, experiment_id: int) -> ExperimentRow:
        """One experiment."""
        # SQLite's integers have 64 bits; people may type more.
        known = experiment_id.bit_length() < 64
        rows = known and self._database.select(f"{_EXPERIMENT} WHERE id = ?", (experiment_id,))
        if not rows:
            raise rules.no_experiment(experiment_id)
        return self._experiment_row(rows[0])

    def experiments(self) -> Sequence[ExperimentRow]:
        """All experiments, oldest first."""
        rows = self._database.select(f"{_EXPERIMENT} ORDER BY id")
        return tuple(self._experiment_row(row) for row in rows)

    def promise(self, receipts: Sequence[Receipt]) -> None:
        """Record that runs are about to be submitted: all of them or none."""
        self._settle()
        with self._database.transaction() as connection:
            for experiment_id in dict.fromkeys(receipt.experiment_id for receipt in receipts):
                _demand_experiment(connection, experiment_id)
            for receipt in receipts:
                if _is_known(connection, receipt.run_id):
                    raise rules.promised_twice(receipt.run_id)
                connection.execute(
                    "INSERT INTO runs (token, task, experiment_id, unit_number, cluster, job_id,"
                    " state, receipt) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        receipt.run_id.token,
                        receipt.run_id.task,
                        receipt.experiment_id,
                        receipt.unit_number,
                        receipt.cluster,
                        receipt.job_id,
                        RunState.PROMISED.value,
                        _text(receipt.to_json()),
                    ),
                )

    def confirm(self, token: str, job_ids: Sequence[str]) -> None:
        """Record the job ids of a submission's runs, in the order of their tasks."""
        with self._database.transaction() as connection:
            receipts = self._submission(connection, token)
            connection.executemany(
                "UPDATE runs SET job_id = ?, receipt = ? WHERE token = ? AND task = ?",
                (
                    (receipt.job_id, _text(receipt.to_json()), token, receipt.run_id.task)
                    for receipt in rules.confirmed(receipts, job_ids)
                ),
            )
            connection.execute(
                "UPDATE runs SET state = ?, reason = NULL, withdrawn = 0"
                " WHERE token = ? AND (state = ? OR withdrawn = 1)",
                (RunState.PENDING.value, token, RunState.PROMISED.value),
            )

    def withdraw(self, token: str, reason: str) -> None:
        """Record that a submission was refused."""
        with self._database.transaction() as connection:
            receipts = self._submission(connection, token)
            job_ids = [receipt.job_id for receipt in receipts if receipt.job_id is not None]
            if job_ids:
                raise rules.refuse_withdrawal(token, job_ids)
            connection.execute(
                "UPDATE runs SET withdrawn = 1, state = ?, reason = ? WHERE token = ?",
                (RunState.CANCELLED.value, reason, token),
            )

    def runs(
        self, *, experiment_id: int | None = None, token: str | None = None
    ) -> Sequence[RunRow]:
        """Runs, oldest first."""
        wanted = {"experiment_id": experiment_id, "token": token}
        terms = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in terms) or "1"
        rows = self._database.select(
            f"{_RUN} WHERE {where} ORDER BY sequence",
            tuple(terms.values()),
        )
        return tuple(self._run_row(row) for row in rows)

    def run(self, run_id: RunId) -> RunRow:
        """One run."""
        rows = self._database.select(
            f"{_RUN} WHERE token = ? AND task = ?", (run_id.token, run_id.task)
        )
        if not rows:
            raise rules.no_run(run_id)
        return self._run_row(rows[0])

    def unconfirmed(self) -> Sequence[Receipt]:
        """Receipts that have no job id and were not withdrawn, oldest first."""
        rows = self._database.select(
            f"{_RUN} WHERE job_id IS NULL AND withdrawn = 0 ORDER BY sequence"
        )
        return tuple(self._run_row(row).receipt for row in rows)

    def set_states(self, states: Sequence[tuple[RunId, RunState, str | None]]) -> None:
        """Record what was last seen of runs."""
        with self._database.transaction() as connection:
            for run_id, state, reason in states:
                cursor = connection.execute(
                    "UPDATE runs SET state = ?, reason = ? WHERE token = ? AND task = ?",
                    (state.value, reason, run_id.token, run_id.task),
                )
                if cursor.rowcount == 0:
                    raise rules.no_run(run_id)

    def add_outcome(self, outcome: Outcome) -> None:
        """Keep what an attempt left."""
        text, run_id = _text(outcome.to_json()), outcome.run_id
        self._settle()
        with self._database.transaction() as connection:
            if not _is_known(connection, run_id):
                raise rules.no_run(run_id)
            connection.execute(
                "INSERT INTO outcomes (token, task, attempt, state, outcome)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (run_id.token, run_id.task, outcome.attempt, outcome.state.value, text),
            )
            (kept,) = connection.execute(
                "SELECT outcome FROM outcomes WHERE token = ? AND task = ? AND attempt = ?",
                (run_id.token, run_id.task, outcome.attempt),
            ).fetchone()
            if kept != text:
                raise rules.differing_outcome(outcome)

    def outcomes(self, run_id: RunId) -> Sequence[Outcome]:
        """What the attempts of a run left, oldest first."""
        rows = self._database.select(
            "SELECT attempt, outcome FROM outcomes WHERE token = ? AND task = ?",
            (run_id.token, run_id.task),
        )
        return tuple(
            Outcome.from_json(self._reader(text, f"outcome of run {run_id}, attempt {attempt}"))
            for attempt, text in sorted(rows, key=lambda row: rules.attempt_age(row[0]))
        )

    def annotate(self, experiment_id: int, unit_number: int, name: str, value: Json) -> None:
        """Keep a note beside an experiment or one of its units."""
        text = _text(value)
        with self._database.transaction() as connection:
            _demand_experiment(connection, experiment_id)
            connection.execute(
                "DELETE FROM annotations WHERE experiment_id = ? AND unit_number = ? AND name = ?",
                (experiment_id, unit_number, name),
            )
            if value is not None:
                connection.execute(
                    "INSERT INTO annotations VALUES (?, ?, ?, ?)",
                    (experiment_id, unit_number, name, text),
                )

    def annotations(self, experiment_id: int) -> Sequence[Annotation]:
        """The notes of an experiment and its units, by unit and name."""
        self.experiment(experiment_id)
        rows = self._database.select(
            "SELECT unit_number, name, value FROM annotations WHERE experiment_id = ?"
            " ORDER BY unit_number, name",
            (experiment_id,),
        )
        return tuple(
            Annotation(
                unit_number=unit_number,
                name=name,
                value=self._reader(value, f"annotation {name} of {experiment_id}").value,
            )
            for unit_number, name, value in rows
        )

    def restore(self, whole: Whole) -> None:
        """
        Fill this record, which is empty, with *whole*; ids are those that it says.

        Raises:
            IntegrityError: If there is something in it already.
        """
        with self._database.transaction() as connection:
            if connection.execute("SELECT count(*) FROM experiments").fetchone()[0]:
                raise rules.not_empty(str(self._path))
            # An experiment may say that it replays one whose piece is lost.
            connection.execute("PRAGMA defer_foreign_keys = ON")
            known = {row.id for row in whole.experiments}
            connection.executemany(
                "INSERT INTO experiments (id, title, manifest, created_at, replay_of)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    (
                        row.id,
                        row.title,
                        str(row.manifest) if row.manifest else None,
                        row.created_at,
                        row.replay_of if row.replay_of in known else None,
                    )
                    for row in whole.experiments
                ),
            )
            connection.executemany(
                "INSERT INTO runs (token, task, experiment_id, unit_number, cluster, job_id,"
                " withdrawn, state, reason, receipt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (_run_values(run) for run in whole.runs),
            )
            connection.executemany(
                "INSERT INTO outcomes (token, task, attempt, state, outcome)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    (o.run_id.token, o.run_id.task, o.attempt, o.state.value, _text(o.to_json()))
                    for o in whole.outcomes
                ),
            )
            connection.executemany(
                "INSERT INTO annotations VALUES (?, ?, ?, ?)",
                ((n, a.unit_number, a.name, _text(a.value)) for n, a in whole.annotations),
            )

    def pieces(self) -> Sequence[Digest]:
        """No objects: see `record.keeping`."""
        return ()

    def disagreements(self) -> Sequence[tuple[tuple[int, ...], str]]:
        """What SQLite finds wrong with the file."""
        try:
            rows = self._database.select("PRAGMA integrity_check(20)")
        except StoreError as error:
            return (((), error.message),)
        return tuple(((), f"{self._path}: {row[0]}") for row in rows if row[0] != "ok")

    def keep_again(self) -> int:
        """Nothing to keep."""
        return 0

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._database.close()

    def _submission(self, connection: sqlite3.Connection, token: str) -> tuple[Receipt, ...]:
        rows = connection.execute(f"{_RUN} WHERE token = ? ORDER BY task", (token,)).fetchall()
        if not rows:
            raise rules.no_submission(token)
        return tuple(self._run_row(row).receipt for row in rows)

    def _experiment_row(self, row: tuple[Any, ...]) -> ExperimentRow:
        experiment_id, title, manifest, created_at, replay_of = row
        where = f"the record {self._path}: experiment {experiment_id}"
        return ExperimentRow(
            id=experiment_id,
            title=title,
            manifest=None if manifest is None else Reader(manifest, where, "manifest").digest(),
            created_at=created_at,
            replay_of=replay_of,
        )

    def _run_row(self, row: tuple[Any, ...]) -> RunRow:
        token, task, receipt, state, reason = row
        what = f"receipt of run {token}.{task}"
        try:
            known = RunState(state)
        except ValueError as error:
            raise FormatError(
                f"the record {self._path}: {what}: unknown state {state!r}",
                hint="It may have been written by a newer version of xmslurm-repro.",
            ) from error
        return RunRow(
            receipt=Receipt.from_json(self._reader(receipt, what)), state=known, reason=reason
        )

    def _reader(self, text: str, what: str) -> Reader:
        return Reader.of_json(text.encode(), f"the record {self._path}: {what}")


def _nothing() -> None:
    """What is named need not be made safe."""


def _run_values(run: KeptRun) -> tuple[Any, ...]:
    receipt = run.row.receipt
    return (
        receipt.run_id.token,
        receipt.run_id.task,
        receipt.experiment_id,
        receipt.unit_number,
        receipt.cluster,
        receipt.job_id,
        int(run.is_withdrawn),
        run.row.state.value,
        run.row.reason,
        _text(receipt.to_json()),
    )


def _text(value: Json) -> str:
    return canonical_json(value).decode()


def _is_known(connection: sqlite3.Connection, run_id: RunId) -> bool:
    row = connection.execute(
        "SELECT 1 FROM runs WHERE token = ? AND task = ?", (run_id.token, run_id.task)
    ).fetchone()
    return row is not None


def _demand_experiment(connection: sqlite3.Connection, experiment_id: int) -> None:
    query = "SELECT 1 FROM experiments WHERE id = ?"
    is_known = experiment_id.bit_length() < 64 and (
        connection.execute(query, (experiment_id,)).fetchone() is not None
    )
    if not is_known:
        raise rules.no_experiment(experiment_id)
