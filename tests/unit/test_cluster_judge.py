"""Where a run stands: its own record first, then the scheduler."""

from __future__ import annotations

import pytest

from xmslurm_repro.cluster.judge import Statuses, judge
from xmslurm_repro.cluster.records import Attempt
from xmslurm_repro.cluster.scheduler import JobStatus
from xmslurm_repro.model.run import Outcome, RunId, RunState

RUN = RunId(token="abcdefgh", task=0)


def attempt(state: RunState | None, name: str = "7.0") -> Attempt:
    if state is None:
        return Attempt(name=name, outcome=None)
    outcome = Outcome(
        run_id=RUN,
        attempt=name,
        state=state,
        exit_code=0,
        reason=None,
        started_at=None,
        ended_at=None,
        image=None,
        facts=(),
        outputs=(),
        log=None,
    )
    return Attempt(name=name, outcome=outcome)


def status(state: RunState, word: str = "", *, task: int | None = None, job_id: str = "7"):
    return JobStatus(
        token=RUN.token, task=task, job_id=job_id, state=state, word=word or state.name
    )


S = RunState
CASES = [
    # The record outranks what the scheduler says.
    ([S.COMPLETED], status(S.RUNNING), S.COMPLETED),
    ([S.COMPLETED], status(S.FAILED), S.COMPLETED),
    ([S.FAILED], status(S.COMPLETED), S.FAILED),
    ([S.COMPLETED], None, S.COMPLETED),
    ([S.REFUSED], status(S.FAILED), S.REFUSED),
    # What was interrupted may begin again.
    ([S.PREEMPTED], status(S.PENDING), S.PENDING),
    ([S.PREEMPTED], status(S.RUNNING, "COMPLETING"), S.RUNNING),
    ([S.PREEMPTED], status(S.PREEMPTED), S.PREEMPTED),
    ([S.CANCELLED], status(S.PENDING), S.PENDING),
    ([S.CANCELLED], status(S.RUNNING, "COMPLETING"), S.CANCELLED),
    ([S.TIMEOUT], status(S.TIMEOUT), S.TIMEOUT),
    # Only the newest attempt counts.
    ([S.PREEMPTED, None], status(S.RUNNING), S.RUNNING),
    ([S.PREEMPTED, S.COMPLETED], status(S.RUNNING, "COMPLETING"), S.COMPLETED),
    # Without a record the scheduler is believed in everything but a success.
    ([None], status(S.RUNNING), S.RUNNING),
    ([], status(S.PENDING), S.PENDING),
    ([None], status(S.OUT_OF_MEMORY), S.OUT_OF_MEMORY),
    ([None], status(S.NODE_FAIL), S.NODE_FAIL),
    ([None], status(S.COMPLETED), S.LOST),
    ([], status(S.COMPLETED), S.LOST),
    ([], None, S.LOST),
    ([None], None, S.LOST),
]


@pytest.mark.parametrize(("states", "line", "expected"), CASES)
def test_a_run_stands_where_its_record_says_and_then_the_scheduler(states, line, expected):
    attempts = [attempt(state, f"7.{number}") for number, state in enumerate(states)]

    assert judge(attempts, line).state is expected


def test_a_scheduler_that_does_not_answer_ends_nothing():
    assert judge([], None, trouble="away").state is S.PENDING
    assert judge([attempt(None)], None, trouble="away").state is S.RUNNING
    assert judge([attempt(S.FAILED)], None, trouble="away").state is S.FAILED


def test_what_we_cancelled_and_nobody_remembers_was_cancelled():
    assert judge([], None, was_cancelled=True).state is S.CANCELLED
    assert judge([attempt(S.COMPLETED)], None, was_cancelled=True).state is S.COMPLETED
    assert judge([], status(S.RUNNING), was_cancelled=True).state is S.RUNNING


def test_of_two_jobs_of_a_run_the_one_that_goes_on_counts_and_then_the_older():
    over, on, younger = (
        status(S.FAILED, job_id="3"),
        status(S.RUNNING, job_id="5"),
        status(S.RUNNING, job_id="9"),
    )

    assert Statuses([over, younger, on]).of(RUN) == on


def test_a_line_without_a_number_stands_for_the_tasks_that_have_none_of_their_own():
    rest, own = status(S.CANCELLED), status(S.RUNNING, task=3, job_id="7_3")
    statuses = Statuses([rest, own])

    assert statuses.of(RunId(token=RUN.token, task=3)) == own
    assert statuses.of(RunId(token=RUN.token, task=4)) == rest
    assert statuses.of(RunId(token="otherone", task=3)) is None
