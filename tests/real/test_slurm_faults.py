"""What may go wrong between us, Slurm and a job, done to a real Slurm."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster_places import (
    Entering,
    Place,
    fresh_token,
    outcome_of,
    slurm_place,
    ssh_place,
)
from tests.cluster_support import submission
from tests.testbed.bed import Testbed
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.errors import ConnectionLostError, SubmitRefusedError, SubmitUnknownError
from xmslurm_repro.model.run import RunId, RunState
from xmslurm_repro.model.work import Resources
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.ports.transport import Completed, Transport
from xmslurm_repro.transport.local import LocalTransport


@pytest.fixture(scope="module")
def place(testbed: Testbed) -> Iterator[Place]:
    with slurm_place(testbed) as there:
        yield there


def sh(place: Place, script: str, token: str | None = None, **changes: object):
    return submission(
        place.image(), ["bash", "-c", script], token=token or fresh_token(), **changes
    )


async def printed(cluster: ShellCluster, run_id: RunId, text: bytes) -> None:
    """Wait until a run has printed *text*."""
    seen = b""
    async for chunk in cluster.logs(run_id, attempt=None, follow=True):
        seen += chunk
        if text in seen:
            return
    raise AssertionError(f"it ended and printed {seen!r}")


# --- attempts ----------------------------------------------------------------------------------

TWICE = """
echo begin; echo "$XMSLURM_ATTEMPT" >/xm/outputs/attempt
case $XMSLURM_ATTEMPT in *.0) while :; do sleep 0.1; done ;; esac
echo second
"""


@pytest.mark.every_slurm
def test_a_requeued_job_keeps_what_its_first_attempt_left(place: Place, testbed: Testbed):
    wanted = sh(place, TWICE, options=(("requeue", ""),))
    run_id = wanted.tasks[0].run_id

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        await printed(cluster, run_id, b"begin")
        follower = asyncio.create_task(collect(cluster, run_id))
        testbed.run(["scontrol", "requeue", runs[run_id]])
        between = (await cluster.observe(runs))[run_id]
        (observation,) = await place.finish(cluster, runs)
        return between, observation, await follower, runs[run_id]

    between, observation, followed, job_id = place.run(scenario)

    assert not between.state.is_final
    assert observation.state is RunState.COMPLETED
    assert [f"{job_id}.0", f"{job_id}.1"] == [o.attempt for o in observation.outcomes]
    assert [RunState.PREEMPTED, RunState.COMPLETED] == [o.state for o in observation.outcomes]
    assert observation.outcomes[0].reason == "it was preempted or requeued"
    assert ["attempt"] == [o.path for o in observation.outcomes[0].outputs]
    # A shell whose child was signalled before it was itself may say so.
    first = place.log_of(run_id, f"{job_id}.0")
    assert first in {b"begin\n", b"begin\nTerminated\n"}
    assert followed == first + b"begin\nsecond\n"


async def collect(cluster: ShellCluster, run_id: RunId) -> bytes:
    return b"".join([c async for c in cluster.logs(run_id, attempt=None, follow=True)])


def test_without_leave_a_job_is_not_requeued(place: Place, testbed: Testbed):
    wanted = sh(place, "true")
    place.play(wanted)

    script = (place.seen / "submit" / wanted.token / "script").read_text()

    assert "#SBATCH --no-requeue" in script.splitlines()


@pytest.mark.every_slurm
def test_a_preempted_run_says_so_and_runs_again(place: Place, testbed: Testbed):
    low = sh(
        place,
        TWICE,
        options=(("requeue", ""), ("partition", "low"), ("nodelist", "n4"), ("exclusive", "")),
    )
    high = sh(place, "sleep 1", options=(("partition", "high"), ("nodelist", "n4")))

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, low)
        await printed(cluster, low.tasks[0].run_id, b"begin")
        await place.finish(cluster, await place.launch(cluster, high))
        return await place.finish(cluster, runs)

    (observation,) = place.run(scenario)

    assert observation.state is RunState.COMPLETED
    assert [RunState.PREEMPTED, RunState.COMPLETED] == [o.state for o in observation.outcomes]
    assert observation.outcomes[0].reason == "it was preempted or requeued"


@pytest.mark.slow
def test_a_run_that_reaches_its_time_limit_says_so(place: Place):
    script = "trap 'echo asked; exit 0' TERM; while :; do sleep 0.1; done"
    wanted = sh(place, script, resources=Resources(time_limit_minutes=1))

    outcome = outcome_of(place.play(wanted, seconds=150))

    assert outcome.state is RunState.TIMEOUT
    assert outcome.reason == "it reached its time limit"


@pytest.mark.every_slurm
def test_a_pending_job_that_is_cancelled_leaves_no_attempt(place: Place):
    wanted = sh(place, "true", options=(("hold", ""),))

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        before = (await cluster.observe(runs))[wanted.tasks[0].run_id]
        await cluster.cancel(list(runs.values()))
        return before, await place.finish(cluster, runs)

    before, (after,) = place.run(scenario)

    assert before.state is RunState.PENDING
    assert before.reason == "JobHeldUser"
    assert after.state is RunState.CANCELLED
    assert after.outcomes == ()


def kill_processes_of(job_id: str) -> None:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            words = (process / "cmdline").read_bytes().split(b"\0")
            if f"SLURM_JOB_ID={job_id}".encode() in variables and b"bash" in words[0]:
                os.kill(int(process.name), signal.SIGKILL)


@pytest.mark.every_slurm
def test_a_killed_job_without_a_record_takes_its_state_from_slurm(place: Place, testbed: Testbed):
    wanted = sh(place, "echo on; sleep 60")

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        await printed(cluster, wanted.tasks[0].run_id, b"on")
        kill_processes_of(*runs.values())
        return await place.finish(cluster, runs)

    (observation,) = place.run(scenario)

    assert observation.state is RunState.FAILED
    assert observation.outcomes == ()


def test_a_job_that_prints_much_keeps_all_of_it(place: Place):
    wanted = sh(place, "seq 2000000")

    outcome = outcome_of(place.play(wanted))

    expected = b"".join(b"%d\n" % n for n in range(1, 2_000_001))
    assert expected == place.log_of(outcome.run_id)


# --- what it was given -------------------------------------------------------------------------


def tampering(place: Place, damage) -> list[RunState]:
    """Run, do *damage*, run, run again; the states of the last two, and their reasons."""
    fresh = replace(place, state_dir=f"{place.state_dir}-{fresh_token()}")
    fresh = replace(fresh, seen=Path(fresh.state_dir))
    assert outcome_of(fresh.play(sh(fresh, "true"))).state is RunState.COMPLETED
    damage(fresh.seen)
    refused = outcome_of(fresh.play(sh(fresh, "echo ran")))
    assert fresh.log_of(refused.run_id) == b""
    assert refused.exit_code is None
    assert refused.image is None or refused.state is not RunState.REFUSED
    again = outcome_of(fresh.play(sh(fresh, "echo ran")))
    return [refused.state, again.state, refused.reason]


def test_changed_code_is_refused_and_unpacked_again_for_the_next_run(place: Place):
    def damage(state: Path) -> None:
        (target,) = state.glob("code/*/xm/code/probe.sh")
        target.write_bytes(b"evil" + target.read_bytes()[4:])

    refused, again, reason = tampering(place, damage)

    assert [RunState.REFUSED, RunState.COMPLETED] == [refused, again]
    assert "probe.sh" in reason


def test_code_that_was_added_is_refused(place: Place):
    def damage(state: Path) -> None:
        (folder,) = state.glob("code/*/xm/code")
        (folder / "sitecustomize.py").write_text("evil = True\n")

    assert RunState.REFUSED is tampering(place, damage)[0]


def test_a_changed_base_is_refused_even_with_its_old_time_stamp(place: Place):
    def damage(state: Path) -> None:
        (target,) = state.glob("roots/*/usr/bin/true")
        before = target.stat()
        data = bytearray(target.read_bytes())
        data[-1] ^= 1
        target.write_bytes(data)
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))

    refused, again, reason = tampering(place, damage)

    assert [RunState.REFUSED, RunState.COMPLETED] == [refused, again]
    assert "usr/bin/true" in reason


def test_a_touched_base_with_the_same_bytes_still_runs(place: Place):
    fresh = replace(place, state_dir=f"{place.state_dir}-{fresh_token()}")
    fresh = replace(fresh, seen=Path(fresh.state_dir))
    fresh.play(sh(fresh, "true"))
    (target,) = fresh.seen.glob("roots/*/usr/bin/true")
    os.link(target, fresh.seen / "another")
    target.chmod(stat.S_IMODE(target.stat().st_mode))

    assert outcome_of(fresh.play(sh(fresh, "true"))).state is RunState.COMPLETED


def test_a_damaged_blob_is_refused(place: Place):
    fresh = replace(place, state_dir=f"{place.state_dir}-{fresh_token()}")
    fresh = replace(fresh, seen=Path(fresh.state_dir))
    wanted = sh(fresh, "true")

    async def scenario(cluster: ShellCluster):
        await cluster.deliver(wanted.image, fresh.blobs, SilentProgress())
        blob = fresh.seen / "blobs/sha256" / wanted.image.layers[0].blob.digest.hex
        blob.chmod(0o644)
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
        return await fresh.finish(cluster, await fresh.launch(cluster, wanted))

    outcome = outcome_of(fresh.run(scenario))

    assert outcome.state is RunState.REFUSED
    assert "is damaged" in (outcome.reason or "")


@pytest.mark.parametrize("name", ["tasks", "tasks.index"])
def test_a_changed_task_table_is_refused(place: Place, testbed: Testbed, name: str):
    wanted = sh(place, "echo right", options=(("hold", ""),))

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        table = place.seen / "submit" / wanted.token / name
        table.write_bytes(table.read_bytes().replace(b"right", b"wrong").replace(b"0", b"1"))
        testbed.run(["scontrol", "release", *runs.values()])
        return await place.finish(cluster, runs)

    outcome = outcome_of(place.run(scenario))

    assert outcome.state is RunState.REFUSED
    assert "changed after submission" in (outcome.reason or "")


def test_a_changed_script_on_the_shared_disk_changes_nothing(place: Place, testbed: Testbed):
    wanted = sh(place, "echo right", options=(("hold", ""),))

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        (place.seen / "submit" / wanted.token / "script").write_text("#!/bin/bash\necho evil\n")
        testbed.run(["scontrol", "release", *runs.values()])
        return await place.finish(cluster, runs)

    outcome = outcome_of(place.run(scenario))

    assert outcome.state is RunState.COMPLETED
    assert place.log_of(outcome.run_id) == b"right\n"


# --- exactly once ------------------------------------------------------------------------------


def job_name(token: str) -> str:
    return f"xmslurm-{token}"


def wrapped_sbatch(folder: Path, text: str) -> Path:
    """A folder with an ``sbatch`` that does more than Slurm's."""
    folder.mkdir()
    program = folder / "sbatch"
    program.write_text(f"#!/bin/bash\n{text}\n")
    program.chmod(0o755)
    return folder


