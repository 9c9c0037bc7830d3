"""``diff``: in what two experiments differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xmslurm_repro.cli.output import json_option, print_json
from xmslurm_repro.cli.session import run, settle_first

if TYPE_CHECKING:
    from xmslurm_repro.services.tools import Tools


@click.command()
@click.argument("left")
@click.argument("right")
@json_option
def diff(left: str, right: str, as_json: bool) -> int:
    """
    Say in what the experiments LEFT and RIGHT differ: causes first, then effects.

    Ends with 0 when nothing differs, 1 when something does, more when it could not be found out.
    """

    async def body(tools: Tools) -> int:
        from xmslurm_repro.cli.render import print_differences
        from xmslurm_repro.services.diff import diff as compare
        from xmslurm_repro.services.lookup import select

        await settle_first(tools)
        sides = [select(tools.record, text) for text in (left, right)]
        found = await compare(tools, sides[0], sides[1])
        if as_json:
            print_json(
                {
                    "left": sides[0].name,
                    "right": sides[1].name,
                    "equal": not found,
                    "differences": [item.to_json() for item in found],
                }
            )
        elif found:
            print_differences(found)
        else:
            click.echo(f"Experiments {sides[0].name} and {sides[1].name} do not differ.")
        return 1 if found else 0

    return run(body, is_quiet=as_json)
