"""Plain text that people read at a glance, and JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence

import click

from xmslurm_repro.model.canonical import Json, readable_json
from xmslurm_repro.model.run import RunState

STATE_COLORS = {
    RunState.COMPLETED: "green",
    RunState.RUNNING: "blue",
    RunState.PENDING: "yellow",
    RunState.PROMISED: "yellow",
}

_MOST_IDS = 5
"""More jobs than that are not named one by one."""

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document for programs."
)


def print_json(value: Json) -> None:
    """Print one JSON document."""
    click.echo(readable_json(value))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as their widest cell; the last one runs free."""
    cells = [list(header), *[list(row) for row in rows]]
    plain = [[click.unstyle(cell) for cell in row] for row in cells]
    widths = [max(len(row[column]) for row in plain) for column in range(len(header))]
    for number, (row, bare) in enumerate(zip(cells, plain, strict=True)):
        padded = [
            cell + " " * (width - len(text))
            for cell, text, width in zip(row, bare, widths, strict=True)
        ]
        line = "  ".join(padded).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print a name and a value on each line, the values under each other."""
    for line in field_lines(fields):
        click.echo(line)


def field_lines(fields: Sequence[tuple[str, str]]) -> list[str]:
    """What `print_fields` prints, with styles."""
    width = max((len(name) for name, _ in fields), default=0)
    return [f"{click.style(name.ljust(width), dim=True)}  {value}" for name, value in fields]


def say_state(state: RunState, reason: str | None = None) -> str:
    """A state in its color, with the reason where there is one."""
    shown = click.style(state.value, fg=STATE_COLORS.get(state, "red"))
    return f"{shown} ({reason})" if reason else shown


def say_bytes(count: int) -> str:
    """A number of bytes in decimal units, such as ``8.1 kB``."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{count} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def say_command(argv: Sequence[str]) -> str:
    """A command the way a shell would take it."""
    import shlex

    return shlex.join(argv)


def plural(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def say_jobs(job_ids: Sequence[str]) -> str:
    """Jobs by their ids without tasks: ``job 12``, ``jobs 12, 13`` or ``40 jobs, 12 to 51``."""
    ids = list(dict.fromkeys(job_id.partition("_")[0] for job_id in job_ids))
    if len(ids) > _MOST_IDS:
        return f"{len(ids)} jobs, {ids[0]} to {ids[-1]}"
    return f"{'job' if len(ids) == 1 else 'jobs'} {', '.join(ids)}"
