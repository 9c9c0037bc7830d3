"""Of several clusters the one that would start a job first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from xmslurm_repro.errors import ReproError, SubmitRefusedError
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.work import Resources
from xmslurm_repro.ports.cluster import Estimate
from xmslurm_repro.services.submit import told
from xmslurm_repro.services.tools import Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one cluster answered: when the job would start, or why it would not."""

    cluster: str
    estimate: Estimate | None = None
    trouble: ReproError | None = None

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON."""
        estimate, trouble = self.estimate, self.trouble
        return {
            "cluster": self.cluster,
            "starts_in_seconds": estimate.starts_in_seconds if estimate else None,
            "partition": estimate.partition if estimate else None,
            "nodes": estimate.nodes if estimate else None,
            "trouble": _reason(trouble) if trouble else None,
        }


async def ask_clusters(
    tools: Tools,
    names: Sequence[str],
    resources: Resources,
    options: Sequence[tuple[str, str]],
) -> list[Offer]:
    """
    Ask all of them at once. What one of them refuses, or that it cannot be reached, is its answer.

    Raises:
        UnknownClusterError: If one of them is not configured.
    """
    sites = [tools.site(name) for name in dict.fromkeys(names)]

    async def ask(index: int) -> Offer:
        site = sites[index]
        try:
            found = await site.cluster.estimate(resources, told(site, options))
        except ReproError as error:
            return Offer(cluster=site.cluster.name, trouble=error)
        return Offer(cluster=site.cluster.name, estimate=found)

    return list(await asyncio.gather(*(ask(index) for index in range(len(sites)))))


def fastest(offers: Sequence[Offer]) -> str:
    """
    The cluster that would start the job first; of several, the one that was named first.

    Raises:
        SubmitRefusedError: If none of them would, with every reason.
    """
    waits = {
        offer.cluster: offer.estimate.starts_in_seconds
        for offer in offers
        if offer.estimate is not None
    }
    if not waits:
        raise SubmitRefusedError(
            "none of the clusters would start the job",
            details=[f"{o.cluster}: {_reason(o.trouble)}" for o in offers if o.trouble],
        )
    return min(waits, key=lambda name: waits[name])


def _reason(error: ReproError) -> str:
    return "; ".join((error.message, *error.details[-2:]))
