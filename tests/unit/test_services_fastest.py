"""Of several clusters the one that would start first."""

import asyncio
from dataclasses import replace

import pytest

from tests.support.world import MemoryCluster, make_world
from xmslurm_repro.cluster.estimating import read_estimate
from xmslurm_repro.errors import ClusterError, ConnectionLostError, SubmitRefusedError
from xmslurm_repro.model.work import Resources
from xmslurm_repro.services.fastest import ask_clusters, fastest
from xmslurm_repro.services.tools import ClusterSite

SAID = (
    "sbatch: Job 7 to start at 2026-01-02T03:05:05 using 4 processors on nodes n[1-2] "
    "in partition gpu"
)


def ask(*clusters, options=()):
    known = {cluster.name: ClusterSite(cluster=cluster) for cluster in clusters}
    tools, _ = make_world()
    tools = replace(tools, site=lambda name: known[name])
    return asyncio.run(ask_clusters(tools, list(known), Resources(), options))


def test_the_shortest_wait_wins_and_of_equals_the_first():
    offers = ask(
        MemoryCluster(name="a", wait_seconds=9),
        MemoryCluster(name="b", wait_seconds=3),
        MemoryCluster(name="c", wait_seconds=3),
    )

    assert "b" == fastest(offers)


def test_one_that_cannot_be_reached_and_one_that_refuses_are_said_and_skipped():
    gone = ConnectionLostError("no route", may_have_run=False)
    offers = ask(
        MemoryCluster(name="a", trouble={"estimate": gone}),
        MemoryCluster(name="b", trouble={"estimate": SubmitRefusedError("no such partition")}),
        MemoryCluster(name="c", wait_seconds=10**6),
    )

    assert "c" == fastest(offers)
    assert ["no route", "no such partition", None] == [each.to_json()["trouble"] for each in offers]


def test_when_all_refuse_every_reason_is_told():
    no = SubmitRefusedError("no", details=["because"])
    offers = ask(
        MemoryCluster(name="a", trouble={"estimate": no}),
        MemoryCluster(name="b", trouble={"estimate": ClusterError("away")}),
    )

    with pytest.raises(SubmitRefusedError) as caught:
        fastest(offers)
    assert ["a: no; because", "b: away"] == list(caught.value.details)


def test_all_are_asked_at_once():
    waiting = asyncio.Barrier(2)

    class Slow(MemoryCluster):
        async def estimate(self, resources, options):
            await asyncio.wait_for(waiting.wait(), 10)
            return await super().estimate(resources, options)

    assert 2 == len(ask(Slow(name="a"), Slow(name="b")))


def test_a_time_is_read_as_a_wait_by_the_clock_of_the_login_node():
    found = read_estimate(SAID, 1767323045)

    assert (60, "n[1-2]", "gpu") == (found.starts_in_seconds, found.nodes, found.partition)


def test_a_time_that_has_passed_is_now():
    assert 0 == read_estimate(SAID, 1767999999).starts_in_seconds


def test_no_time_is_an_error():
    with pytest.raises(ClusterError, match="does not say"):
        read_estimate("sbatch: something else", 0)