@pytest.mark.every_slurm
def test_a_job_that_slurm_took_while_it_said_timed_out_is_found_and_not_repeated(
    place: Place, testbed: Testbed, tmp_path: Path
):
    text = f"""
        [[ $1 == --parsable ]] || exec /usr/bin/sbatch "$@"
        /usr/bin/sbatch "$@" >/dev/null
        echo call >>{tmp_path}/calls
        echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
        exit 1
    """
    folder = wrapped_sbatch(tmp_path / "bin", text)
    env = {**testbed.env, "PATH": f"{folder}:{testbed.env['PATH']}"}
    slow = replace(
        place, make_transport=lambda: Entering(LocalTransport(env=env), tuple(testbed.enter))
    )
    wanted = sh(slow, "echo once")

    assert outcome_of(slow.play(wanted)).state is RunState.COMPLETED
    assert testbed.jobs_named(job_name(wanted.token)) == 1
    assert (tmp_path / "calls").read_text() == "call\n"


class Cutting:
    """A transport whose connection breaks around the commands that *which* picks."""

    description = "a bad line"

    def __init__(self, inner: Transport, moments: list[str]) -> None:
        self.inner, self.moments = inner, moments

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | AsyncIterable[bytes] = b"",
        timeout_seconds: float | None = None,
    ) -> Completed:
        is_submission = (
            isinstance(stdin, bytes) and b"scheduler_submit" in stdin and b"accepted" in stdin
        )
        moment = self.moments.pop(0) if is_submission and self.moments else ""
        if moment == "half":
            assert isinstance(stdin, bytes)
            await self.inner.run(argv, stdin=stdin[:-20])
        if moment == "after":
            await self.inner.run(argv, stdin=stdin)
        if moment:
            raise ConnectionLostError("the line went dead", may_have_run=True)
        return await self.inner.run(argv, stdin=stdin, timeout_seconds=timeout_seconds)

    def stream(self, argv: Sequence[str], *, stdin: bytes = b"") -> AsyncIterator[bytes]:
        return self.inner.stream(argv, stdin=stdin)

    async def close(self) -> None:
        await self.inner.close()


