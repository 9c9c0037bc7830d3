"""Jobs that ask to be started again, on a real Slurm and on a machine without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster_places import Place, fresh_token, local_place, slurm_place
from tests.cluster_support import scratch_state, submission
from tests.testbed.bed import Testbed
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.model.run import Outcome, RunState
from xmslurm_repro.model.work import Resources


@pytest.fixture(scope="module")
def slurm(testbed: Testbed) -> Iterator[Place]:
    with slurm_place(testbed) as there:
        yield there


@pytest.fixture(params=["slurm", "local"])
def place(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Place]:
    if request.param == "slurm":
        yield request.getfixturevalue("slurm")
    else:
        with scratch_state(tmp_path_factory.mktemp("local") / "state") as seen:
            yield local_place(seen)


def sh(place: Place, script: str, *options: tuple[str, str], tasks: int = 1, **changes: object):
    commands = [["bash", "-c", script]] * tasks
    return submission(
        place.image(), *commands, token=fresh_token(), options=tuple(sorted(options)), **changes
    )


def summary(outcomes: tuple[Outcome, ...]) -> list[tuple[str, RunState, int | None]]:
    return [(o.attempt.rpartition(".")[2], o.state, o.exit_code) for o in outcomes]


COUNTS = """
echo "start $XMSLURM_RESTART_COUNT"
echo x >>/xm/outputs/steps
echo "$XMSLURM_ATTEMPT" >"/xm/outputs/of-$XMSLURM_RESTART_COUNT"
exit 42
"""


def test_a_chosen_exit_code_starts_it_again_where_it_left_off_until_the_limit(place: Place):
    wanted = sh(place, COUNTS, ("requeue-on-exit-code", "42"), ("requeue-max-attempts", "2"))

    (seen,) = place.play(wanted)

    assert [
        ("0", RunState.PREEMPTED, 42),
        ("1", RunState.PREEMPTED, 42),
        ("2", RunState.FAILED, 42),
    ] == summary(seen.outcomes)
    assert seen.state is RunState.FAILED
    assert seen.outcomes[0].reason == "its exit code was 42; it is started again"
    assert seen.reason == "it was started again 2 times, which is the limit"
    # What an attempt left stays, and the next one goes on from a copy of it.
    assert [2, 4, 6] == [
        next(o.size_bytes for o in outcome.outputs if o.path == "steps")
        for outcome in seen.outcomes
    ]
    assert ["of-0", "of-1", "of-2", "steps"] == [o.path for o in seen.outcomes[2].outputs]
    assert seen.outcomes[0].attempt == dict(seen.outcomes[1].facts)["continues"]
    logs = [place.log_of(wanted.tasks[0].run_id, o.attempt) for o in seen.outcomes]
    assert [b"start 0\n", b"start 1\n", b"start 2\n"] == logs
    assert 1 == len({dict(o.facts)["scheduler"] for o in seen.outcomes})
    assert 1 == len({o.image for o in seen.outcomes})


def test_another_exit_code_does_not(place: Place):
    wanted = sh(place, "exit 7", ("requeue-on-exit-code", "42"))

    (seen,) = place.play(wanted)

    assert [("0", RunState.FAILED, 7)] == summary(seen.outcomes)


def test_a_task_of_an_array_is_started_again_alone(place: Place):
    script = "[[ $XMSLURM_RESTART_COUNT == 1 ]] || exit 42; echo done"
    wanted = sh(place, script, ("requeue-on-exit-code", "42"), tasks=2)

    seen = place.play(wanted)

    assert [[("0", RunState.PREEMPTED, 42), ("1", RunState.COMPLETED, 0)]] * 2 == [
        summary(each.outcomes) for each in seen
    ]


SAVES = """
trap 'echo saved >>/xm/outputs/state; exit 3' USR1
echo "start $XMSLURM_RESTART_COUNT"
[[ -e /xm/outputs/state ]] && exit 0
while :; do sleep 0.1; done
"""


def test_before_its_time_limit_it_is_told_and_started_again(place: Place):
    # Slurm may tell it up to a minute early; here that is at once.
    wanted = sh(
        place,
        SAVES,
        ("requeue-on-timeout", ""),
        ("timeout-signal", "USR1"),
        ("timeout-grace", "55"),
        resources=Resources(time_limit_minutes=1),
    )

    (seen,) = place.play(wanted)

    assert [("0", RunState.PREEMPTED, 3), ("1", RunState.COMPLETED, 0)] == summary(seen.outcomes)
    assert seen.outcomes[0].reason == "its time limit was near; it is started again"


def test_the_number_of_attempts_is_limited_before_the_time_limit_too(tmp_path_factory):
    with scratch_state(tmp_path_factory.mktemp("local") / "state") as seen_from_here:
        there = local_place(seen_from_here)
        wanted = sh(
            there,
            "while :; do sleep 0.1; done",
            ("requeue-on-timeout", ""),
            ("requeue-max-attempts", "1"),
            ("timeout-grace", "56"),
            resources=Resources(time_limit_minutes=1),
        )
        (seen,) = there.play(wanted)

    assert [RunState.PREEMPTED, RunState.TIMEOUT] == [o.state for o in seen.outcomes]
    assert "its time limit was near; it was started again once, which is the limit" == seen.reason


def test_without_leave_to_start_again_it_is_told_and_ends(slurm: Place):
    wanted = sh(
        slurm,
        SAVES,
        ("timeout-signal", "USR1"),
        ("timeout-grace", "55"),
        resources=Resources(time_limit_minutes=1),
    )

    (seen,) = slurm.play(wanted)

    assert [("0", RunState.TIMEOUT, 3)] == summary(seen.outcomes)
    assert ["state"] == [o.path for o in seen.outcomes[0].outputs]


def test_a_job_that_may_not_be_started_again_is_not_even_by_slurm(slurm: Place, testbed: Testbed):
    wanted = sh(
        slurm,
        "echo begun; [[ $XMSLURM_RESTART_COUNT == 0 ]] && exit 42; sleep 60",
        ("requeue-on-exit-code", "42"),
        ("requeue-max-attempts", "1"),
    )
    run_id = wanted.tasks[0].run_id

    async def scenario(cluster: ShellCluster):
        runs = await slurm.launch(cluster, wanted)
        seen = b""
        async for chunk in cluster.logs(run_id, attempt=None, follow=True):
            seen += chunk
            if seen.count(b"begun") == 2:
                break
        shown = ""
        while "Requeue=0" not in shown:
            shown = testbed.run(["scontrol", "show", "job", "-o", runs[run_id]])
        await cluster.cancel(list(runs.values()))
        return await slurm.finish(cluster, runs)

    (seen,) = slurm.run(scenario)

    assert [("0", RunState.PREEMPTED), ("1", RunState.CANCELLED)] == [
        each[:2] for each in summary(seen.outcomes)
    ]


def test_a_cancelled_job_is_not_started_again(place: Place):
    wanted = sh(
        place,
        "trap 'exit 42' TERM; echo begun; while :; do sleep 0.1; done",
        ("requeue-on-exit-code", "42"),
    )
    run_id = wanted.tasks[0].run_id

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        async for chunk in cluster.logs(run_id, attempt=None, follow=True):
            if b"begun" in chunk:
                break
        await cluster.cancel(list(runs.values()))
        return await place.finish(cluster, runs)

    (seen,) = place.run(scenario)

    # Slurm may signal the container as well, so the exit code is not for sure.
    assert [("0", RunState.CANCELLED)] == [each[:2] for each in summary(seen.outcomes)]
