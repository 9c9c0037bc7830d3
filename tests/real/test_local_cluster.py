"""A machine without a scheduler: jobs of its own, detached from whoever started them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster_places import Place, forget_images, fresh_token, local_place, outcome_of
from tests.cluster_support import scratch_state, shell_image, submission
from tests.testbed.bed import REPOSITORY
from xmslurm_repro.cluster.podman import Podman
from xmslurm_repro.cluster.runtime import Bubblewrap, Runtime
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.errors import ClusterError, NoRuntimeError
from xmslurm_repro.model.run import RunId, RunState
from xmslurm_repro.model.work import Resources
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.transport.local import LocalTransport


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with scratch_state(tmp_path / "a state") as seen:
        yield local_place(seen)


def sh(place: Place, *scripts: str, token: str | None = None, **changes: object):
    commands = [["bash", "-c", script] for script in scripts]
    return submission(place.image(), *commands, token=token or fresh_token(), **changes)


def with_path(place: Place, path: str) -> Place:
    env = {"PATH": path, "HOME": str(place.seen.parent), "TMPDIR": str(place.seen.parent)}
    return replace(place, make_transport=lambda: LocalTransport(env=env))


async def until(condition, *, seconds: float = 20) -> None:
    for _ in range(int(seconds * 50)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to that")


def test_a_run_outlives_the_process_that_launched_it(place: Place):
    token = fresh_token()
    program = f"""