@pytest.mark.parametrize("moment", ["before", "half", "after"])
def test_a_line_that_breaks_while_submitting_makes_one_job(
    place: Place, testbed: Testbed, moment: str
):
    bad = replace(place, make_transport=lambda: Cutting(place.make_transport(), [moment, moment]))
    wanted = sh(bad, "echo once")

    assert outcome_of(bad.play(wanted)).state is RunState.COMPLETED
    assert testbed.jobs_named(job_name(wanted.token)) == 1


def test_cut_ssh_connections_make_one_job_each(testbed: Testbed):
    with ssh_place(testbed) as place:
        wanted = [sh(place, "echo once") for _ in range(12)]

        async def scenario(cluster: ShellCluster) -> list[str]:
            await cluster.deliver(place.image(), place.blobs, SilentProgress())
            ids = []
            for number, one in enumerate(wanted):
                task = asyncio.create_task(cluster.submit(one))
                for _ in range(2):
                    await asyncio.sleep(0.012 * number)
                    await asyncio.to_thread(testbed.cut_connections)
                with suppress(ConnectionLostError):
                    ids.append(await task)
                    continue
                ids.append(await cluster.submit(one))
            return ids

        ids = place.run(scenario)

        for one, job_id in zip(wanted, ids, strict=True):
            assert testbed.jobs_named(job_name(one.token)) == 1
            words = ["squeue", "-h", "-t", "all", "-j", job_id, "-o", "%j"]
            assert testbed.run(words).strip() == job_name(one.token)


