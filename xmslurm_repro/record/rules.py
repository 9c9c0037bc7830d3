"""What every record refuses, whichever way it keeps things. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from xmslurm_repro.errors import IntegrityError, NotFoundError
from xmslurm_repro.model.run import Outcome, Receipt, RunId


def no_experiment(experiment_id: int) -> NotFoundError:
    """Make the error for an experiment that is not in the record."""
    return NotFoundError(
        f"there is no experiment {experiment_id}",
        hint="Run `xmslurm-repro list` to see those that there are.",
    )


def no_run(run_id: RunId) -> NotFoundError:
    """Make the error for a run that is not in the record."""
    return NotFoundError(f"there is no run {run_id}")


def no_submission(token: str) -> NotFoundError:
    """Make the error for a submission that was never promised."""
    return NotFoundError(f"no submission {token} was promised")


def promised_twice(run_id: RunId) -> IntegrityError:
    """Make the error for a run id that is used a second time."""
    return IntegrityError(f"run {run_id} is in the record already; a run id is never used again")


def confirmed(receipts: Sequence[Receipt], job_ids: Sequence[str]) -> tuple[Receipt, ...]:
    """
    Give the runs of one submission, in the order of their tasks, the job ids they got.

    Raises:
        IntegrityError: If there are more or fewer ids than runs, or a run has another id already.
    """
    token = receipts[0].run_id.token
    if len(receipts) != len(job_ids):
        raise IntegrityError(
            f"submission {token} has {len(receipts)} runs and was given {len(job_ids)} job ids"
        )
    for receipt, job_id in zip(receipts, job_ids, strict=True):
        if receipt.job_id not in {None, job_id}:
            raise IntegrityError(
                f"run {receipt.run_id} is job {receipt.job_id} and cannot be job {job_id} as well",
                details=(f"submission: {token}",),
            )
    return tuple(
        replace(receipt, job_id=job_id) for receipt, job_id in zip(receipts, job_ids, strict=True)
    )


def refuse_withdrawal(token: str, job_ids: Sequence[str]) -> IntegrityError:
    """Make the error for a submission that is said to be refused although it has jobs."""
    return IntegrityError(
        f"submission {token} was accepted as job {', '.join(job_ids)}; it cannot have been refused"
    )


def not_empty(path: str) -> IntegrityError:
    """Make the error for filling a record that has something in it."""
    return IntegrityError(f"the record {path} is not empty")


def differing_outcome(outcome: Outcome) -> IntegrityError:
    """Make the error for a second outcome of one attempt that says something else."""
    return IntegrityError(
        f"attempt {outcome.attempt} of run {outcome.run_id} is in the record with another outcome",
        hint="An attempt's files must not be touched once it has ended; the first reading is kept.",
    )


def attempt_age(attempt: str) -> tuple[tuple[int, ...], str]:
    """Sort attempts ``<job id>.<restart count>`` oldest first: both numbers only ever grow."""
    return tuple(int(number) for number in re.findall(r"[0-9]+", attempt)), attempt
