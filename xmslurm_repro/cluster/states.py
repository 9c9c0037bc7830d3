"""What schedulers say of jobs: lines of ``job id|state|job name|reason``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from xmslurm_repro.cluster.scheduler import JOB_NAME_PREFIX, JobStatus
from xmslurm_repro.model.run import RunId, RunState

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
_JOB_ID = re.compile(r"(\d+)(?:_(\d+))?\Z")


def parse_states(output: str) -> Sequence[JobStatus]:
    """
    Read what a scheduler printed. Jobs that are not ours, and array tasks that are not told
    apart, are skipped; a state that nobody has heard of is, too.
    """
    found = (_parse_line(line) for line in output.splitlines())
    return tuple(status for status in found if status is not None)


def _parse_line(line: str) -> JobStatus | None:
    job_id, _, rest = line.partition("|")
    word, _, rest = rest.partition("|")
    name, _, reason = rest.partition("|")
    named, numbered = _NAME.match(name.strip()), _JOB_ID.match(job_id.strip())
    if not named or not numbered:
        return None
    word = word.split()[0].rstrip("+") if word.split() else ""  # "CANCELLED by 2001"
    state = _STATES.get(word)
    if state is None:
        return None
    reason = reason.strip()
    return JobStatus(
        run_id=RunId(token=named[1], task=int(numbered[2] or 0)),
        job_id=job_id.strip(),
        state=state,
        word=word,
        reason=None if reason in {"", "None", "(null)"} else reason,
    )
