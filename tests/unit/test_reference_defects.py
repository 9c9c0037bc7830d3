"""What goes wrong with xm_slurm and must not here, where no other test says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from xmanager import xm

import xmslurm_repro.xm as xm_slurm
from tests.support.world import MemoryCluster
from tests.support.xm_world import World
from xmslurm_repro.model.run import RunState
from xmslurm_repro.services.tools import ClusterSite


def on(name):
    return xm_slurm.Slurm(requirements=xm_slurm.JobRequirements(cluster=name))


def two_clusters(world):
    """Let the world have a second cluster, whose jobs have ids of their own."""
    clusters = {"alpha": world.cluster, "beta": MemoryCluster(name="beta")}
    world.tools = replace(
        world.tools, site=lambda name: ClusterSite(cluster=clusters[name or "alpha"])
    )
    return clusters


def test_the_status_of_units_on_two_clusters_is_seen():
    world = World()
    clusters = two_clusters(world)

    async def main():
        async with world.create() as experiment:
            units = [await experiment.add(world.job(executor=on(name))) for name in clusters]
            for unit in units:
                clusters[unit.receipt.cluster].end(unit.receipt.run_id)
            return [(await unit.get_status()).is_completed for unit in units]

    assert [True, True] == asyncio.run(asyncio.wait_for(main(), 60))
    assert ["100", "100"] == [row.receipt.job_id for row in world.tools.record.runs()]


def test_two_jobs_are_cancelled_at_once():
    world = World()
    cancelled = []

    async def cancel(job_ids):
        cancelled.extend(job_ids)
        await asyncio.sleep(0.01)

    world.cluster.cancel = cancel

    async def main():
        async with world.create() as experiment:
            units = [await experiment.add(world.job()) for _ in range(2)]
            for unit in units:
                unit.stop()
            for unit in units:
                world.cluster.end(unit.receipt.run_id, state=RunState.CANCELLED)
            return await asyncio.gather(
                *(unit.wait_until_complete() for unit in units), return_exceptions=True
            )

    ends = asyncio.run(asyncio.wait_for(main(), 60))

    assert ["100", "101"] == sorted(cancelled)
    assert [xm.ExperimentUnitNotCompletedError] * 2 == [type(end) for end in ends]
