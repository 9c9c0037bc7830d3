"""A place where runs run: Slurm at the end of a connection, or this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from xmslurm_repro.model.image import Image
from xmslurm_repro.model.run import Outcome, RunId, RunState
from xmslurm_repro.model.work import Input, Network, Resources
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    One run of a submission.

    Attributes:
        run_id: Its name; tasks of one submission are numbered from 0 without gaps.
        argv: The command.
        env: The environment that the manifest gives, sorted.
        run_env: What differs from run to run by its nature: ``XMSLURM_*``, sorted.
    """

    run_id: RunId
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    run_env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedInput:
    """An input, and where it is on the cluster: an absolute path."""

    content: Input
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """
    One job of a group that starts together.

    Attributes:
        name: Its name in the group.
        image: What it runs.
        workdir: Absolute path in the image.
        resources: What it asks for.
        network: What it may reach.
        options: Further options, as those of a `Submission`.
        secrets: Names of those of the submission's secrets that it gets.
        inputs: What it reads, as the inputs of a `Submission`.
    """

    name: str
    image: Image
    workdir: str
    resources: Resources
    network: Network
    options: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    inputs: tuple[PlacedInput, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """
    What is submitted at once: one job, or an array whose tasks differ in command and environment.

    Attributes:
        token: Names it, and makes submitting it idempotent.
        title: For people, in the job's comment.
        image: What all tasks run.
        workdir: Absolute path in the image.
        resources: Of each task.
        network: What each task may reach.
        tasks: At least one.
        options: Further options by name, as the cluster knows them: for Slurm the long names
            of sbatch options without dashes (``partition``, ``account``); an empty value is a
            flag.
        max_parallel_tasks: How many tasks of the array may run at once.
        full_check: Whether the job re-reads every file that it was given, not only those that
            look touched. Replays do.
        group: The jobs of a group, of which each has the task of its number; everything that is
            said of one job here is then said of the first. Empty where there is no group.
        has_time: Whether limits on how much one user submits are waited for as long as it takes.
        inputs: What the job reads, read-only; it refuses to start on anything else.
        secrets: Names of variables that the job reads from where `secret_values` were sent.
        secret_values: Their values, by name; empty where it has arrived already.
    """

    token: str
    title: str
    image: Image
    workdir: str
    resources: Resources
    network: Network
    tasks: tuple[Task, ...]
    options: tuple[tuple[str, str], ...] = ()
    max_parallel_tasks: int | None = None
    full_check: bool = False
    inputs: tuple[PlacedInput, ...] = ()
    secrets: tuple[str, ...] = ()
    secret_values: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    has_time: bool = False
    group: tuple[Member, ...] = ()

    @property
    def members(self) -> tuple[Member, ...]:
        """The jobs that start together: those of the group, or the only one."""
        return self.group or (
            Member(
                name="main",
                image=self.image,
                workdir=self.workdir,
                resources=self.resources,
                network=self.network,
                options=self.options,
                secrets=self.secrets,
                inputs=self.inputs,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """
    What a cluster says of a run now.

    Attributes:
        state: The job's own end record outranks squeue, which outranks sacct.
        reason: Why it is in that state, where somebody said so.
        outcomes: One for each attempt that left a record, oldest first.
    """

    state: RunState
    reason: str | None = None
    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line of what a cluster can do: a name, what was found, whether a launch can use it."""

    name: str
    value: str
    is_good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """
    When a job would start, as its scheduler expects it now.

    Attributes:
        starts_in_seconds: From now; 0 for at once.
        nodes: Where, as the scheduler writes it.
        partition: Likewise.
    """

    starts_in_seconds: int
    nodes: str | None = None
    partition: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedFile:
    """An output of an attempt, to be read from a byte on."""

    run_id: RunId
    attempt: str
    path: str
    offset: int = 0


class Cluster(Protocol):
    """
    A configured cluster. Nothing of ours needs to be installed there.

    All methods may raise `ConnectionLostError` and `ClusterError`.
    """

    @property
    def name(self) -> str:
        """As the configuration calls it."""
        ...

    async def check(
        self, *, options: Sequence[tuple[str, str]] = (), with_job: bool = False
    ) -> Sequence[Fact]:
        """
        What a launch would need, and what is there.

        Args:
            options: What jobs are told there, as in `Submission`.
            with_job: Look on a compute node too, by a tiny job.
        """
        ...

    async def charges(self) -> Sequence[Fact]:
        """Where jobs may run, whom they may be charged to, and which limits there are."""
        ...

    def warm_up(self) -> None:
        """
        Begin to connect, beside whatever is done meanwhile; for when it will be needed soon.

        Raises nothing: what goes wrong is raised by the first method that needs it.
        """
        ...

    async def deliver(self, image: Image, blobs: BlobStore, progress: Progress) -> int:
        """
        Make the image's blobs available to jobs; move only what is missing.

        Idempotent. Returns the number of bytes moved.

        Raises:
            NoRuntimeError: If nothing there could run the image.
            DigestMismatchError: If a blob did not arrive whole.
        """
        ...

    async def max_tasks(self, options: Sequence[tuple[str, str]]) -> int | None:
        """
        How many tasks a submission with these options may have; ``None`` for any number.

        As far as the cluster says: the size of arrays, and what it takes of one user.
        """
        ...

    async def survey(self, paths: Sequence[tuple[str, str]]) -> tuple[Input, ...]:
        """
        What is at *paths*, by name: each is read whole, unless it was not touched since the last
        time that anybody asked.

        Raises:
            InputError: Naming all that cannot be read, or hold what no job could be shown.
        """
        ...

    async def estimate(self, resources: Resources, options: Sequence[tuple[str, str]]) -> Estimate:
        """
        When a job of this kind would start. Submits nothing.

        Raises:
            SubmitRefusedError: If it would never start.
            NoRuntimeError: If nothing there could run it.
        """
        ...

    async def submit(self, submission: Submission) -> str:
        """
        Submit exactly once, however often it is called with the same token.

        Returns:
            The scheduler's job id.

        Raises:
            SubmitRefusedError: The scheduler said no; nothing was submitted.
            SubmitUnknownError: It is not known; calling `submit` or `find` again is safe.
        """
        ...

    async def find(self, tokens: Sequence[str]) -> Mapping[str, str]:
        """The job id of each submission that did arrive. Submits nothing."""
        ...

    async def observe(self, runs: Mapping[RunId, str]) -> Mapping[RunId, Observation]:
        """Where runs stand, by run id and their job ids; a few commands for thousands of runs."""
        ...

    def logs(self, run_id: RunId, *, attempt: str | None, follow: bool) -> AsyncIterator[bytes]:
        """
        What the command of a run printed, from its beginning; the newest attempt by default.

        With *follow* it goes on until the run has ended, through requeues.
        """
        ...

    def follow(
        self,
        runs: Sequence[RunId],
        *,
        attempt: str | None = None,
        follow: bool = False,
        last_lines: int | None = None,
    ) -> AsyncIterator[tuple[RunId, bytes]]:
        """
        As `logs`, for many runs at once: pieces, each with the run that printed it.

        With *last_lines* it begins so many lines before the end of each log. One channel and one
        question to the scheduler serve them all. While following, a connection that breaks is
        made again, and nothing is missing or said twice.
        """
        ...

    async def fetch(self, run_id: RunId, attempt: str, path: str, target: BinaryIO) -> None:
        """
        Copy one output file here, as its bytes are.

        Raises:
            NotFoundError: If the attempt left no such file.
        """
        ...

    def fetch_many(self, wanted: Sequence[WantedFile]) -> AsyncIterator[tuple[WantedFile, bytes]]:
        """
        As `fetch`, for many files over one channel: their bytes, piece by piece and in order.

        Whoever asks has to check what came: nothing is hashed on the way.

        Raises:
            NotFoundError: If an attempt left no such file.
        """
        ...

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs. Idempotent; jobs that have ended are no error."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...
