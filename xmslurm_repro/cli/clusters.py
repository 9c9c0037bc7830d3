"""``clusters``: what is configured, and whether it would do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xmslurm_repro.cli.output import json_option, print_json, print_table
from xmslurm_repro.cli.session import run

if TYPE_CHECKING:
    from xmslurm_repro.services.tools import Tools


@click.group()
def clusters() -> None:
    """Show and check clusters."""


@clusters.command("list")
@json_option
def list_(as_json: bool) -> int:
    """List the clusters of the configuration."""
    from xmslurm_repro.config import load_settings

    settings = load_settings(environ=os.environ, start=Path(os.curdir).absolute())
    rows = [
        [name, cluster.scheduler, cluster.transport, ", ".join(cluster.hosts) or "-"]
        for name, cluster in sorted(settings.clusters.items())
    ]
    header = ["name", "scheduler", "transport", "hosts"]
    if as_json:
        print_json([dict(zip(header, row, strict=True)) for row in rows])
    else:
        print_table(header, rows)
    return 0


@clusters.command()
@click.argument("name", required=False)
@json_option
def check(name: str | None, as_json: bool) -> int:
    """Connect to NAME and report what a launch would need. Ends with 1 when something lacks."""

    async def body(tools: Tools) -> int:
        facts = await tools.site(name).cluster.check()
        if as_json:
            print_json([{"name": f.name, "value": f.value, "good": f.is_good} for f in facts])
        else:
            marks = {True: click.style("ok", fg="green"), False: click.style("no", fg="red")}
            print_table(["", "what", "found"], [[marks[f.is_good], f.name, f.value] for f in facts])
        return 0 if all(fact.is_good for fact in facts) else 1

    return run(body, is_quiet=as_json)
