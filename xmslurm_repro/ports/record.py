"""What was meant and what happened, kept for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import Outcome, Receipt, RunId, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRow:
    """
    One experiment.

    Attributes:
        id: The integer that people type; from 1, never used again.
        title: For people.
        manifest: The newest manifest; ``None`` until the first unit is added.
        created_at: RFC 3339, UTC.
        replay_of: The experiment that this one replays.
    """

    id: int
    title: str
    manifest: Digest | None
    created_at: str
    replay_of: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A receipt, and the last state that was seen of its run, with the reason."""

    receipt: Receipt
    state: RunState
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """
    A note beside an experiment or one of its units: tags, notes, XManager's identities. For
    people and front ends; nothing that decides a run.

    Attributes:
        unit_number: The unit, from 1; 0 for the experiment itself.
        name: What it is about.
        value: Any JSON but null.
    """

    unit_number: int
    name: str
    value: Json


class Record(Protocol):
    """
    The record. Every method is one transaction that is on disk when it returns; two processes
    may use it at once.
    """

    def new_experiment(self, *, title: str, created_at: str, replay_of: int | None = None) -> int:
        """Begin an experiment; return its fresh id."""
        ...

    def set_manifest(self, experiment_id: int, manifest: Digest) -> None:
        """Say what the experiment now consists of."""
        ...

    def experiment(self, experiment_id: int) -> ExperimentRow:
        """
        One experiment.

        Raises:
            NotFoundError: If there is none of that id.
        """
        ...

    def experiments(self) -> Sequence[ExperimentRow]:
        """All experiments, oldest first."""
        ...

    def promise(self, receipts: Sequence[Receipt]) -> None:
        """Record that runs are about to be submitted: all of them or none."""
        ...

    def confirm(self, token: str, job_ids: Sequence[str]) -> None:
        """Record the job ids of a submission's runs, in the order of their tasks. Idempotent."""
        ...

    def withdraw(self, token: str, reason: str) -> None:
        """Record that a submission was refused: its runs become `CANCELLED`, with the reason."""
        ...

    def runs(
        self, *, experiment_id: int | None = None, token: str | None = None
    ) -> Sequence[RunRow]:
        """Runs, oldest first: of one experiment, of one submission, or all."""
        ...

    def run(self, run_id: RunId) -> RunRow:
        """
        One run.

        Raises:
            NotFoundError: If it was never promised.
        """
        ...

    def unconfirmed(self) -> Sequence[Receipt]:
        """Receipts that have no job id and were not withdrawn, oldest first."""
        ...

    def set_states(self, states: Sequence[tuple[RunId, RunState, str | None]]) -> None:
        """Record what was last seen of runs."""
        ...

    def add_outcome(self, outcome: Outcome) -> None:
        """Keep what an attempt left. Idempotent; a differing second one is an `IntegrityError`."""
        ...

    def outcomes(self, run_id: RunId) -> Sequence[Outcome]:
        """What the attempts of a run left, oldest first."""
        ...

    def annotate(self, experiment_id: int, unit_number: int, name: str, value: Json) -> None:
        """Keep a note, in place of the one of that name; ``None`` removes it."""
        ...

    def annotations(self, experiment_id: int) -> Sequence[Annotation]:
        """The notes of an experiment and its units, by unit and name."""
        ...

    def pieces(self) -> Sequence[Digest]:
        """The objects that it keeps copies of itself in, the oldest first."""
        ...

    def disagreements(self) -> Sequence[tuple[tuple[int, ...], str]]:
        """
        What is damaged in it, as far as can be told: experiments, and what is wrong. Among that
        is what its pieces know and it does not, or has otherwise.
        """
        ...

    def keep_again(self) -> int:
        """
        See to it that its pieces say what it says itself.

        Returns:
            How many experiments had to be kept again: none where nothing was missing.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...
