"""Limits on how much one may submit, set on a real Slurm: waited for, and nothing twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster_places import Place, fresh_token, ssh_place
from tests.cluster_support import submission
from tests.real.conftest import cluster_config
from tests.testbed.bed import Testbed
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.model.run import RunState


@contextmanager
def configured(testbed: Testbed, *lines: str) -> Iterator[None]:
    """A controller that was started with further lines in its configuration."""
    before = testbed.slurm_conf.read_text()
    names = tuple(line.partition("=")[0] + "=" for line in lines)
    kept = [line for line in before.splitlines() if not line.startswith(names)]
    try:
        testbed.slurm_conf.write_text("\n".join((*kept, *lines, "")))
        testbed.stop_controller()
        testbed.start_controller()
        yield
    finally:
        testbed.slurm_conf.write_text(before)
        testbed.stop_controller()
        testbed.start_controller()


@pytest.fixture(scope="module")
def limited(testbed: Testbed) -> Iterator[Testbed]:
    clear_queue(testbed)
    with configured(testbed, "AccountingStorageEnforce=limits,qos"):
        yield testbed


def clear_queue(testbed: Testbed) -> None:
    """End the jobs that other tests left: they would count."""
    for _ in range(300):
        testbed.run(["scancel", "--user", testbed.ssh_user])
        if not testbed.run(["squeue", "--noheader", "--user", testbed.ssh_user]).strip():
            return
        time.sleep(0.1)
    raise AssertionError("there are jobs that cannot be ended")


@pytest.fixture
def place(testbed: Testbed) -> Iterator[Place]:
    with ssh_place(testbed) as there:
        yield there


def modify(testbed: Testbed, *words: str) -> None:
    testbed.run(["sacctmgr", "-iQ", "modify", *words])


def check_freed(place: Place, testbed: Testbed) -> None:
    """Submit what fills the room, then one more job; make room while that waits."""
    filling = submission(place.image(), ["true"], token=fresh_token(), options=(("hold", ""),))
    wanted = submission(place.image(), ["true"], token=fresh_token())

    async def scenario(cluster: ShellCluster):
        held = await place.launch(cluster, filling)
        waiting = asyncio.create_task(cluster.submit(wanted))
        await asyncio.sleep(2)
        was_waiting = not waiting.done()
        await cluster.cancel(list(held.values()))
        runs = {wanted.tasks[0].run_id: await waiting}
        return was_waiting, await place.finish(cluster, runs)

    was_waiting, (seen,) = place.run(scenario)

    assert was_waiting
    assert RunState.COMPLETED is seen.state
    assert 1 == testbed.jobs_named(f"xmslurm-{wanted.token}")


def test_room_in_a_qos_is_waited_for(limited: Testbed, place: Place):
    modify(limited, "qos", "normal", "set", "MaxSubmitJobsPerUser=1")
    try:
        check_freed(place, limited)
    finally:
        modify(limited, "qos", "normal", "set", "MaxSubmitJobsPerUser=-1")


def test_room_in_an_association_is_waited_for(limited: Testbed, place: Place):
    modify(limited, "user", limited.ssh_user, "set", "MaxSubmitJobs=1")
    try:
        check_freed(place, limited)
    finally:
        modify(limited, "user", limited.ssh_user, "set", "MaxSubmitJobs=-1")


def test_a_sweep_larger_than_the_limit_is_submitted_as_there_is_room(limited: Testbed, make_cli):
    modify(limited, "user", limited.ssh_user, "set", "MaxSubmitJobs=3")
    try:
        cli = make_cli({"main.py": "print()\n"}, config=cluster_config(limited))
        launched = cli.launch("true", options=("--sweep", "i=1,2,3,4,5,6,7", "--wait"))
    finally:
        modify(limited, "user", limited.ssh_user, "set", "MaxSubmitJobs=-1")

    runs = launched["runs"]
    tokens = list(dict.fromkeys(run["run_id"].partition(".")[0] for run in runs))
    assert [1, 2, 3, 4, 5, 6, 7] == [run["unit_number"] for run in runs]
    assert {"completed"} == {status["state"] for status in launched["status"]}
    assert [3, 3, 1] == [sum(run["run_id"].startswith(token) for run in runs) for token in tokens]
    assert [1, 1, 1] == [limited.jobs_named(f"xmslurm-{token}") for token in tokens]