def test_an_absent_controller_is_waited_for(place: Place, testbed: Testbed):
    wanted = sh(place, "echo late")
    testbed.stop_controller()

    async def scenario(cluster: ShellCluster):
        async def come_back() -> None:
            await asyncio.sleep(12)
            await asyncio.to_thread(testbed.start_controller)

        back = asyncio.create_task(come_back())
        try:
            runs = await place.launch(cluster, wanted)
        finally:
            await back
        return await place.finish(cluster, runs)

    assert outcome_of(place.run(scenario)).state is RunState.COMPLETED
    assert testbed.jobs_named(job_name(wanted.token)) == 1


@pytest.mark.every_slurm(by_default=False)
def test_an_absent_controller_is_waited_for_so_long_and_then_nothing_was_submitted(
    place: Place, testbed: Testbed
):
    hasty = replace(place, patience_seconds=0)
    wanted = sh(hasty, "true")

    async def scenario(cluster: ShellCluster) -> str:
        await cluster.deliver(wanted.image, hasty.blobs, SilentProgress())
        await cluster._known()
        testbed.stop_controller()
        try:
            with pytest.raises(SubmitRefusedError) as caught:
                await cluster.submit(wanted)
        finally:
            testbed.start_controller()
        return "\n".join(caught.value.details)

    assert "Unable to contact slurm controller" in hasty.run(scenario)
    assert not (place.seen / "submit" / wanted.token).exists()
    assert testbed.jobs_named(job_name(wanted.token)) == 0


