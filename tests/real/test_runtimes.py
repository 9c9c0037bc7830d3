"""Container runtimes other than the default, each really run: what they promise is the same."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster_places import (
    Place,
    forget_images,
    fresh_token,
    local_place,
    outcome_of,
    push_image,
    slurm_place,
    ssh_place,
)
from tests.cluster_support import scratch_state, submission

# The same promises, so the same tests, at the places below.
from tests.contract.test_cluster import (
    test_a_cancelled_run_says_so,
    test_a_command_that_fails_fails_the_run_and_keeps_its_outputs,
    test_a_command_that_is_not_in_the_image_fails_the_run,
    test_a_run_leaves_its_exit_code_its_log_and_its_outputs,
    test_a_work_folder_that_is_not_in_the_image_fails_the_run_and_says_so,
    test_an_array_gives_every_task_its_own_command,
    test_arguments_arrive_to_the_byte,
    test_output_names_are_exact_and_outputs_can_be_fetched,
    test_the_command_finds_nothing_of_the_host,
    test_the_environment_is_the_given_one_and_nothing_else,
    test_the_network_is_reached_only_where_it_was_asked_for,
    test_tmp_is_empty_writable_and_gone_afterwards,
    test_what_a_command_got_and_took_is_recorded,
)
from tests.debian_root import USER_ID, Inside, debian_root
from tests.testbed.bed import Testbed
from xmslurm_repro.cluster.apptainer import Apptainer
from xmslurm_repro.cluster.charliecloud import Charliecloud
from xmslurm_repro.cluster.docker import Docker
from xmslurm_repro.cluster.podman import Podman
from xmslurm_repro.cluster.shell import RegistryTarget, ShellCluster
from xmslurm_repro.model.run import RunState
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.transport.local import LocalTransport

__all__ = [
    "test_a_cancelled_run_says_so",
    "test_a_command_that_fails_fails_the_run_and_keeps_its_outputs",
    "test_a_command_that_is_not_in_the_image_fails_the_run",
    "test_a_run_leaves_its_exit_code_its_log_and_its_outputs",
    "test_a_work_folder_that_is_not_in_the_image_fails_the_run_and_says_so",
    "test_an_array_gives_every_task_its_own_command",
    "test_arguments_arrive_to_the_byte",
    "test_output_names_are_exact_and_outputs_can_be_fetched",
    "test_the_command_finds_nothing_of_the_host",
    "test_the_environment_is_the_given_one_and_nothing_else",
    "test_the_network_is_reached_only_where_it_was_asked_for",
    "test_tmp_is_empty_writable_and_gone_afterwards",
    "test_what_a_command_got_and_took_is_recorded",
]


PLACES = [
    "podman as root",
    "podman without root",
    "charliecloud",
    "docker",
    pytest.param("apptainer", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=PLACES)
def place(request, testbed: Testbed, tmp_path_factory) -> Iterator[Place]:
    if request.param == "podman as root":
        with scratch_state(tmp_path_factory.mktemp("local") / "state") as seen:
            yield local_place(seen, Podman())
            forget_images(seen.parent / "scratch")
    elif request.param == "podman without root":
        with ssh_place(testbed, Podman()) as there:
            yield there
    elif request.param == "charliecloud":
        with ssh_place(testbed, Charliecloud()) as there:
            yield there
    elif request.param == "docker":
        engine = request.getfixturevalue("docker_engine")
        with ssh_place(testbed, Docker(options=(f"--host={engine}",))) as there:
            yield there
    else:
        # A short path that others may walk: what pytest makes is for root only.
        with tempfile.TemporaryDirectory(prefix="xmroot-") as folder:
            os.chmod(folder, 0o755)
            with debian_root(Path(folder), "sid", "apptainer") as keeper:
                yield place_inside(Path(folder) / "user", keeper)


def place_inside(folder: Path, keeper: int) -> Place:
    place = local_place(folder / "state", Apptainer())
    for path in (folder, folder / "scratch"):
        os.chown(path, USER_ID, USER_ID)
    env = {"PATH": "/usr/bin:/bin", "HOME": "/home/somebody", "TMPDIR": str(folder / "scratch")}
    return replace(place, make_transport=lambda: Inside(LocalTransport(env=env), keeper))


@pytest.fixture(scope="module", autouse=True)
def _no_stores_stay(testbed: Testbed) -> Iterator[None]:
    yield
    users = [0, *(pwd.getpwnam(user).pw_uid for user in testbed.users)]
    for folder in (path for user in users for path in Path("/tmp").glob(f"xmslurm-{user}*")):
        forget_images(folder)
        for pause in folder.glob("xdg/libpod/tmp/pause.pid"):
            with suppress(ProcessLookupError):
                os.kill(int(pause.read_text()), signal.SIGTERM)
        subprocess.run(["rm", "-rf", str(folder)], check=False)


@pytest.mark.parametrize("runtime", ["podman", "charliecloud", "docker"])
def test_a_container_ends_with_a_job_that_is_killed(testbed: Testbed, request, runtime: str):
    mark = f"9{os.getpid()}"
    made = {"podman": Podman(), "charliecloud": Charliecloud()}
    if runtime == "docker":
        made["docker"] = Docker(options=(f"--host={request.getfixturevalue('docker_engine')}",))
    with ssh_place(testbed, made[runtime]) as place:
        wanted = submission(
            place.image(), ["bash", "-c", f"echo on; sleep {mark}"], token=fresh_token()
        )

        async def scenario(cluster: ShellCluster) -> None:
            runs = await place.launch(cluster, wanted)
            async for _ in cluster.logs(wanted.tasks[0].run_id, attempt=None, follow=True):
                break
            assert sleepers(mark)
            (job_id,) = runs.values()
            kill_scripts_of(job_id)
            await place.finish(cluster, runs)

        place.run(scenario)
        for _ in range(200):
            if not sleepers(mark):
                return
            time.sleep(0.1)

    raise AssertionError("the container goes on")


def test_a_job_runs_where_another_was_killed_with_all_that_belonged_to_it(testbed: Testbed):
    mark = f"8{os.getpid()}"
    with ssh_place(testbed, Podman()) as place:
        doomed, later = (
            submission(place.image(), ["bash", "-c", script], token=fresh_token())
            for script in (f"echo on; sleep {mark}", "echo fine")
        )

        async def scenario(cluster: ShellCluster):
            runs = await place.launch(cluster, doomed)
            async for _ in cluster.logs(doomed.tasks[0].run_id, attempt=None, follow=True):
                break
            while not sleepers(mark):
                await asyncio.sleep(0.02)
            # As a site that tracks processes by cgroup does: podman's helpers are gone as well.
            (run_folder,) = {folder for pid in sleepers(mark) for folder in run_folders(pid)}
            for process in (*processes_of(run_folder), *sleepers(mark)):
                with suppress(ProcessLookupError):
                    os.kill(int(process.parent.name), signal.SIGKILL)
            await place.finish(cluster, runs)
            return await place.finish(cluster, await place.launch(cluster, later))

        observations = place.run(scenario)

    assert [(RunState.COMPLETED, None)] == [(o.state, o.reason) for o in observations]


def run_folders(pid: Path) -> list[str]:
    """The folder of the podman that keeps a process: named by its conmon, the init's parent."""
    process = pid.parent
    while process.name not in {"0", "1"}:
        words = content(process / "cmdline").decode().split("\0")
        found = [w.rpartition("/")[0] for w in words if re.fullmatch(r"/tmp/[^/]+/run", w)]
        if found:
            return found[:1]
        parent = content(process / "status").decode().partition("PPid:\t")[2].split()
        process = Path("/proc") / (parent[0] if parent else "0")
    return []


