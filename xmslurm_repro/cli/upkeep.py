"""``verify`` and ``prune``: looking after what is kept."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xmslurm_repro.cli.output import json_option, plural, print_json, say_bytes
from xmslurm_repro.cli.session import run
from xmslurm_repro.errors import IntegrityError, UsageError
from xmslurm_repro.model.canonical import Json

if TYPE_CHECKING:
    from xmslurm_repro.ports.upkeep import Waste
    from xmslurm_repro.services.tools import Tools
    from xmslurm_repro.services.verify import Verified

_KINDS = {
    "object": "loose object",
    "pack": "pack",
    "repack": "half-empty pack",
    "blob": "image blob",
    "name": "image name",
}


@click.command()
@click.argument("experiment", required=False)
@click.option("--all", "everything", is_flag=True, help="All that is kept (the default).")
@click.option(
    "--rebuild-record",
    is_flag=True,
    help="Make a lost or damaged record again from the objects of the store.",
)
@json_option
def verify(experiment: str | None, everything: bool, rebuild_record: bool, as_json: bool) -> int:
    """
    Read everything that is kept again, or all that EXPERIMENT needs, and check every byte.

    Says what is damaged or missing and which experiments need it; ends with 6 then.
    """
    if experiment is not None and everything:
        raise UsageError("give an experiment or --all, not both")
    if rebuild_record:
        if experiment is not None:
            raise UsageError("give an experiment or --rebuild-record, not both")
        return _rebuild(as_json=as_json)

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services.lookup import select
        from xmslurm_repro.services.verify import verify as service

        found = service(tools, select(tools.record, experiment) if experiment else None)
        if as_json:
            print_json(
                {
                    "objects": found.objects,
                    "blobs": found.blobs,
                    "findings": [finding.to_json() for finding in found.findings],
                    "kept_again": found.kept_again,
                }
            )
        else:
            _print_verified(found)
        return IntegrityError.exit_status if found.findings else 0

    return run(body, is_quiet=as_json)


def _rebuild(*, as_json: bool) -> int:
    from xmslurm_repro.config import load_settings
    from xmslurm_repro.wiring.record import rebuild_record

    settings = load_settings(environ=os.environ, start=Path(os.curdir).absolute())
    made = rebuild_record(settings)
    whole = made.whole
    if as_json:
        print_json(
            {
                "experiments": len(whole.experiments),
                "runs": len(whole.runs),
                "outcomes": len(whole.outcomes),
                "renumbered": [[old, new] for old, new in whole.renumbered],
                "faults": list(made.faults),
                "old_record": str(made.old) if made.old else None,
            }
        )
    else:
        counts = ", ".join(
            (
                plural(len(whole.experiments), "experiment"),
                plural(len(whole.runs), "run"),
                plural(len(whole.outcomes), "outcome"),
            )
        )
        click.echo(f"Made the record again from {plural(made.pieces, 'object')}: {counts}.")
        for old, new in whole.renumbered:
            click.echo(f"  experiment {old} of the later record is {new} now")
        for fault in made.faults:
            click.echo(f"  {click.style('not read:', fg='red', bold=True)} {fault}")
        if made.old:
            click.echo(f"The old one is {made.old}.")
    return IntegrityError.exit_status if made.faults else 0


def _print_verified(found: Verified) -> None:
    for finding in found.findings:
        who = ", ".join(map(str, finding.experiments))
        click.echo(f"{click.style('damaged:', fg='red', bold=True)} {finding.what}")
        click.echo(f"  {finding.problem}")
        click.echo(f"  needed by: {f'experiment {who}' if who else 'no experiment'}")
    if found.kept_again:
        click.echo(f"Kept the record of {plural(found.kept_again, 'experiment')} as objects again.")
    sizes = f"{plural(found.objects, 'object')} and {plural(found.blobs, 'image blob')}"
    if found.findings:
        click.echo(f"Of {sizes}, {len(found.findings)} are damaged or missing.")
    else:
        click.echo(f"All {sizes} are whole.")


@click.command()
@click.option("--yes", is_flag=True, help="Remove it; without this it is only shown.")
@click.option(
    "--grace",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    metavar="MINUTES",
    help="What was written since stays.",
)
@json_option
def prune(yes: bool, grace: int, as_json: bool) -> int:
    """
    Show, or remove, what no experiment and no named base image needs.

    Safe beside launches: what they write or use stays.
    """

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services import prune as service

        if not yes:
            waste = service.find_waste(tools, grace_seconds=grace * 60)
            _print_waste(waste, as_json=as_json)
            return 0
        if not as_json:
            _print_items(service.find_waste(tools, grace_seconds=grace * 60))
        pruned = await service.prune(tools, grace_seconds=grace * 60)
        if as_json:
            print_json({**_waste_json(pruned.waste), "freed_bytes": pruned.freed_bytes})
        else:
            click.echo(f"Freed {say_bytes(pruned.freed_bytes)}.")
        return 0

    return run(body, is_quiet=as_json)


def _waste_json(waste: Waste) -> dict[str, Json]:
    return {
        "size_bytes": waste.size_bytes,
        "items": [
            {"kind": item.kind, "name": item.name, "size_bytes": item.size_bytes}
            for item in waste.items
        ],
    }


def _print_items(waste: Waste) -> None:
    for item in waste.items:
        click.echo(f"{_KINDS[item.kind]}  {item.name}  {say_bytes(item.size_bytes)}")


def _print_waste(waste: Waste, *, as_json: bool) -> None:
    if as_json:
        print_json(_waste_json(waste))
        return
    _print_items(waste)
    if not waste.items:
        click.echo("Everything is needed, or too new to tell.")
        return
    counts = Counter(_KINDS[item.kind] for item in waste.items)
    parts = ", ".join(plural(count, kind) for kind, count in counts.items())
    click.echo(f"{parts}: {say_bytes(waste.size_bytes)}. Remove it with `--yes`.")
