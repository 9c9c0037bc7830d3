"""The commands by name. A command's module is imported when the command is called."""

from __future__ import annotations

import importlib
import os
from typing import ClassVar

import click

from xmslurm_repro import __version__


class _LazyGroup(click.Group):
    """
    A group whose commands are imported when they are needed.

    `--help` prints what stands here, so that it need not import anything: a test holds the
    table against the commands themselves.
    """

    table: ClassVar[dict[str, tuple[str, str]]] = {
        "launch": ("xmslurm_repro.cli.launch:launch", "Snapshot, build, record and submit."),
        "status": ("xmslurm_repro.cli.inspect:status", "Show where runs stand."),
        "logs": ("xmslurm_repro.cli.logs:logs", "Print what runs printed."),
        "wait": ("xmslurm_repro.cli.inspect:wait", "Wait until runs have ended."),
        "replay": ("xmslurm_repro.cli.replay:replay", "Run it again and compare every byte."),
        "diff": ("xmslurm_repro.cli.diff:diff", "Say in what two experiments differ."),
        "list": ("xmslurm_repro.cli.inspect:list_", "List all experiments."),
        "show": ("xmslurm_repro.cli.inspect:show", "Show all that is known of an experiment."),
        "snapshot": ("xmslurm_repro.cli.snapshot:snapshot", "Capture the work tree; explain it."),
        "checkout": ("xmslurm_repro.cli.checkout:checkout", "Restore the code of an experiment."),
        "verify": ("xmslurm_repro.cli.upkeep:verify", "Check every byte that is kept."),
        "prune": ("xmslurm_repro.cli.upkeep:prune", "Remove what no experiment needs."),
        "fetch": ("xmslurm_repro.cli.outputs:fetch", "Copy outputs here, verified."),
        "cancel": ("xmslurm_repro.cli.outputs:cancel", "Cancel runs."),
        "sbom": ("xmslurm_repro.cli.sbom:sbom", "List what is inside an image (CycloneDX)."),
        "base": ("xmslurm_repro.cli.base:base", "Make and name base images."),
        "clusters": ("xmslurm_repro.cli.clusters:clusters", "Describe, show and check clusters."),
        "completion": ("xmslurm_repro.cli.completion:completion", "Print shell completion."),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which people meet them."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="An experiment is named by its number (41), some of its work units (41/3, 41/2-5,9), "
    "the first digits of its manifest's digest, or `latest`.",
)
@click.version_option(__version__, prog_name="xmslurm-repro")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Launch experiments on Slurm so that any run can be replayed byte for byte."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
