"""``logs``: what runs printed."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from xmslurm_repro.cli.output import json_option, print_json
from xmslurm_repro.cli.session import run, settle_first
from xmslurm_repro.model.canonical import Json

if TYPE_CHECKING:
    from xmslurm_repro.ports.record import RunRow
    from xmslurm_repro.services.tools import Tools

_COLORS = ("cyan", "magenta", "green", "yellow", "blue", "red")


@click.command()
@click.argument("experiment", default="latest")
@click.option("--follow", "-f", is_flag=True, help="Go on until the runs have ended.")
@click.option("--attempt", metavar="ID", help="An earlier attempt, as `show` names it.")
@json_option
def logs(experiment: str, follow: bool, attempt: str | None, as_json: bool) -> int:
    """Print what the runs of EXPERIMENT printed (by default the latest)."""

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services.logs import runs_with_logs
        from xmslurm_repro.services.lookup import select

        await settle_first(tools)
        found = runs_with_logs(tools, select(tools.record, experiment))
        if as_json:
            print_json(await _collected(tools, found, attempt, follow=follow))
            return 0
        printing = [
            _print_log(tools, item, number, attempt, follow=follow, is_alone=len(found) == 1)
            for number, item in enumerate(found)
        ]
        if follow:
            await asyncio.gather(*printing)
        else:
            for step in printing:
                await step
        return 0

    return run(body, is_quiet=as_json)


async def _print_log(
    tools: Tools, item: RunRow, number: int, attempt: str | None, *, follow: bool, is_alone: bool
) -> None:
    from xmslurm_repro.services.logs import log

    name = item.receipt.name
    prefix = "" if is_alone else click.style(f"{name} | ", fg=_COLORS[number % len(_COLORS)])
    pending = b""
    async for chunk in log(tools, item, attempt=attempt, follow=follow):
        if is_alone:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            continue
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            click.echo(prefix + line.decode("utf-8", "replace"))
    if pending:
        click.echo(prefix + pending.decode("utf-8", "replace"))


async def _collected(
    tools: Tools, found: list[RunRow], attempt: str | None, *, follow: bool
) -> list[Json]:
    from xmslurm_repro.services.logs import log

    collected: list[Json] = []
    for item in found:
        whole = b""
        async for chunk in log(tools, item, attempt=attempt, follow=follow):
            whole += chunk
        collected.append(
            {
                "run": str(item.receipt.run_id),
                "unit": item.receipt.unit_number,
                "member": item.receipt.member,
                "log": whole.decode("utf-8", "replace"),
            }
        )
    return collected
