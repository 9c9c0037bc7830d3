"""``logs``: what runs printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from xmslurm_repro.cli.output import json_option, print_json
from xmslurm_repro.cli.session import run, settle_first, while_watching
from xmslurm_repro.model.canonical import Json

if TYPE_CHECKING:
    from xmslurm_repro.model.run import RunId
    from xmslurm_repro.ports.record import RunRow
    from xmslurm_repro.services.tools import Tools

_COLORS = ("cyan", "magenta", "green", "yellow", "blue", "red")


@click.command()
@click.argument("experiment", default="latest")
@click.option("--follow", "-f", is_flag=True, help="Go on until the runs have ended.")
@click.option(
    "--lines",
    "-n",
    "last_lines",
    type=click.IntRange(0),
    help="Begin so many lines before the end.",
)
@click.option("--attempt", metavar="ID", help="An earlier attempt, as `show` names it.")
@json_option
def logs(
    experiment: str, follow: bool, last_lines: int | None, attempt: str | None, as_json: bool
) -> int:
    """
    Print what the runs of EXPERIMENT printed (by default the latest).

    Several runs are printed together, each line behind the name of its run. Following goes on
    through requeues, and through connections that break.
    """

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services.logs import follow_logs, runs_with_logs
        from xmslurm_repro.services.lookup import select

        await settle_first(tools)
        selection = select(tools.record, experiment)
        found = runs_with_logs(tools, selection)
        pieces = follow_logs(tools, found, attempt=attempt, follow=follow, last_lines=last_lines)
        if as_json:
            whole = {item.receipt.run_id: b"" for item in found}
            async for item, piece in pieces:
                whole[item.receipt.run_id] += piece
            print_json(_document(found, whole))
            return 0
        printer = _Printer(found)
        with while_watching(selection.name) if follow else while_watching(None):
            async for item, piece in pieces:
                printer.print(item, piece)
        printer.finish()
        return 0

    return run(body, is_quiet=as_json)


def _document(found: Sequence[RunRow], whole: dict[RunId, bytes]) -> list[Json]:
    return [
        {
            "run": str(item.receipt.run_id),
            "unit": item.receipt.unit_number,
            "log": whole[item.receipt.run_id].decode("utf-8", "replace"),
        }
        for item in found
    ]


class _Printer:
    """Prints a lone run's bytes as they are, and several runs' lines behind their names."""

    def __init__(self, found: Sequence[RunRow]) -> None:
        self._is_alone = len(found) == 1
        self._prefixes = {
            item.receipt.run_id: click.style(
                f"{item.receipt.name} | ", fg=_COLORS[number % len(_COLORS)]
            )
            for number, item in enumerate(found)
        }
        self._pending = dict.fromkeys(self._prefixes, b"")

    def print(self, item: RunRow, piece: bytes) -> None:
        """Print what is whole: all of a lone run, the lines of one of several."""
        if self._is_alone:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        run_id = item.receipt.run_id
        *lines, self._pending[run_id] = (self._pending[run_id] + piece).split(b"\n")
        for line in lines:
            self._say(run_id, line)

    def finish(self) -> None:
        """Print last lines that have no end."""
        for run_id, rest in self._pending.items():
            if rest:
                self._say(run_id, rest)

    def _say(self, run_id: RunId, line: bytes) -> None:
        # A progress bar draws over its line; only what it drew last counts.
        text = line.rstrip(b"\r").rpartition(b"\r")[2]
        click.echo(self._prefixes[run_id] + text.decode("utf-8", "replace"))
