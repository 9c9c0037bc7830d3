"""What decides when and where a job runs, as a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from xmslurm_repro.model.run import RunState
from xmslurm_repro.model.work import Resources
from xmslurm_repro.ports.cluster import Submission

JOB_NAME_PREFIX = "xmslurm-"


class Answer(Enum):
    """What a scheduler's reply to a submission means."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """A definite no, now and later."""
    WAIT = "wait"
    """A definite no for now: a limit is reached, or the controller is away."""
    UNKNOWN = "unknown"
    """It may have been accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """
    One line of what a scheduler knows.

    Attributes:
        token: Of the submission, by the job's name.
        task: By the array index; ``None`` for a job that is no array, or for all tasks of one
            that have no line of their own.
        job_id: ``123`` or ``123_4``.
        state: Translated.
        word: The scheduler's own word for the state.
        reason: Its reason, where it gives one.
    """

    token: str
    task: int | None
    job_id: str
    state: RunState
    word: str
    reason: str | None = None


class Scheduler(Protocol):
    """
    A scheduler on a cluster. What it does there is in its bash file, which defines

    - ``scheduler_submit SCRIPT NAME TASKS LIMIT``: submit; print the job id.
    - ``scheduler_find NAME``: print the job id of the job of that name, nothing if there is none;
      1 if that cannot be known now.
    - ``scheduler_states``: print what is known of all jobs, in a form for `parse_states`.
    - ``scheduler_history NAMES``: likewise of jobs that `scheduler_states` forgot.
    - ``scheduler_alive NAME TASK``: 0 if it is queued or running, 1 if not, 2 if unknown.
    - ``scheduler_limits ACCOUNT PARTITION QOS``: print numbers, a line each, of which the least
      is how many tasks one submission may have; nothing where there is no limit.
    - ``scheduler_estimate SCRIPT``: say when it would start, in UTC, or ``now``; 1 if never.
    - ``scheduler_living NAME…``: a line with name and task for each that is queued or running; 2
      if that cannot be known now.
    - ``scheduler_cancel ID…``: cancel; ids of ended jobs are no error.
    """

    @property
    def name(self) -> str:
        """Its name, and that of its bash file."""
        ...

    def directives(self, submission: Submission, *, folder: str) -> tuple[str, ...]:
        """
        The lines below ``#!`` that tell the scheduler what *submission* asks for; its own
        output goes to *folder* on the cluster.

        Raises:
            SubmitRefusedError: If an option cannot be said, or is ours to set.
        """
        ...

    def estimate_directives(
        self, resources: Resources, options: Sequence[tuple[str, str]]
    ) -> tuple[str, ...]:
        """The lines that tell the scheduler what to expect of a job that is not submitted."""
        ...

    def classify(self, exit_status: int, stderr: str) -> Answer:
        """What a reply to ``scheduler_submit`` means. Pure."""
        ...

    def parse_states(self, output: str) -> Sequence[JobStatus]:
        """Read what ``scheduler_states`` or ``scheduler_history`` printed; skip foreign jobs."""
        ...
