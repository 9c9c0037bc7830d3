"""A record that keeps a copy of everything as objects, beside its database."""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from xmslurm_repro.errors import ReproError, StoreError
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.run import Outcome, Receipt, RunId, RunState
from xmslurm_repro.ports.record import Annotation, ExperimentRow, Record, RunRow
from xmslurm_repro.ports.store import ObjectStore
from xmslurm_repro.record.pieces import KeptRun, Piece, put_together
from xmslurm_repro.store.files import make_folder, store_errors, write_atomic

_PIECES_EACH = 3
_MANY_PIECES = 1000
"""Beyond these it is time to put each experiment's pieces together."""

_LINE = re.compile(rb"blake3:[0-9a-f]{64}")


class PieceList:
    """The names of all pieces of a record, oldest first: a text file with one on each line."""

    def __init__(self, path: Path) -> None:
        """Use the file *path*, which need not be there."""
        self._path = path

    def __bool__(self) -> bool:
        """Whether it has ever been written."""
        return self._path.exists()

    def append(self, names: Iterable[Digest]) -> None:
        """Add *names*, all or none. Not synced: the database has everything, too."""
        lines = b"".join(f"{name}\n".encode() for name in names)
        make_folder(self._path.parent)
        with store_errors("write", self._path):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            try:
                # Two at once would mix on some file systems.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                os.write(descriptor, lines)
            finally:
                os.close(descriptor)

    def replace(self, names: Iterable[Digest]) -> None:
        """Let it hold *names* and nothing else."""
        write_atomic(self._path, b"".join(f"{name}\n".encode() for name in names))

    def names(self) -> list[Digest]:
        """Every name once. What is no name, such as a line that a full disk cut, is passed over."""
        try:
            with store_errors("read", self._path, but_missing=True):
                data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        lines = dict.fromkeys(data.split(b"\n"))
        return [Digest.parse(line.decode()) for line in lines if _LINE.fullmatch(line)]


