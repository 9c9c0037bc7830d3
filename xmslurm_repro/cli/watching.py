"""Waiting for runs while somebody looks: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import click

from xmslurm_repro.cli.errors import echo_error
from xmslurm_repro.cli.output import STATE_COLORS, say_state
from xmslurm_repro.cli.session import while_watching
from xmslurm_repro.model.run import RunState

if TYPE_CHECKING:
    from rich.table import Table

    from xmslurm_repro.errors import ReproError
    from xmslurm_repro.ports.record import RunRow
    from xmslurm_repro.services.tools import Tools

_LINES_KEPT_FREE = 6
"""Of a terminal: for the head of the table, what is left out, and the prompt."""


class _Watcher(Protocol):
    def show(self, runs: Sequence[RunRow]) -> None: ...

    def trouble(self, error: ReproError) -> None: ...

    def close(self) -> None: ...


async def watch(tools: Tools, runs: Sequence[RunRow], name: str, *, is_quiet: bool) -> list[RunRow]:
    """
    Wait until all runs have ended, and show on the way where they stand.

    Args:
        tools: The world.
        runs: What to wait for.
        name: The selection as people type it, for what is said after an interruption.
        is_quiet: Show nothing, as when JSON was asked for.
    """
    from xmslurm_repro.services.observe import wait

    is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    watcher: _Watcher = _Silent()
    if not is_quiet:
        watcher = _Live() if is_terminal else _Lines(runs)
    with while_watching(name):
        try:
            watcher.show(runs)
            return await wait(tools, runs, on_change=watcher.show, on_trouble=watcher.trouble)
        finally:
            watcher.close()


class _Silent:
    def show(self, runs: Sequence[RunRow]) -> None:
        del runs

    def trouble(self, error: ReproError) -> None:
        echo_error(error, label="warning")

    def close(self) -> None:
        return


class _Lines(_Silent):
    """A line for each state that a run comes to, on standard error: the result goes elsewhere."""

    def __init__(self, runs: Sequence[RunRow]) -> None:
        self._seen = {run.receipt.run_id: run.state for run in runs}

    def show(self, runs: Sequence[RunRow]) -> None:
        for run in runs:
            if self._seen.get(run.receipt.run_id) is not run.state:
                self._seen[run.receipt.run_id] = run.state
                said = say_state(run.state, run.reason)
                click.echo(f"{run.receipt.name} {click.unstyle(said)}", err=True)


class _Live(_Silent):
    """A table that is drawn again in its place; it vanishes at the end."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False, no_color=bool(os.environ.get("NO_COLOR")) or None)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._trouble: str | None = None
        self._last: Sequence[RunRow] = ()

    def show(self, runs: Sequence[RunRow]) -> None:
        self._last, self._trouble = runs, None
        self._draw()

    def trouble(self, error: ReproError) -> None:
        self._trouble = error.message
        self._draw()

    def close(self) -> None:
        self._live.stop()

    def _draw(self) -> None:
        room = max(3, self._console.size.height - _LINES_KEPT_FREE)
        self._live.update(runs_table(self._last, room=room, trouble=self._trouble), refresh=True)


def runs_table(runs: Sequence[RunRow], *, room: int, trouble: str | None = None) -> Table:
    """
    The runs as a table of at most *room* lines: those that ended badly first, then those that go
    on, then the others; below it how many are in each state.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = sorted(runs, key=lambda run: _urgency(run.state))[:room]
    order = {run.receipt.run_id: number for number, run in enumerate(runs)}
    shown.sort(key=lambda run: order[run.receipt.run_id])
    counts = Counter(run.state for run in runs)
    said = ", ".join(f"{counts[state]} {state.value}" for state in RunState if counts[state])
    if len(shown) < len(runs):
        said += f"; {len(runs) - len(shown)} not shown"
    if trouble:
        said += f"\n{trouble}; trying again"
    table = Table(box=box.SIMPLE_HEAD, caption=Text(said), caption_justify="left", expand=False)
    for header in ("unit", "state", "cluster", "job", "reason"):
        table.add_column(header, no_wrap=True, overflow="ellipsis")
    for run in shown:
        color = STATE_COLORS.get(run.state, "red")
        receipt = run.receipt
        words = (receipt.name, receipt.cluster, receipt.job_id or "-", run.reason or "")
        name, cluster, job, reason = map(Text, words)
        table.add_row(name, Text(run.state.value, style=color), cluster, job, reason)
    return table


def _urgency(state: RunState) -> int:
    if state.is_final:
        return 2 if state.is_success else 0
    return 1 if state is RunState.RUNNING else 3