def processes_of(run_folder: str) -> list[Path]:
    """Everything that a job and its podman started."""
    named = run_folder.encode()
    return [
        path
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if named in content(path) or named in content(path.parent / "environ")
    ]


def sleepers(mark: str) -> list[Path]:
    """Processes called ``sleep MARK``."""
    words = f"sleep\0{mark}\0".encode()
    return [p for p in Path("/proc").glob("[0-9]*/cmdline") if content(p) == words]


def content(path: Path) -> bytes:
    with suppress(OSError):
        return path.read_bytes()
    return b""


def kill_scripts_of(job_id: str) -> None:
    """Kill a job's batch shell, and no more."""
    for process in Path("/proc").glob("[0-9]*"):
        words = content(process / "cmdline").split(b"\0")
        variables = content(process / "environ").split(b"\0")
        is_script = any(word.endswith(b"slurm_script") for word in words[:2])
        if is_script and f"SLURM_JOB_ID={job_id}".encode() in variables:
            with suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)


def test_a_job_pulls_its_image_by_digest_and_nothing_is_sent(testbed: Testbed):
    with slurm_place(testbed, Podman()) as place:
        repository = f"{testbed.registry}/runs-{fresh_token()}"
        push_image(repository, place.image(), place.blobs)
        target = RegistryTarget(repository=repository, is_insecure=True)
        place = replace(place, registry=target)

        async def scenario(cluster: ShellCluster) -> int:
            return await cluster.deliver(place.image(), place.blobs, SilentProgress())

        assert place.run(scenario) == 0
        wanted = submission(place.image(), ["sh", "probe.sh"], token=fresh_token())
        outcome = outcome_of(place.play(wanted))

    assert outcome.state is RunState.COMPLETED, outcome.reason
    assert outcome.image == place.image().manifest.digest


def test_an_image_that_the_registry_does_not_have_fails_the_run(testbed: Testbed):
    with slurm_place(testbed, Podman()) as place:
        target = RegistryTarget(repository=f"{testbed.registry}/none", is_insecure=True)
        place = replace(place, registry=target)
        place.images["other"] = place.image()
        wanted = submission(other_image(place), ["true"], token=fresh_token())

        outcome = outcome_of(place.play(wanted))

    assert outcome.state is RunState.FAILED
    assert "podman cannot load the image" in (outcome.reason or "")


def other_image(place: Place):
    """An image that no store holds yet."""
    from tests.cluster_support import shell_image

    return shell_image(place.blobs, code={"fresh": fresh_token().encode()})