def test_a_hung_controller_that_takes_the_job_later_has_it_once(place: Place, testbed: Testbed):
    wanted = sh(place, "echo late")

    async def scenario(cluster: ShellCluster):
        await cluster.deliver(wanted.image, place.blobs, SilentProgress())
        await cluster._known()
        testbed.pause_controller()
        task = asyncio.create_task(cluster.submit(wanted))
        await asyncio.sleep(14)
        testbed.resume_controller()
        job_id = await task
        return await place.finish(cluster, {wanted.tasks[0].run_id: job_id})

    try:
        observations = place.run(scenario)
    finally:
        testbed.resume_controller()

    assert outcome_of(observations).state is RunState.COMPLETED
    assert testbed.jobs_named(job_name(wanted.token)) == 1


@pytest.mark.every_slurm(by_default=False)
def test_while_it_hangs_it_is_not_known_whether_the_job_was_taken(place: Place, testbed: Testbed):
    hasty = replace(place, patience_seconds=0)
    wanted = sh(hasty, "true")

    async def scenario(cluster: ShellCluster) -> str:
        await cluster.deliver(wanted.image, hasty.blobs, SilentProgress())
        await cluster._known()
        testbed.pause_controller()
        try:
            with pytest.raises(SubmitUnknownError):
                await cluster.submit(wanted)
        finally:
            testbed.resume_controller()
        await asyncio.sleep(2)
        return await cluster.submit(wanted)

    job_id = hasty.run(scenario)

    testbed.wait_for_job(job_id)
    assert testbed.jobs_named(job_name(wanted.token)) == 1


def test_of_two_jobs_of_one_submission_the_second_steps_aside(place: Place, testbed: Testbed):
    wanted = sh(place, "echo run; sleep 1")
    run_id = wanted.tasks[0].run_id

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        await printed(cluster, run_id, b"run")
        script = place.seen / "submit" / wanted.token / "script"
        second = testbed.run(["sbatch", "--parsable", str(script)]).strip()
        testbed.wait_for_job(second)
        (observation,) = await place.finish(cluster, runs)
        return runs[run_id], second, observation

    first, second, observation = place.run(scenario)

    assert [f"{first}.0"] == [o.attempt for o in observation.outcomes]
    said = (place.seen / "submit" / wanted.token / f"slurm-{second}.out").read_text()
    assert f"it is a duplicate of job {first}" in said


@pytest.mark.every_slurm
def test_an_unknown_partition_is_refused_with_what_slurm_says(place: Place):
    wanted = sh(place, "true", options=(("partition", "nowhere"),))

    async def scenario(cluster: ShellCluster) -> tuple[str, ...]:
        await cluster.deliver(wanted.image, place.blobs, SilentProgress())
        with pytest.raises(SubmitRefusedError) as caught:
            await cluster.submit(wanted)
        return caught.value.details

    details = place.run(scenario)

    assert "#SBATCH --partition=nowhere" in details
    assert any("invalid partition specified: nowhere" in line for line in details)


# --- accounting --------------------------------------------------------------------------------


@pytest.mark.every_slurm
def test_without_the_accounting_service_runs_are_followed_all_the_same(
    place: Place, testbed: Testbed
):
    gone = RunId(token=fresh_token(), task=0)
    wanted = sh(place, "true")
    testbed.stop_accounting()

    async def scenario(cluster: ShellCluster):
        lost = (await cluster.observe({gone: "1"}))[gone]
        return lost, await place.finish(cluster, await place.launch(cluster, wanted))

    try:
        lost, observations = place.run(scenario)
    finally:
        testbed.start_accounting()

    assert not lost.state.is_final
    assert outcome_of(observations).state is RunState.COMPLETED


@pytest.mark.every_slurm
def test_a_run_that_nobody_knows_is_lost(place: Place):
    gone = RunId(token=fresh_token(), task=0)

    observation = place.run(lambda cluster: cluster.observe({gone: "1"}))[gone]

    assert observation.state is RunState.LOST


