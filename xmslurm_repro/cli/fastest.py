"""``--cluster a,b,c``: ask each, show what they say, take the one that would start first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from xmslurm_repro.cli.output import print_table

if TYPE_CHECKING:
    from xmslurm_repro.model.work import Resources
    from xmslurm_repro.services.fastest import Offer
    from xmslurm_repro.services.tools import Tools


async def choose_cluster(
    tools: Tools,
    asked: str | None,
    resources: Resources,
    options: Sequence[tuple[str, str]],
    *,
    is_quiet: bool,
) -> tuple[str | None, list[Offer]]:
    """The cluster to launch on, and what several answered where several were named."""
    names = [name for name in (asked or "").split(",") if name]
    if len(names) < 2:
        return (names[0] if names else None), []
    from xmslurm_repro.services.fastest import ask_clusters, fastest

    offers = await ask_clusters(tools, names, resources, options)
    chosen = fastest(offers)
    if not is_quiet:
        print_table(
            ["cluster", "would start", "partition", "nodes", ""],
            [_row(offer, is_chosen=offer.cluster == chosen) for offer in offers],
        )
    return chosen, offers


def _row(offer: Offer, *, is_chosen: bool) -> list[str]:
    said = offer.to_json()
    if offer.estimate is None:
        return [offer.cluster, "not", "-", "-", str(said["trouble"])]
    return [
        click.style(offer.cluster, bold=is_chosen),
        _say_wait(offer.estimate.starts_in_seconds),
        offer.estimate.partition or "-",
        offer.estimate.nodes or "-",
        "chosen" if is_chosen else "",
    ]


def _say_wait(seconds: int) -> str:
    if seconds < 5:
        return "now"
    for length, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"in {seconds // length} {name}"
    return f"in {seconds} s"