from pathlib import Path
from tests.cluster_places import local_place
from tests.cluster_support import submission
place = local_place(Path({str(place.seen)!r}))
wanted = submission(place.image(), ["bash", "-c", "sleep 1; echo done"], token={token!r})
place.run(lambda cluster: place.launch(cluster, wanted))
"""
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, timeout=60)
    run_id = RunId(token=token, task=0)

    (observation,) = place.run(lambda cluster: place.finish(cluster, {run_id: "1"}))

    assert observation.state is RunState.COMPLETED
    assert place.log_of(run_id) == b"done\n"


def test_tasks_run_one_after_another_unless_more_may(place: Place):
    script = "echo $EPOCHREALTIME; sleep 0.3; echo $EPOCHREALTIME"

    def overlaps(**changes: object) -> bool:
        wanted = sh(place, script, script, **changes)
        assert {RunState.COMPLETED} == {o.state for o in place.play(wanted)}
        spans = [place.log_of(task.run_id).decode().split() for task in wanted.tasks]
        return float(spans[1][0]) < float(spans[0][1])

    assert not overlaps()
    assert overlaps(max_parallel_tasks=2)


def test_submissions_get_numbers_of_their_own_even_at_once(place: Place):
    wanted = [sh(place, "true") for _ in range(8)]

    async def scenario(cluster: ShellCluster) -> list[str]:
        await cluster.deliver(place.image(), place.blobs, SilentProgress())
        ids = await asyncio.gather(*(cluster.submit(one) for one in wanted))
        runs = {one.tasks[0].run_id: job_id for one, job_id in zip(wanted, ids, strict=True)}
        await place.finish(cluster, runs)
        return list(ids)

    assert {str(number) for number in range(1, 9)} == set(place.run(scenario))


def test_one_task_of_several_can_be_cancelled(place: Place):
    wanted = sh(place, "sleep 30", "echo next")

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        first = wanted.tasks[0].run_id
        await until(lambda: (place.seen / "runs" / first.token / "0").exists())
        await cluster.cancel([runs[first]])
        return await place.finish(cluster, runs)

    assert [RunState.CANCELLED, RunState.COMPLETED] == [o.state for o in place.run(scenario)]


def test_tasks_that_did_not_begin_are_cancelled_with_the_job(place: Place):
    wanted = sh(place, "sleep 30", "echo next", "echo last")

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        await until(lambda: (place.seen / "runs" / wanted.token / "0").exists())
        await cluster.cancel(["1"])
        return await place.finish(cluster, runs)

    observations = place.run(scenario)

    assert [RunState.CANCELLED] * 3 == [o.state for o in observations]
    assert [1, 0, 0] == [len(o.outcomes) for o in observations]


def test_a_run_that_is_cancelled_while_layers_are_unpacked_was_cancelled_and_not_refused(
    place: Place,
):
    image = shell_image(place.blobs, extra_files=30_000)
    wanted = submission(image, ["true"], token=fresh_token(), workdir="/")

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        await until(lambda: any((place.seen / "layers").glob("*.new.*")))
        # As Slurm does on some sites: every process of the job.
        pid = int((place.seen / "local/1/task.0").read_text().split()[1])
        (place.seen / "local/1/cancelled").touch()
        os.killpg(pid, signal.SIGTERM)
        (observation,) = await place.finish(cluster, runs)
        again = replace(wanted, token=(token := fresh_token()))
        task = replace(wanted.tasks[0], run_id=RunId(token=token, task=0))
        again = replace(again, tasks=(task,))
        (later,) = await place.finish(cluster, await place.launch(cluster, again))
        return observation, later

    observation, later = place.run(scenario)

    assert observation.state is RunState.CANCELLED
    assert RunState.CANCELLED is observation.outcomes[0].state
    assert later.state is RunState.COMPLETED


def test_a_job_whose_machine_stopped_is_known_to_be_gone(place: Place):
    wanted = sh(place, "echo on; sleep 60", "echo next")

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        await until(lambda: any(place.seen.glob(f"runs/{wanted.token}/0/*/log")))
        supervisor = int((place.seen / "local/1/pid").read_text().split()[0])
        task = int((place.seen / "local/1/task.0").read_text().split()[1])
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        for pid in (supervisor, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        os.killpg(task, signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{supervisor}").exists())
        return await place.finish(cluster, runs)

    assert [RunState.NODE_FAIL] * 2 == [o.state for o in place.run(scenario)]


@pytest.mark.slow
def test_the_time_limit_is_kept(place: Place):
    wanted = sh(place, "sleep 100", resources=Resources(time_limit_minutes=1))

    outcome = outcome_of(place.play(wanted, seconds=100))

    assert outcome.state is RunState.TIMEOUT
    assert outcome.reason == "it reached its time limit"


def test_a_command_that_will_not_end_is_killed_after_a_while(place: Place):
    wanted = sh(place, "trap '' TERM; echo on; while :; do sleep 1; done")

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        await until(lambda: any(p.read_bytes() for p in place.seen.glob("runs/*/0/*/log")))
        begin = time.monotonic()
        await cluster.cancel(["1"])
        (observation,) = await place.finish(cluster, runs)
        return observation, time.monotonic() - begin

    observation, seconds = place.run(scenario)

    assert observation.state is RunState.CANCELLED
    assert 10 < seconds < 20


def test_without_a_runtime_nothing_is_submitted_and_the_reasons_are_told(
    place: Place, tmp_path: Path
):
    tools = tmp_path / "bin"
    tools.mkdir()
    for path in (Path("/usr/bin"), Path("/bin"), Path("/usr/sbin"), Path("/sbin")):
        for program in path.iterdir():
            if program.name not in {"bwrap", "podman", "ch-run", "apptainer", "singularity"}:
                (tools / program.name).unlink(missing_ok=True)
                (tools / program.name).symlink_to(program)
    bare = with_path(place, str(tools))

    with pytest.raises(NoRuntimeError) as caught:
        bare.run(lambda cluster: cluster.deliver(bare.image(), bare.blobs, SilentProgress()))

    assert any(line.startswith("bubblewrap: ") for line in caught.value.details)
    assert any(line.startswith("podman: ") for line in caught.value.details)
    assert [] == list(place.seen.glob("blobs/sha256/*"))


def test_missing_tools_are_named(place: Place, tmp_path: Path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for program in Path("/usr/bin").iterdir():
        if program.name not in {"comm", "tar"}:
            (tools / program.name).symlink_to(program)
    bare = with_path(place, str(tools))

    with pytest.raises(ClusterError, match="lacks tar, comm"):
        bare.run(lambda cluster: cluster.deliver(bare.image(), bare.blobs, SilentProgress()))


def test_a_state_folder_that_cannot_be_written_is_an_error(place: Place):
    blocked = replace(place, state_dir="/proc/nowhere")

    with pytest.raises(ClusterError, match="state folder /proc/nowhere"):
        blocked.run(lambda cluster: cluster.check())


def test_a_broken_blob_on_its_way_is_found_out(place: Place):
    from xmslurm_repro.errors import DigestMismatchError

    image = place.image()
    layer = image.layers[0].blob
    held = dict(place.blobs.held)
    place.blobs.held[layer.digest] = b"x" * layer.size_bytes

    with pytest.raises(DigestMismatchError, match=layer.digest.hex):
        place.run(lambda cluster: cluster.deliver(image, place.blobs, SilentProgress()))

    place.blobs.held.update(held)
    assert outcome_of(place.play(sh(place, "true"))).state is RunState.COMPLETED


def test_the_driver_of_the_node_reaches_a_job_with_gpus(place: Place, tmp_path: Path):
    library = tmp_path / "libcuda.so.1"
    library.write_text("the driver\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ldconfig").write_text(
        f"#!/bin/sh\nprintf '\\tlibcuda.so.1 (libc6,x86-64) => {library}\\n'\n"
        f"printf '\\tlibcuda.so.1 (libc6,x86-64) => /somewhere/else\\n'\n"
        f"printf '\\tlibc.so.6 (libc6,x86-64) => /usr/lib/libc.so.6\\n'\n"
    )
    (tools / "ldconfig").chmod(0o755)
    driven = with_path(place, f"{tools}:{os.environ['PATH']}")
    script = 'cat "${LD_LIBRARY_PATH-nothing}"/* 2>/dev/null || echo none'

    with_gpu = outcome_of(driven.play(sh(driven, script, resources=Resources(gpus=1))))
    without = outcome_of(driven.play(sh(driven, script)))

    assert driven.log_of(with_gpu.run_id) == b"the driver\n"
    assert driven.log_of(without.run_id) == b"none\n"


def test_what_killed_jobs_left_on_the_node_is_swept_away(place: Place):
    scratch = place.seen.parent / "scratch"
    stale, held = scratch / "xmslurm-job.stale", scratch / "xmslurm-job.held"
    for folder in (stale, held):
        folder.mkdir()
        (folder / "lock").touch()
        os.utime(folder, (1, 1))
    owner = subprocess.Popen(["flock", str(held / "lock"), "sleep", "60"])
    time.sleep(0.2)

    place.play(sh(place, "true"))

    assert (False, True) == (stale.exists(), held.exists())
    assert ["xmslurm-job.held"] == sorted(p.name for p in scratch.glob("xmslurm-job.*"))
    owner.kill()
    owner.wait()


def test_a_warm_job_reads_no_file_of_the_base_again(place: Place, tmp_path: Path):
    image = shell_image(place.blobs, code={"x": b"1"}, extra_files=10_000)
    (tmp_path / "bin").mkdir()
    program, calls = tmp_path / "bin" / "sha256sum", tmp_path / "calls"
    program.write_text(f'#!/bin/sh\necho $# >>{calls}\nexec /usr/bin/sha256sum "$@"\n')
    program.chmod(0o755)
    counting = with_path(place, f"{tmp_path}/bin:{os.environ['PATH']}")
    hashed = []
    for _ in range(3):
        calls.write_text("")
        outcome_of(counting.play(submission(image, ["true"], token=fresh_token())))
        hashed.append(sum(map(int, calls.read_text().split())))

    # The first one unpacks; the second settles the time stamps that its hard links have moved.
    assert hashed[0] > 10_000
    assert hashed[2] < 100


def test_accelerators_are_among_the_facts(place: Place, tmp_path: Path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(
        "#!/bin/sh\nprintf 'Model A, GPU-1, 92\\nModel A, GPU-2, 92\\n'\n"
    )
    (tools / "nvidia-smi").chmod(0o755)
    driven = with_path(place, f"{tools}:{os.environ['PATH']}")

    facts = dict(outcome_of(driven.play(sh(driven, "true"))).facts)

    assert ("2", "Model A, GPU-1, 92") == (facts["gpus"], facts["gpu_0"])
    assert facts["gpu_1"] == "Model A, GPU-2, 92"


@pytest.mark.parametrize("runtime", [Bubblewrap(), Podman()], ids=["bubblewrap", "podman"])
def test_a_cancelled_command_ends_in_its_own_way_if_it_can(place: Place, runtime: Runtime):
    there = replace(place, runtime=runtime)
    wanted = sh(
        there,
        "trap 'echo saved >/xm/outputs/state; exit 3' TERM; echo on; while :; do sleep 0.1; done",
    )

    async def scenario(cluster: ShellCluster):
        runs = await there.launch(cluster, wanted)
        async for _ in cluster.logs(wanted.tasks[0].run_id, attempt=None, follow=True):
            break
        await cluster.cancel(["1"])
        return await there.finish(cluster, runs)

    outcome = outcome_of(there.run(scenario))
    forget_images(there.seen.parent / "scratch")

    assert (RunState.CANCELLED, 3) == (outcome.state, outcome.exit_code)
    assert ["state"] == [o.path for o in outcome.outputs]
