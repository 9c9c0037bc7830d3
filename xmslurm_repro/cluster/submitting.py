"""Submit exactly once, over connections that break and schedulers that hang."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from xmslurm_repro.cluster.program import compose, readable_lines, run_program
from xmslurm_repro.cluster.scheduler import JOB_NAME_PREFIX, Answer, Scheduler
from xmslurm_repro.cluster.tasks import TaskTable
from xmslurm_repro.errors import (
    ClusterError,
    ConnectionLostError,
    SubmitRefusedError,
    SubmitUnknownError,
)
from xmslurm_repro.ports.clock import Clock
from xmslurm_repro.ports.transport import Completed, Transport

_CUT_SHORT, _UNKNOWN, _BUSY = 74, 69, 75
"""Exit statuses of ``submit.bash``: the payload did not come whole; what became of an earlier
try cannot be found out now; somebody else is submitting the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What is sent to the login node."""

    token: str
    script: bytes
    table: TaskTable
    task_count: int
    max_parallel_tasks: int

    def arguments(self, settle_seconds: int) -> tuple[str, ...]:
        """What ``submit.bash`` takes, after the state folder."""
        parts = (self.script, self.table.records, self.table.index)
        sizes = (word for part in parts for word in (str(len(part)), _sha256(part)))
        counts = (str(self.task_count), str(self.max_parallel_tasks), str(settle_seconds))
        return (self.token, f"{JOB_NAME_PREFIX}{self.token}", *counts, *sizes)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """
    Sends submissions to one login node.

    Attributes:
        patience_seconds: For how long limits, an absent controller and open questions are waited
            for before we give up.
        limit_patience_seconds: For how long limits alone are waited for, if longer.
        settle_seconds: How long a controller that answers again may take to carry out what it was
            told before.
    """

    transport: Transport
    scheduler: Scheduler
    clock: Clock
    state_dir: str
    patience_seconds: float = 600
    limit_patience_seconds: float = 0
    settle_seconds: int = 5

    async def submit(self, payload: Payload) -> str:
        """
        Submit, and return the job id. Sending the same payload again is safe: the login node
        remembers what was tried, and asks the scheduler before it would try again.

        Raises:
            SubmitRefusedError: The scheduler said no; nothing was submitted.
            SubmitUnknownError: It is not known whether it was accepted.
            ConnectionLostError: Nothing was sent.
        """
        waited, pause, may_exist, settle = 0.0, 1.0, False, self.settle_seconds
        while True:
            answer, job_id, words = await self._try_once(payload, settle, may_exist=may_exist)
            if answer is Answer.ACCEPTED:
                return job_id
            may_exist = answer is Answer.UNKNOWN
            settle = self.settle_seconds if may_exist else 0
            if answer is Answer.REFUSED or waited >= self._patience(answer):
                break
            await self.clock.sleep(pause)
            waited, pause = waited + pause, min(pause * 2, 60.0)
        if may_exist:
            raise SubmitUnknownError(
                f"it is not known whether job {JOB_NAME_PREFIX}{payload.token} was accepted",
                hint="Ask for its status later: it is looked up before it would be sent again.",
                details=words,
            )
        await self._withdraw(payload.token)
        raise SubmitRefusedError(
            f"{self.scheduler.name} refused the job on {self.transport.description}",
            hint=_hint(answer, words),
            details=(*(line for line in _directives(payload.script)), *words),
        )

    def _patience(self, answer: Answer) -> float:
        longer = self.limit_patience_seconds if answer is Answer.WAIT else 0.0
        return max(self.patience_seconds, longer)

    async def _try_once(
        self, payload: Payload, settle_seconds: int, *, may_exist: bool
    ) -> tuple[Answer, str, tuple[str, ...]]:
        body = payload.script + payload.table.records + payload.table.index
        try:
            done = await run_program(
                self.transport,
                compose("common", self.scheduler.name, "submit"),
                *(self.state_dir, *payload.arguments(settle_seconds)),
                payload=body,
                timeout_seconds=300,
            )
        except ConnectionLostError as error:
            if not (error.may_have_run or may_exist):
                raise
            return Answer.UNKNOWN, "", (error.message,)
        return self._read(done)

    def _read(self, done: Completed) -> tuple[Answer, str, tuple[str, ...]]:
        said = readable_lines(done.stderr)
        if done.exit_status == _CUT_SHORT:
            return Answer.WAIT, "", ("the submission did not arrive whole", *said)
        if done.exit_status in {_UNKNOWN, _BUSY}:
            return Answer.UNKNOWN, "", ("an earlier try cannot be looked up now", *said)
        if done.exit_status != 0:
            raise ClusterError(
                f"submitting on {self.transport.description} failed "
                f"(exit status {done.exit_status})",
                details=said,
            )
        sections = read_sections(done.stdout)[0]
        if "job" in sections:
            return Answer.ACCEPTED, sections["job"].decode("ascii").strip(), ()
        if "status" not in sections:
            return Answer.UNKNOWN, "", ("the answer did not arrive whole",)
        stderr = sections.get("stderr", b"")
        status = int(sections["status"])
        answer = self.scheduler.classify(status, stderr.decode("utf-8", "replace"))
        return answer, "", readable_lines(stderr)

    async def _withdraw(self, token: str) -> None:
        # What Slurm said is more to the point than that the folder could not be removed.
        with suppress(ConnectionLostError, ClusterError):
            await run_program(self.transport, compose("common", "withdraw"), self.state_dir, token)

    async def find(self, tokens: Sequence[str]) -> dict[str, str]:
        """
        The job ids of those submissions that arrived.

        Raises:
            SubmitUnknownError: If the scheduler cannot be asked now.
        """
        if not tokens:
            return {}
        done = await run_program(
            self.transport,
            compose("common", self.scheduler.name, "find"),
            *(self.state_dir, JOB_NAME_PREFIX),
            payload="".join(f"{token}\n" for token in tokens).encode(),
        )
        if done.exit_status != 0:
            raise SubmitUnknownError(
                f"{self.scheduler.name} on {self.transport.description} cannot be asked "
                "for jobs now",
                hint="Try again later; nothing was submitted again.",
                details=readable_lines(done.stderr),
            )
        lines = (line.split() for line in done.stdout.decode().splitlines())
        return {words[0]: words[1] for words in lines if len(words) == 2}


def _hint(answer: Answer, words: Sequence[str]) -> str | None:
    if answer is Answer.WAIT:
        return "Launch again when it takes jobs."
    if any("Invalid job array specification" in line for line in words):
        return "Launch fewer tasks at once: `scontrol show config` has the limit, MaxArraySize."
    return None


def _directives(script: bytes) -> tuple[str, ...]:
    lines = script.decode("utf-8", "replace").splitlines()
    return tuple(line for line in lines if line.startswith("#SBATCH"))


def read_sections(output: bytes) -> tuple[dict[str, bytes], bytes]:
    """
    Read ``name length`` headers, each followed by that many bytes.

    Returns:
        The sections by name, and what follows the last one.
    """
    sections: dict[str, bytes] = {}
    while True:
        header, line_end, rest = output.partition(b"\n")
        name, _, length = header.partition(b" ")
        if not line_end or not length.isdigit() or not name.isalpha() or len(rest) < int(length):
            return sections, output
        sections[name.decode()], output = rest[: int(length)], rest[int(length) :]
