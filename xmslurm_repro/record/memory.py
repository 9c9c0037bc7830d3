"""A record that lasts as long as the process: for tests and for trying things out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from xmslurm_repro.model.canonical import Json, canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import Outcome, Receipt, RunId, RunState
from xmslurm_repro.ports.record import Annotation, ExperimentRow, RunRow
from xmslurm_repro.record import rules


class MemoryRecord:
    """A `Record` in memory, safe to use from several threads."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lock = threading.RLock()
        self._experiments: dict[int, ExperimentRow] = {}
        self._runs: dict[RunId, RunRow] = {}
        self._withdrawn: set[str] = set()
        self._outcomes: dict[RunId, dict[str, Outcome]] = {}
        self._annotations: dict[tuple[int, int, str], Json] = {}

    def new_experiment(self, *, title: str, created_at: str, replay_of: int | None = None) -> int:
        """Begin an experiment; return its fresh id."""
        with self._lock:
            if replay_of is not None:
                self.experiment(replay_of)
            fresh = len(self._experiments) + 1
            self._experiments[fresh] = ExperimentRow(
                id=fresh, title=title, manifest=None, created_at=created_at, replay_of=replay_of
            )
            return fresh

    def set_manifest(self, experiment_id: int, manifest: Digest) -> None:
        """Say what the experiment now consists of."""
        with self._lock:
            row = self.experiment(experiment_id)
            self._experiments[experiment_id] = replace(row, manifest=manifest)

    def experiment(self, experiment_id: int) -> ExperimentRow:
        """One experiment."""
        with self._lock:
            if experiment_id not in self._experiments:
                raise rules.no_experiment(experiment_id)
            return self._experiments[experiment_id]

    def experiments(self) -> Sequence[ExperimentRow]:
        """All experiments, oldest first."""
        with self._lock:
            return tuple(self._experiments.values())

    def promise(self, receipts: Sequence[Receipt]) -> None:
        """Record that runs are about to be submitted: all of them or none."""
        with self._lock:
            fresh: dict[RunId, RunRow] = {}
            for receipt in receipts:
                self.experiment(receipt.experiment_id)
                if receipt.run_id in self._runs or receipt.run_id in fresh:
                    raise rules.promised_twice(receipt.run_id)
                fresh[receipt.run_id] = RunRow(receipt=receipt, state=RunState.PROMISED)
            self._runs.update(fresh)

    def confirm(self, token: str, job_ids: Sequence[str]) -> None:
        """Record the job ids of a submission's runs, in the order of their tasks."""
        with self._lock:
            for receipt in rules.confirmed(self._receipts(token), job_ids):
                row = self._runs[receipt.run_id]
                is_new = row.state is RunState.PROMISED or token in self._withdrawn
                self._runs[receipt.run_id] = RunRow(
                    receipt=receipt,
                    state=RunState.PENDING if is_new else row.state,
                    reason=None if is_new else row.reason,
                )
            self._withdrawn.discard(token)

    def withdraw(self, token: str, reason: str) -> None:
        """Record that a submission was refused."""
        with self._lock:
            receipts = self._receipts(token)
            job_ids = [receipt.job_id for receipt in receipts if receipt.job_id is not None]
            if job_ids:
                raise rules.refuse_withdrawal(token, job_ids)
            for receipt in receipts:
                self._runs[receipt.run_id] = RunRow(
                    receipt=receipt, state=RunState.CANCELLED, reason=reason
                )
            self._withdrawn.add(token)

    def runs(
        self, *, experiment_id: int | None = None, token: str | None = None
    ) -> Sequence[RunRow]:
        """Runs, oldest first."""
        with self._lock:
            return tuple(
                row
                for row in self._runs.values()
                if experiment_id in {None, row.receipt.experiment_id}
                and token in {None, row.receipt.run_id.token}
            )

    def run(self, run_id: RunId) -> RunRow:
        """One run."""
        with self._lock:
            if run_id not in self._runs:
                raise rules.no_run(run_id)
            return self._runs[run_id]

    def unconfirmed(self) -> Sequence[Receipt]:
        """Receipts that have no job id and were not withdrawn, oldest first."""
        with self._lock:
            return tuple(
                row.receipt
                for row in self._runs.values()
                if row.receipt.job_id is None and row.receipt.run_id.token not in self._withdrawn
            )

    def set_states(self, states: Sequence[tuple[RunId, RunState, str | None]]) -> None:
        """Record what was last seen of runs."""
        with self._lock:
            for run_id, _, _ in states:
                self._known(run_id)
            for run_id, state, reason in states:
                self._runs[run_id] = replace(self._runs[run_id], state=state, reason=reason)

    def add_outcome(self, outcome: Outcome) -> None:
        """Keep what an attempt left."""
        with self._lock:
            self._known(outcome.run_id)
            kept = self._outcomes.setdefault(outcome.run_id, {})
            if kept.setdefault(outcome.attempt, outcome) != outcome:
                raise rules.differing_outcome(outcome)

    def outcomes(self, run_id: RunId) -> Sequence[Outcome]:
        """What the attempts of a run left, oldest first."""
        with self._lock:
            kept = self._outcomes.get(run_id, {})
            return tuple(kept[attempt] for attempt in sorted(kept, key=rules.attempt_age))

    def annotate(self, experiment_id: int, unit_number: int, name: str, value: Json) -> None:
        """Keep a note beside an experiment or one of its units."""
        canonical_json(value)
        with self._lock:
            self.experiment(experiment_id)
            self._annotations[experiment_id, unit_number, name] = value

    def annotations(self, experiment_id: int) -> Sequence[Annotation]:
        """The notes of an experiment."""
        with self._lock:
            self.experiment(experiment_id)
            return tuple(
                Annotation(unit_number=unit_number, name=name, value=value)
                for (owner, unit_number, name), value in sorted(
                    self._annotations.items(), key=lambda item: item[0]
                )
                if owner == experiment_id and value is not None
            )

    def pieces(self) -> Sequence[Digest]:
        """No objects: see `record.keeping`."""
        return ()

    def disagreements(self) -> Sequence[tuple[tuple[int, ...], str]]:
        """Nothing to disagree with."""
        return ()

    def keep_again(self) -> int:
        """Nothing to keep."""
        return 0

    def close(self) -> None:
        """Nothing to let go of."""

    def _receipts(self, token: str) -> tuple[Receipt, ...]:
        found = [row.receipt for row in self._runs.values() if row.receipt.run_id.token == token]
        if not found:
            raise rules.no_submission(token)
        return tuple(sorted(found, key=lambda receipt: receipt.run_id))

    def _known(self, run_id: RunId) -> None:
        if run_id not in self._runs:
            raise rules.no_run(run_id)
