"""Where many runs stand, in one or two commands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from xmslurm_repro.cluster.judge import Statuses, judge
from xmslurm_repro.cluster.program import compose, readable_lines, run_program
from xmslurm_repro.cluster.records import Attempt, read_attempts
from xmslurm_repro.cluster.scheduler import JOB_NAME_PREFIX, JobStatus, Scheduler
from xmslurm_repro.cluster.secrets import forget_secrets
from xmslurm_repro.cluster.submitting import read_sections
from xmslurm_repro.errors import ClusterError
from xmslurm_repro.model.run import RunId, RunState
from xmslurm_repro.ports.cluster import Observation
from xmslurm_repro.ports.transport import Transport


async def observe_runs(
    transport: Transport, scheduler: Scheduler, state_dir: str, runs: Mapping[RunId, str]
) -> Mapping[RunId, Observation]:
    """
    Say where *runs*, with their job ids, stand.

    The scheduler's list and all records come with one command. Accounting is asked for those
    runs only that are in neither; it is slow, and away at times.

    Raises:
        ClusterError: If the state folder cannot be read.
    """
    if not runs:
        return {}
    tokens = sorted({run_id.token for run_id in runs})
    done = await run_program(
        transport,
        compose("common", scheduler.name, "collect"),
        state_dir,
        payload="".join(f"{token}\n" for token in tokens).encode(),
        timeout_seconds=300,
    )
    sections, archive = read_sections(done.stdout)
    if done.exit_status != 0 or "trouble" not in sections:
        raise ClusterError(
            f"the records on {transport.description} cannot be read",
            details=readable_lines(done.stderr),
        )
    attempts = read_attempts(archive) if archive else {}
    lines = scheduler.parse_states(_text(sections["states"]))
    trouble = _sentence(sections["trouble"])
    cancelled = frozenset(_text(sections.get("cancelled", b"")).split())
    known = Statuses(lines)
    open_tokens = sorted(
        {r.token for r in runs if known.of(r) is None and not _has_ended(attempts.get(r, ()))}
    )
    if open_tokens and trouble is None:
        older, trouble = await _history(transport, scheduler, state_dir, open_tokens)
        remembered = Statuses(older)
    else:
        remembered = Statuses(())
    seen = {
        run_id: judge(
            attempts.get(run_id, ()),
            known.of(run_id) or remembered.of(run_id),
            trouble=trouble,
            was_cancelled=bool(cancelled & {job_id, _whole(job_id)}),
        )
        for run_id, job_id in runs.items()
    }
    seen |= await _explained(transport, state_dir, {r: (runs[r], each) for r, each in seen.items()})
    if trouble is None and (kept := _text(sections.get("secrets", b"")).split()):
        # Jobs that were killed, or never began, could not remove them.
        going = {status.token for status in lines if not status.state.is_final}
        going |= {run_id.token for run_id, each in seen.items() if not each.state.is_final}
        if over := sorted({*kept} - going):
            await forget_secrets(transport, state_dir, over)
    return seen


_NO_MEMORY = re.compile(r"memory limit|oom[-_ ]kill|out[- ]of[- ]memory", re.IGNORECASE)
_UNSAID = frozenset({RunState.FAILED, RunState.NODE_FAIL})


async def _explained(
    transport: Transport, state_dir: str, seen: Mapping[RunId, tuple[str, Observation]]
) -> dict[RunId, Observation]:
    """
    Runs that were ended before they could leave a record, with what Slurm wrote into their output.

    Where memory is enforced by looking now and then, the state says FAILED and no more.
    """
    silent = {
        (run_id.token, job_id): run_id
        for run_id, (job_id, each) in seen.items()
        if each.state in _UNSAID and not each.outcomes
    }
    if not silent:
        return {}
    done = await run_program(
        transport,
        compose("common", "why"),
        state_dir,
        payload="".join(f"{token} {job_id}\n" for token, job_id in silent).encode(),
    )
    told = {}
    for line in _text(done.stdout).splitlines():
        token, job_id, words = line.split(" ", 2)
        run_id = silent[token, job_id]
        observation = seen[run_id][1]
        lacks_memory = _NO_MEMORY.search(words) is not None
        state = RunState.OUT_OF_MEMORY if lacks_memory else observation.state
        told[run_id] = replace(observation, state=state, reason=words)
    return told


def _whole(job_id: str) -> str:
    """The id of the array or group that it belongs to, if it does."""
    return job_id.partition("_")[0].partition("+")[0]


def _has_ended(attempts: Sequence[Attempt]) -> bool:
    return bool(attempts) and attempts[-1].outcome is not None


async def _history(
    transport: Transport, scheduler: Scheduler, state_dir: str, tokens: Sequence[str]
) -> tuple[Sequence[JobStatus], str | None]:
    done = await run_program(
        transport,
        compose("common", scheduler.name, "history"),
        state_dir,
        payload="\n".join(f"{JOB_NAME_PREFIX}{token}" for token in tokens).encode(),
    )
    # A site without accounting has no memory at all: what squeue forgot is lost. One whose
    # accounting is away for a while will know more later.
    if done.exit_status == 0 or b"accounting storage is disabled" in done.stderr:
        return scheduler.parse_states(_text(done.stdout)), None
    return (), _sentence(done.stderr) or "accounting does not answer"


def _sentence(stderr: bytes) -> str | None:
    lines = readable_lines(stderr)
    return lines[-1].removeprefix("xmslurm: ") if lines else None


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")
