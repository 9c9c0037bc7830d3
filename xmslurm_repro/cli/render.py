"""Verdicts and differences as text."""

from __future__ import annotations

from collections.abc import Sequence

import click

from xmslurm_repro.cli.output import plural
from xmslurm_repro.model.difference import Difference
from xmslurm_repro.model.verdict import FileStatus, Verdict

_LONGEST_NOTE_LINES = 60
_NOTE_COLORS = {"+": "green", "-": "red", "@": "cyan"}


def print_verdict(verdict: Verdict, name: str) -> None:
    """Print the headline, then each file that differs, then what else differs."""
    color = "green" if verdict.is_equal else "red"
    click.echo(f"{name}: {click.style(verdict.headline, fg=color, bold=True)}")
    for file in verdict.files:
        mark = "=" if file.status is FileStatus.EQUAL else "!"
        one = file.original.sha256.short if file.original else "absent"
        other = file.replay.sha256.short if file.replay else "absent"
        digests = one if file.status is FileStatus.EQUAL else f"{one} -> {other}"
        click.echo(f"  {mark} {file.path}  {file.status.value}  {digests}")
    if verdict.same_log is not None:
        click.echo(
            f"  {'=' if verdict.same_log else '~'} log  "
            f"{'equal' if verdict.same_log else 'differs (for information)'}"
        )
    if verdict.facts and not verdict.is_equal:
        click.echo("  known differences, most likely cause first:")
        for fact in verdict.facts:
            click.echo(f"    {fact.name}: {fact.original} -> {fact.replay}")


def print_differences(differences: Sequence[Difference], indent: int = 0) -> None:
    """Print a tree of differences."""
    pad = "  " * indent
    for difference in differences:
        style = {"bold": True} if indent == 0 else {}
        line = click.style(f"{pad}{difference.path}", **style)
        click.echo(f"{line}{_sides(difference)}")
        if difference.note:
            _print_note(difference.note, pad)
        print_differences(difference.children, indent + 1)


def _sides(difference: Difference) -> str:
    left, right = difference.left, difference.right
    if left is None and right is None:
        return ""
    if left is None:
        return f": only right: {right}"
    if right is None:
        return f": only left: {left}"
    return f": {left} -> {right}"


def _print_note(note: str, pad: str) -> None:
    lines = note.splitlines()
    for line in lines[:_LONGEST_NOTE_LINES]:
        click.echo(click.style(f"{pad}    {line}", fg=_NOTE_COLORS.get(line[:1])))
    if len(lines) > _LONGEST_NOTE_LINES:
        more = plural(len(lines) - _LONGEST_NOTE_LINES, "more line")
        click.echo(f"{pad}    ({more}; `--json` has all)")
