"""What happened: run ids, states, receipts and outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader

_RECEIPT_FORMAT = "xmslurm-receipt"
_OUTCOME_FORMAT = "xmslurm-outcome"
_TOKEN_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RunId:
    """
    The name of one run: ``<token>.<task>``.

    Attributes:
        token: Names the submission. Unguessable, lower-case letters and digits; the Slurm job
            is called ``xmslurm-<token>``, which is how a job is found again.
        task: Which task of the submission, from 0. A lone run is task 0.
    """

    token: str
    task: int

    def __post_init__(self) -> None:
        """Refuse what could not be a job or folder name."""
        if not 8 <= len(self.token) <= 40 or not _TOKEN_CHARACTERS.issuperset(self.token):
            raise ValueError(f"{self.token!r} is no submission token")
        if self.task < 0:
            raise ValueError(f"task {self.task} is negative")

    @classmethod
    def parse(cls, text: str) -> RunId:
        """Read ``token.task``; the inverse of ``str``."""
        token, dot, task = text.partition(".")
        if not dot or not task.isdecimal() or task != str(int(task)):
            raise ValueError(f"{text!r} is not of the form token.task")
        return cls(token=token, task=int(task))

    def __str__(self) -> str:
        """Write ``token.task``."""
        return f"{self.token}.{self.task}"


class RunState(Enum):
    """Where a run stands. What Slurm says is translated; what the job itself left outranks it."""

    PROMISED = "promised"
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out-of-memory"
    NODE_FAIL = "node-fail"
    PREEMPTED = "preempted"
    REFUSED = "refused"
    """The job found that it was not given what the manifest says, and did not run."""
    LOST = "lost"
    """The scheduler does not know it any more and it left no record."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come of this attempt."""
        return self not in {RunState.PROMISED, RunState.PENDING, RunState.RUNNING}

    @property
    def is_success(self) -> bool:
        """Whether the command ran to its end and exited with 0."""
        return self is RunState.COMPLETED


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """
    What was done: one run of one work unit, promised before the submission and confirmed after.

    Attributes:
        run_id: Its name.
        experiment_id: The integer that people type.
        unit_number: Which unit of the experiment, from 1.
        unit: Digest of the work unit.
        cluster: Where it was submitted.
        options: What the cluster was told beyond the work unit (account, partition, …).
        promised_at: RFC 3339, UTC.
        tool_version: Ours.
        replay_of: The run that this one repeats.
        job_id: Slurm's, as ``123`` or ``123_4``; ``None`` until confirmed.
        origin: Digest of the `Origin` of its snapshot, as JSON in the store.
        max_parallel_tasks: How many tasks of its submission may run at once, if limited.
        inputs: Where each of its inputs is on the cluster, by name, sorted.
        member: Which job of the work unit, by name, where it has several.
    """

    run_id: RunId
    experiment_id: int
    unit_number: int
    unit: Digest
    cluster: str
    options: tuple[tuple[str, str], ...]
    promised_at: str
    tool_version: str
    replay_of: RunId | None = None
    job_id: str | None = None
    origin: Digest | None = None
    max_parallel_tasks: int | None = None
    inputs: tuple[tuple[str, str], ...] = ()
    member: str | None = None

    @property
    def name(self) -> str:
        """As people read it: ``41/3``, and the member's name."""
        name = f"{self.experiment_id}/{self.unit_number}"
        return f"{name} {self.member}" if self.member else name

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        written: dict[str, Json] = {
            "format": f"{_RECEIPT_FORMAT}/1",
            "run_id": str(self.run_id),
            "experiment_id": self.experiment_id,
            "unit_number": self.unit_number,
            "unit": str(self.unit),
            "cluster": self.cluster,
            "options": dict(self.options),
            "promised_at": self.promised_at,
            "tool_version": self.tool_version,
            "replay_of": str(self.replay_of) if self.replay_of else None,
            "job_id": self.job_id,
            "origin": str(self.origin) if self.origin else None,
            "max_parallel_tasks": self.max_parallel_tasks,
        }
        # Only where there are any: other receipts keep their bytes.
        if self.inputs:
            written["inputs"] = dict(self.inputs)
        if self.member is not None:
            written["member"] = self.member
        return written

    @classmethod
    def from_json(cls, reader: Reader) -> Receipt:
        """Read what `to_json` wrote."""
        reader.format_version(_RECEIPT_FORMAT, newest=1)
        replay_of, job_id, origin = (reader.maybe(n) for n in ("replay_of", "job_id", "origin"))
        throttle, inputs = reader.maybe("max_parallel_tasks"), reader.maybe("inputs")
        member = reader.maybe("member")
        return cls(
            run_id=_run_id(reader.field("run_id")),
            experiment_id=reader.field("experiment_id").integer(),
            unit_number=reader.field("unit_number").integer(),
            unit=reader.field("unit").digest(),
            cluster=reader.field("cluster").text(),
            options=tuple(reader.field("options").text_map().items()),
            promised_at=reader.field("promised_at").text(),
            tool_version=reader.field("tool_version").text(),
            replay_of=_run_id(replay_of) if replay_of else None,
            job_id=job_id.text() if job_id else None,
            origin=origin.digest() if origin else None,
            max_parallel_tasks=throttle.integer() if throttle else None,
            inputs=tuple(inputs.text_map().items()) if inputs else (),
            member=member.text() if member else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """A file that a run left in its outputs folder: path below it, SHA-256, size."""

    path: str
    sha256: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    What came of one attempt of a run, as the job itself left it.

    Attributes:
        run_id: Which run.
        attempt: ``<job id>.<restart count>``: one folder each, never shared.
        state: How it ended.
        exit_code: Of the command; ``None`` when it never started.
        reason: One sentence where the state needs one.
        started_at: RFC 3339, UTC, by the node's clock.
        ended_at: Likewise.
        image: The image manifest's digest as the job checked it.
        facts: Node, kernel, CPU, GPU, driver, runtime, … by name, sorted.
        outputs: Everything in the outputs folder, sorted by path.
        log: SHA-256 of what the command printed.
    """

    run_id: RunId
    attempt: str
    state: RunState
    exit_code: int | None
    reason: str | None
    started_at: str | None
    ended_at: str | None
    image: Digest | None
    facts: tuple[tuple[str, str], ...]
    outputs: tuple[OutputFile, ...]
    log: Digest | None

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        return {
            "format": f"{_OUTCOME_FORMAT}/1",
            "run_id": str(self.run_id),
            "attempt": self.attempt,
            "state": self.state.value,
            "exit_code": self.exit_code,
            "reason": self.reason,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "image": str(self.image) if self.image else None,
            "facts": dict(self.facts),
            "outputs": [
                {"path": o.path, "sha256": str(o.sha256), "size_bytes": o.size_bytes}
                for o in self.outputs
            ],
            "log": str(self.log) if self.log else None,
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Outcome:
        """Read what `to_json` wrote."""
        reader.format_version(_OUTCOME_FORMAT, newest=1)
        state, image, log = reader.field("state"), reader.maybe("image"), reader.maybe("log")
        exit_code = reader.maybe("exit_code")
        try:
            known = RunState(state.text())
        except ValueError as error:
            raise state.fail("a run state") from error
        reason, started, ended = (reader.maybe(n) for n in ("reason", "started_at", "ended_at"))
        return cls(
            run_id=_run_id(reader.field("run_id")),
            attempt=reader.field("attempt").text(),
            state=known,
            exit_code=exit_code.integer() if exit_code else None,
            reason=reason.text() if reason else None,
            started_at=started.text() if started else None,
            ended_at=ended.text() if ended else None,
            image=image.digest() if image else None,
            facts=tuple(reader.field("facts").text_map().items()),
            outputs=tuple(
                OutputFile(
                    path=item.field("path").text(),
                    sha256=item.field("sha256").digest(),
                    size_bytes=item.field("size_bytes").integer(),
                )
                for item in reader.field("outputs").items()
            ),
            log=log.digest() if log else None,
        )


def _run_id(reader: Reader) -> RunId:
    try:
        return RunId.parse(reader.text())
    except ValueError as error:
        raise reader.fail("a run id") from error
