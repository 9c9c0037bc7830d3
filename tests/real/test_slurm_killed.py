"""Parts of Slurm that are killed, and jobs that Slurm kills: every state is explained."""

from __future__ import annotations

import asyncio

from tests.cluster_places import fresh_token, slurm_place
from tests.cluster_support import submission
from tests.testbed.bed import Testbed
from tests.testbed.processes import wait_until
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.model.run import RunState
from xmslurm_repro.model.work import Resources


def test_a_controller_that_is_killed_while_runs_run_and_are_collected_loses_none(testbed: Testbed):
    with slurm_place(testbed) as place:
        lone = submission(
            place.image(), ["bash", "-c", "echo on; sleep 2; echo off"], token=fresh_token()
        )
        held = submission(place.image(), ["true"], token=fresh_token(), options=(("hold", ""),))
        first, second = lone.tasks[0].run_id, held.tasks[0].run_id

        async def scenario(cluster: ShellCluster):
            runs = {**await place.launch(cluster, lone), **await place.launch(cluster, held)}
            async for _ in cluster.logs(first, attempt=None, follow=True):
                break
            # What Slurm has not written down yet it loses itself.
            state = testbed.root / "state" / "job_state"
            name = held.token.encode()
            await asyncio.to_thread(wait_until, lambda: name in state.read_bytes(), "Slurm saves")
            testbed.kill_controller()
            try:
                # The first ends meanwhile: its own record says so. Each question to Slurm takes
                # nine seconds now.
                dark = await cluster.observe(runs)
                printed = [piece async for _, piece in cluster.follow([first])]
            finally:
                await asyncio.to_thread(testbed.start_controller)
            light = await cluster.observe(runs)
            await cluster.cancel([runs[second]])
            return dark, printed, light

        dark, printed, light = place.run(scenario)

    assert [RunState.COMPLETED, RunState.PENDING] == [dark[first].state, dark[second].state]
    assert "Unable to contact slurm controller" in (dark[second].reason or "")
    assert b"".join(printed) == b"on\noff\n"
    assert [RunState.COMPLETED, RunState.PENDING] == [light[first].state, light[second].state]
    assert light[second].reason == "JobHeldUser"
    assert [1, 1] == [testbed.jobs_named(f"xmslurm-{one.token}") for one in (lone, held)]


def test_a_command_that_takes_more_memory_than_it_asked_for_says_so(
    testbed_without_accounting: Testbed,
):
    with slurm_place(testbed_without_accounting) as place:
        # A line that has no end is held in memory.
        script = "echo on; { head -c 300000000 /dev/zero; sleep 30; } | tail -n 1"
        wanted = submission(
            place.image(),
            ["bash", "-c", script],
            token=fresh_token(),
            resources=Resources(memory_mib=100),
        )
        (observation,) = place.play(wanted)

    assert observation.state is RunState.OUT_OF_MEMORY
    assert "memory limit" in (observation.reason or "")
