"""``fetch`` and ``cancel``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from xmslurm_repro.cli.output import json_option, plural, print_json, say_bytes
from xmslurm_repro.cli.session import run, settle_first

if TYPE_CHECKING:
    from xmslurm_repro.services.tools import Tools


@click.command()
@click.argument("experiment", default="latest")
@click.option("--attempt", metavar="ID", help="An earlier attempt, as `show` names it.")
@click.option(
    "--to", "folder", type=click.Path(path_type=Path), help="Where; by default outputs-ID."
)
@json_option
def fetch(experiment: str, attempt: str | None, folder: Path | None, as_json: bool) -> int:
    """
    Copy the outputs of EXPERIMENT here, each checked against its digest.

    What is here already is not copied again, and what came half is gone on with.
    """

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services.lookup import select
        from xmslurm_repro.services.outputs import fetch as fetch_outputs

        await settle_first(tools)
        selection = select(tools.record, experiment)
        target = folder or Path(f"outputs-{selection.name.replace('/', '-')}")
        fetched = await fetch_outputs(tools, selection, target, attempt=attempt)
        if as_json:
            print_json(
                [
                    {
                        "unit": item.unit_number,
                        "path": str(item.target),
                        "sha256": str(item.file.sha256),
                        "size_bytes": item.file.size_bytes,
                    }
                    for item in fetched
                ]
            )
        else:
            for item in fetched:
                click.echo(f"{item.target}  {say_bytes(item.file.size_bytes)}  {item.file.sha256}")
            click.echo(f"{plural(len(fetched), 'file')}, each as its run left it.")
        return 0

    return run(body, is_quiet=as_json)


@click.command()
@click.argument("experiment")
@json_option
def cancel(experiment: str, as_json: bool) -> int:
    """Cancel the runs of EXPERIMENT that have not ended."""

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services.lookup import select
        from xmslurm_repro.services.outputs import cancel as cancel_runs

        await settle_first(tools)
        told = await cancel_runs(tools, select(tools.record, experiment))
        if as_json:
            print_json([str(item.receipt.run_id) for item in told])
        else:
            click.echo(f"Told {plural(len(told), 'run')} to stop.")
        return 0

    return run(body, is_quiet=as_json)