class KeepingRecord:
    """
    A `Record` over another one, the database.

    What is recorded goes to the database, which is safe on disk then, and at once into an object
    of the store, which is not synced before something else is recorded. From these alone the
    database can be made again. A process that dies between the two leaves the database ahead;
    the next piece of the same run says it all again.
    """

    def __init__(
        self,
        inner: Record,
        store: ObjectStore,
        pieces: PieceList,
        using: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """
        Record in *inner*, and in objects of *store* whose names go to *pieces*.

        Nothing may be removed from the store inside a block of *using*.
        """
        self._using = using
        self._inner = inner
        self._store = store
        self._pieces = pieces
        self._lock = threading.Lock()
        self._notes: dict[int, list[Annotation]] = {}
        self._new: set[int] = set()

    def new_experiment(self, *, title: str, created_at: str, replay_of: int | None = None) -> int:
        """See `Record`. Goes into an object with what follows, at the latest at the end."""
        fresh = self._inner.new_experiment(title=title, created_at=created_at, replay_of=replay_of)
        with self._lock:
            self._new.add(fresh)
        return fresh

    def set_manifest(self, experiment_id: int, manifest: Digest) -> None:
        """See `Record`. Goes into an object with what follows, at the latest at the end."""
        self._inner.set_manifest(experiment_id, manifest)
        with self._lock:
            self._new.add(experiment_id)

    def experiment(self, experiment_id: int) -> ExperimentRow:
        """See `Record`."""
        return self._inner.experiment(experiment_id)

    def experiments(self) -> Sequence[ExperimentRow]:
        """See `Record`."""
        return self._inner.experiments()

    def promise(self, receipts: Sequence[Receipt]) -> None:
        """See `Record`."""
        self._inner.promise(receipts)
        self._write(KeptRun(row=RunRow(receipt=r, state=RunState.PROMISED)) for r in receipts)

    def confirm(self, token: str, job_ids: Sequence[str]) -> None:
        """See `Record`."""
        self._inner.confirm(token, job_ids)
        self._write(KeptRun(row=row) for row in self._inner.runs(token=token))

    def withdraw(self, token: str, reason: str) -> None:
        """See `Record`."""
        self._inner.withdraw(token, reason)
        self._write(KeptRun(row=row, is_withdrawn=True) for row in self._inner.runs(token=token))

    def runs(
        self, *, experiment_id: int | None = None, token: str | None = None
    ) -> Sequence[RunRow]:
        """See `Record`."""
        return self._inner.runs(experiment_id=experiment_id, token=token)

    def run(self, run_id: RunId) -> RunRow:
        """See `Record`."""
        return self._inner.run(run_id)

    def unconfirmed(self) -> Sequence[Receipt]:
        """See `Record`."""
        return self._inner.unconfirmed()

    def set_states(self, states: Sequence[tuple[RunId, RunState, str | None]]) -> None:
        """See `Record`. States that pass are not kept: the cluster says them again."""
        self._inner.set_states(states)
        final = [run_id for run_id, state, _ in states if state.is_final]
        if final:
            self._write(KeptRun(row=self._inner.run(run_id)) for run_id in final)

    def add_outcome(self, outcome: Outcome) -> None:
        """See `Record`. Goes into an object with the state that the run is in then."""
        self._inner.add_outcome(outcome)

    def outcomes(self, run_id: RunId) -> Sequence[Outcome]:
        """See `Record`."""
        return self._inner.outcomes(run_id)

    def annotate(self, experiment_id: int, unit_number: int, name: str, value: Json) -> None:
        """See `Record`. Goes into an object with what follows, at the latest at the end."""
        self._inner.annotate(experiment_id, unit_number, name, value)
        note = Annotation(unit_number=unit_number, name=name, value=value)
        with self._lock:
            self._notes.setdefault(experiment_id, []).append(note)

    def annotations(self, experiment_id: int) -> Sequence[Annotation]:
        """See `Record`."""
        return self._inner.annotations(experiment_id)

    def pieces(self) -> Sequence[Digest]:
        """See `Record`."""
        return self._pieces.names()

    def disagreements(self) -> Sequence[tuple[tuple[int, ...], str]]:
        """See `Record`."""
        with self._lock:
            damage = self._inner.disagreements()
            if damage:
                return damage
            rows = self._inner.experiments()
            now = put_together(whole_piece(self._inner, row) for row in rows)
            return now.lacks(put_together(self._readable()))

    def keep_again(self) -> int:
        """See `Record`."""
        with self._lock:
            rows = self._inner.experiments()
            now = [whole_piece(self._inner, row) for row in rows]
            is_short = len(self._pieces.names()) <= len(rows) * _PIECES_EACH + _MANY_PIECES
            if is_short and put_together(now).says_as_much_as(put_together(self._readable())):
                return 0
            self._pieces.replace(keep_whole(self._store, now))
            return len(now)

    def _readable(self) -> Iterator[Piece]:
        """Every piece, or none of them if one is damaged."""
        found = []
        for name in self._pieces.names():
            try:
                data = self._store.get(name)
                found.append(Piece.from_json(Reader.of_json(data, f"object {name}")))
            except ReproError:
                return iter(())
        return iter(found)

    def close(self) -> None:
        """See `Record`."""
        try:
            if self._new or self._notes:
                self._write(())
        finally:
            self._inner.close()

    def _write(self, runs: Iterable[KeptRun]) -> None:
        # The database has it already. A full disk is no reason to call a launch failed, and
        # `verify` keeps again what is missing.
        with self._lock, suppress(StoreError), self._using():
            self._write_pieces(runs)

    def _write_pieces(self, runs: Iterable[KeptRun]) -> None:
        """Keep a piece for each experiment that *runs* or what is waiting speak of."""
        by_experiment: dict[int, list[KeptRun]] = {}
        for run in runs:
            by_experiment.setdefault(run.row.receipt.experiment_id, []).append(run)
        if not self._pieces:
            # Of a database from before there were pieces, all of it.
            found = [whole_piece(self._inner, row) for row in self._inner.experiments()]
        else:
            touched = sorted(by_experiment.keys() | self._new | self._notes.keys())
            found = [self._piece(number, by_experiment.get(number, [])) for number in touched]
        self._pieces.append([self._store.put(piece.to_bytes()) for piece in found])
        self._new.clear()
        self._notes.clear()

    def _piece(self, experiment_id: int, runs: Sequence[KeptRun]) -> Piece:
        ended = [run.row.receipt.run_id for run in runs if run.row.state.is_final]
        return Piece(
            experiment=self._inner.experiment(experiment_id),
            runs=tuple(runs),
            outcomes=tuple(o for run_id in ended for o in self._inner.outcomes(run_id)),
            annotations=tuple(self._notes.get(experiment_id, ())),
        )


def keep_whole(store: ObjectStore, pieces: Iterable[Piece]) -> list[Digest]:
    """Put *pieces* into the store; return their names."""
    with store.batch() as batch:
        return [batch.put(piece.to_bytes()) for piece in pieces]


def whole_piece(record: Record, row: ExperimentRow) -> Piece:
    """All that *record* has of one experiment."""
    waiting = {receipt.run_id for receipt in record.unconfirmed()}
    rows = record.runs(experiment_id=row.id)
    return Piece(
        experiment=row,
        runs=tuple(
            KeptRun(
                row=run,
                is_withdrawn=run.receipt.job_id is None and run.receipt.run_id not in waiting,
            )
            for run in rows
        ),
        outcomes=tuple(o for run in rows for o in record.outcomes(run.receipt.run_id)),
        annotations=tuple(record.annotations(row.id)),
    )