def test_a_site_without_accounting_is_good_enough(testbed_without_accounting: Testbed):
    gone = RunId(token=fresh_token(), task=0)
    with slurm_place(testbed_without_accounting) as place:
        wanted = sh(place, "echo fine")
        assert outcome_of(place.play(wanted)).state is RunState.COMPLETED
        again = place.run(lambda cluster: cluster.submit(wanted))
        found = place.run(lambda cluster: cluster.find([wanted.token]))
        lost = place.run(lambda cluster: cluster.observe({gone: "1"}))[gone]

    assert found == {wanted.token: again}
    assert lost.state is RunState.LOST


@pytest.mark.every_slurm
def test_a_job_with_gpus_is_told_which_ones_are_its_own(place: Place):
    wanted = sh(place, "echo $CUDA_VISIBLE_DEVICES", resources=Resources(gpus=1))
    without = sh(place, "echo ${CUDA_VISIBLE_DEVICES-none}")

    printed = [place.log_of(outcome_of(place.play(w)).run_id) for w in (wanted, without)]

    assert printed[0] in {b"0\n", b"1\n"}
    assert printed[1] == b"none\n"


# --- many --------------------------------------------------------------------------------------


@pytest.mark.every_slurm
def test_a_thousand_tasks_are_one_submission(place: Place, testbed: Testbed):
    commands = [["echo", f"task {n}"] for n in range(1000)]
    wanted = submission(place.image(), *commands, token=fresh_token(), options=(("hold", ""),))

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        seen = await cluster.observe(runs)
        await cluster.cancel(list(runs.values()))
        return seen, await place.finish(cluster, runs)

    pending, ended = place.run(scenario)

    assert {RunState.PENDING} == {observation.state for observation in pending.values()}
    assert {RunState.CANCELLED} == {observation.state for observation in ended}
    assert testbed.jobs_named(job_name(wanted.token)) == 1


@pytest.mark.every_slurm(by_default=False)
@pytest.mark.slow
def test_a_lost_node_starts_a_second_attempt_elsewhere(place: Place, testbed: Testbed):
    wanted = sh(place, TWICE, options=(("requeue", ""), ("nodelist", "n3,n4"), ("nodes", "1")))
    wanted = replace(wanted, options=(("requeue", ""),))
    run_id = wanted.tasks[0].run_id
    node = ""

    async def scenario(cluster: ShellCluster):
        nonlocal node
        runs = await place.launch(cluster, wanted)
        await printed(cluster, run_id, b"begin")
        node = testbed.run(["squeue", "-h", "-j", runs[run_id], "-o", "%N"]).strip()
        testbed.stop_node(node)
        return await place.finish(cluster, runs, seconds=120)

    try:
        (observation,) = place.run(scenario)
    finally:
        with suppress(AssertionError):
            testbed.start_node(node)

    assert observation.state is RunState.COMPLETED
    assert observation.outcomes[-1].attempt.endswith(".1")


@pytest.mark.parametrize("name", ["a state", "100%j", "50%", "it's, odd"])
def test_a_state_folder_of_any_name_will_do(place: Place, name: str):
    odd = f"{place.state_dir}/{name}"
    there = replace(place, state_dir=odd, seen=Path(odd))
    wanted = submission(place.image(), ["true"], ["true"], token=fresh_token())

    assert {(RunState.COMPLETED, None)} == {(o.state, o.reason) for o in there.play(wanted)}
    said = (there.seen / "submit" / wanted.token).glob("slurm-*_1.out")
    assert [b""] == [path.read_bytes() for path in said]


@pytest.mark.every_slurm
def test_the_longest_array_is_known(place: Place):
    assert 1001 == place.run(lambda cluster: cluster.max_tasks(()))


@pytest.mark.every_slurm
def test_more_tasks_than_slurm_takes_are_refused_with_the_limit_named(place: Place):
    wanted = submission(place.image(), *[["true"]] * 1002, token=fresh_token())

    async def scenario(cluster: ShellCluster) -> str:
        await cluster.deliver(wanted.image, place.blobs, SilentProgress())
        with pytest.raises(SubmitRefusedError) as caught:
            await cluster.submit(wanted)
        return caught.value.hint or ""

    assert "MaxArraySize" in place.run(scenario)
