"""``completion``: what a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """
    Print the completion script of SHELL.

    For bash, put this into ~/.bashrc: `source <(xmslurm-repro completion bash)`.
    """
    from xmslurm_repro.cli.app import app

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 (click has all three)
    click.echo(found(app, {}, "xmslurm-repro", "_XMSLURM_REPRO_COMPLETE").source())
    return 0
