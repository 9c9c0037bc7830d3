"""
From what units wait for to what the scheduler is told.

Slurm forgets jobs a few minutes after their end (slurm.conf(5), ``MinJobAge``), and then takes a
dependency on one for fulfilled or for wrong, depending on its version. So what the record knows
to have ended is decided here, and Slurm is asked to wait for the rest.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from xmslurm_repro.errors import SubmitRefusedError
from xmslurm_repro.model.run import RunId, RunState
from xmslurm_repro.ports.record import RunRow
from xmslurm_repro.services.observe import last_outcome, refresh
from xmslurm_repro.services.tools import Tools
from xmslurm_repro.xm.access import row_of
from xmslurm_repro.xm.dependencies import (
    SlurmJobArrayDependencyAfterOK,
    SlurmJobDependency,
    SlurmJobDependencyAfter,
    SlurmJobDependencyAfterAny,
    SlurmJobDependencyAfterOK,
    SlurmJobDependencyLeaf,
    SlurmJobDependencyOR,
)
from xmslurm_repro.xm.execution import SlurmHandle
from xmslurm_repro.xm.faults import ArgumentError

_MAY_START_AGAIN = frozenset({RunState.NODE_FAIL, RunState.PREEMPTED, RunState.LOST})
"""Ends that Slurm may know better."""
_LOOKS_BEFORE_LOST = 5
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """
    What one submission waits for.

    Attributes:
        tasks: Which of the units it has.
        option: The value of ``--dependency``; empty for none.
    """

    tasks: slice
    option: str


class _Answer(Enum):
    MET = "met"
    OPEN = "open"
    NEVER = "never"


async def plan_waiting(
    tools: Tools,
    dependencies: Sequence[SlurmJobDependency | None],
    *,
    cluster: str,
    scheduler: str,
) -> list[Waiting]:
    """
    Part units into submissions by what they wait for.

    Where the scheduler is ``local``, which knows no dependencies, this waits itself until nothing
    is left to wait for.

    Args:
        tools: The world.
        dependencies: One for each unit.
        cluster: Where they are submitted.
        scheduler: Its kind.

    Raises:
        ArgumentError: If a job of another cluster is waited for.
        SubmitRefusedError: If one of the units could never start; nothing was submitted.
    """
    leaves = [leaf for each in dependencies if each is not None for leaf in each.flatten()]
    if not leaves:
        return [Waiting(tasks=slice(0, len(dependencies)), option="")]
    _check_cluster(leaves, cluster)
    pause, looks = _FIRST_PAUSE_SECONDS, 0
    while True:
        known, looks = await _look(tools, leaves), looks + 1
        if scheduler == "local":
            # Nothing starts again there; but a record may be late in showing.
            undecided = frozenset({RunState.LOST} if looks < _LOOKS_BEFORE_LOST else ())
        else:
            undecided = _MAY_START_AGAIN
        options = [_option(tools, each, known, undecided) for each in dependencies]
        if scheduler != "local" or not any(options):
            break
        await tools.clock.sleep(pause)
        pause = min(pause * 1.3, _LONGEST_PAUSE_SECONDS)
    arrays = _corresponding(dependencies)
    if arrays and any(options):
        return [
            Waiting(tasks=part, option=_for_array(array, options[part])) for array, part in arrays
        ]
    return list(_parts(options))


def _parts(options: Sequence[str]) -> Iterable[Waiting]:
    start = 0
    for option, group in groupby(options):
        end = start + len(list(group))
        yield Waiting(tasks=slice(start, end), option=option)
        start = end


def _check_cluster(leaves: Iterable[SlurmJobDependencyLeaf], cluster: str) -> None:
    for leaf in leaves:
        for handle in leaf.handles:
            if handle.receipt.cluster != cluster:
                raise ArgumentError(
                    f"a job on {cluster} cannot wait for work unit {handle.name},"
                    f" which is on {handle.receipt.cluster}",
                    hint="Await `unit.wait_until_complete()` before you add it.",
                )


async def _look(tools: Tools, leaves: Iterable[SlurmJobDependencyLeaf]) -> Mapping[RunId, RunRow]:
    handles = {handle.receipt.run_id: handle for leaf in leaves for handle in leaf.handles}
    receipts = [each for h in handles.values() for each in (h.receipt, *h.others)]
    rows = await refresh(tools, [row_of(tools, receipt) for receipt in receipts])
    known = {row.receipt.run_id: row for row in rows}
    return {
        run_id: _as_a_whole([known[each.run_id] for each in (handle.receipt, *handle.others)])
        for run_id, handle in handles.items()
    }


def _as_a_whole(rows: Sequence[RunRow]) -> RunRow:
    """A group goes on while one of it does, and has ended well if all have."""
    for row in rows:
        if not row.state.is_final:
            return row
    for row in rows:
        if not row.state.is_success:
            return row
    return rows[0]


def _option(
    tools: Tools,
    dependency: SlurmJobDependency | None,
    known: Mapping[RunId, RunRow],
    undecided: frozenset[RunState],
) -> str:
    if dependency is None:
        return ""
    answers = [
        (leaf, handle, _answer(tools, leaf, known[handle.receipt.run_id], undecided))
        for leaf in dependency.flatten()
        for handle in leaf.handles
    ]
    never = [(leaf, handle) for leaf, handle, answer in answers if answer is _Answer.NEVER]
    is_any = isinstance(dependency, SlurmJobDependencyOR)
    if is_any and any(answer is _Answer.MET for *_, answer in answers):
        return ""
    if never and (not is_any or len(never) == len(answers)):
        raise _refusal(never, known)
    left = [(leaf, handle) for leaf, handle, answer in answers if answer is _Answer.OPEN]
    return _any_of(left) if is_any else _all_of(tools, left)


def _refusal(
    never: Sequence[tuple[SlurmJobDependencyLeaf, SlurmHandle]], known: Mapping[RunId, RunRow]
) -> SubmitRefusedError:
    return SubmitRefusedError(
        "a job would wait for what can never be",
        hint="Add again what it waits for, or leave the dependency out.",
        details=[
            f"{leaf.kind}: work unit {handle.name} ended as"
            f" {known[handle.receipt.run_id].state.value}"
            for leaf, handle in never
        ],
    )


def _answer(
    tools: Tools, leaf: SlurmJobDependencyLeaf, row: RunRow, undecided: frozenset[RunState]
) -> _Answer:
    if isinstance(leaf, SlurmJobDependencyAfter):
        return _started(tools, leaf, row)
    if not row.state.is_final or row.state in undecided:
        return _Answer.OPEN
    if isinstance(leaf, SlurmJobDependencyAfterAny):
        return _Answer.MET
    wants_success = isinstance(leaf, SlurmJobDependencyAfterOK | SlurmJobArrayDependencyAfterOK)
    return _Answer.MET if row.state.is_success is wants_success else _Answer.NEVER


def _started(tools: Tools, leaf: SlurmJobDependencyAfter, row: RunRow) -> _Answer:
    if row.state in {RunState.PROMISED, RunState.PENDING}:
        return _Answer.OPEN
    if not leaf.minutes:
        return _Answer.MET
    outcome = last_outcome(tools, row.receipt.run_id)
    if not row.state.is_final:
        return _Answer.OPEN
    if outcome is None or outcome.started_at is None:
        return _Answer.MET
    due = dt.datetime.fromisoformat(outcome.started_at) + dt.timedelta(minutes=leaf.minutes)
    return _Answer.MET if due <= tools.clock.now() else _Answer.OPEN


def _any_of(left: Sequence[tuple[SlurmJobDependencyLeaf, SlurmHandle]]) -> str:
    return "?".join(f"{leaf.kind}:{handle.job_id}{leaf.suffix}" for leaf, handle in left)


def _all_of(tools: Tools, left: Sequence[tuple[SlurmJobDependencyLeaf, SlurmHandle]]) -> str:
    """One part for each kind; an array all of whose tasks are waited for goes by its own id."""
    parts: dict[tuple[str, str], dict[RunId, SlurmHandle]] = {}
    for leaf, handle in left:
        parts.setdefault((leaf.kind, leaf.suffix), {})[handle.receipt.run_id] = handle
    said = []
    for (name, suffix), handles in parts.items():
        ids = [f"{job_id}{suffix}" for job_id in _job_ids(tools, list(handles.values()))]
        said.append(":".join((name, *ids)))
    return ",".join(said)


def _job_ids(tools: Tools, handles: Sequence[SlurmHandle]) -> list[str]:
    by_token: dict[str, list[SlurmHandle]] = {}
    for handle in handles:
        by_token.setdefault(handle.receipt.run_id.token, []).append(handle)
    ids: list[str] = []
    for token, members in by_token.items():
        is_lone_task = len(members) == 1 and "_" in members[0].job_id
        if not is_lone_task and len(members) == len(tools.record.runs(token=token)):
            ids.append(members[0].job_id.partition("_")[0])
        else:
            ids += (member.job_id for member in members)
    return ids


def _for_array(array: str, options: Sequence[str]) -> str:
    if len(options) == 1:
        return options[0]
    return f"aftercorr:{array}" if any(options) else ""


def _corresponding(
    dependencies: Sequence[SlurmJobDependency | None],
) -> list[tuple[str, slice]]:
    """
    The arrays of which each unit waits for the task of its own number; none if it is not so.

    An array that was too long for the cluster is several, each numbered from 0.
    """
    parts: list[tuple[str, slice]] = []
    for number, dependency in enumerate(dependencies):
        if not isinstance(dependency, SlurmJobDependencyAfterOK) or len(dependency.handles) != 1:
            return []
        [handle] = dependency.handles
        array, _, task = handle.job_id.partition("_")
        # What is left over of a long array may be a single job.
        if task == "0" or (not task and parts):
            parts.append((array, slice(number, number + 1)))
        elif not parts or parts[-1][0] != array or task != str(number - parts[-1][1].start):
            return []
        else:
            parts[-1] = (array, slice(parts[-1][1].start, number + 1))
    return parts if len(dependencies) > 1 else []
