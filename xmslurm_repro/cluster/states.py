"""What schedulers say of jobs: lines of ``job id|state|job name|reason``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from xmslurm_repro.cluster.scheduler import JOB_NAME_PREFIX, JobStatus
from xmslurm_repro.model.run import RunState

_STATES = {
    "PENDING": RunState.PENDING,
    "CONFIGURING": RunState.PENDING,
    "REQUEUED": RunState.PENDING,
    "REQUEUE_FED": RunState.PENDING,
    "REQUEUE_HOLD": RunState.PENDING,
    "RESV_DEL_HOLD": RunState.PENDING,
    "SPECIAL_EXIT": RunState.PENDING,
    "RUNNING": RunState.RUNNING,
    "COMPLETING": RunState.RUNNING,
    "RESIZING": RunState.RUNNING,
    "SIGNALING": RunState.RUNNING,
    "STAGE_OUT": RunState.RUNNING,
    "STOPPED": RunState.RUNNING,
    "SUSPENDED": RunState.RUNNING,
    "COMPLETED": RunState.COMPLETED,
    "FAILED": RunState.FAILED,
    "LAUNCH_FAILED": RunState.FAILED,
    "RECONFIG_FAIL": RunState.FAILED,
    "BOOT_FAIL": RunState.NODE_FAIL,
    "NODE_FAIL": RunState.NODE_FAIL,
    "CANCELLED": RunState.CANCELLED,
    "REVOKED": RunState.CANCELLED,
    "TIMEOUT": RunState.TIMEOUT,
    "DEADLINE": RunState.TIMEOUT,
    "PREEMPTED": RunState.PREEMPTED,
    "OUT_OF_MEMORY": RunState.OUT_OF_MEMORY,
}
"""squeue(1), "JOB STATE CODES"."""

_NAME = re.compile(re.escape(JOB_NAME_PREFIX) + r"([a-z0-9]{8,40})\Z")
_JOB_ID = re.compile(r"(\d+)(?:_(\d+|\[\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*(?:%\d+)?\])|\+(\d+))?\Z")


def parse_states(output: str) -> Sequence[JobStatus]:
    """
    Read what a scheduler printed. Jobs that are not ours are skipped, and so are states that
    nobody has heard of. Array tasks that never began stand on one line: ``123_[0-4,7%2]``.
    """
    return tuple(status for line in output.splitlines() for status in _parse_line(line))


def _parse_line(line: str) -> Iterator[JobStatus]:
    job_id, _, rest = line.partition("|")
    word, _, rest = rest.partition("|")
    name, _, reason = rest.partition("|")
    named, numbered = _NAME.match(name.strip()), _JOB_ID.match(job_id.strip())
    word = word.split()[0].rstrip("+") if word.split() else ""  # "CANCELLED by 2001"
    state = _STATES.get(word)
    if not named or not numbered or state is None:
        return
    reason = reason.strip()
    for task in _tasks(numbered[2] or numbered[3]):
        joint = "+" if numbered[3] else "_"
        yield JobStatus(
            token=named[1],
            task=task,
            job_id=numbered[1] if task is None else f"{numbered[1]}{joint}{task}",
            state=state,
            word=word,
            reason=None if reason in {"", "None", "(null)"} else reason,
        )


def _tasks(text: str | None) -> Iterator[int | None]:
    if text is None:
        yield None
        return
    for part in text.strip("[]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
