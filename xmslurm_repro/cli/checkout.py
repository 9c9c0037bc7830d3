"""``checkout``: the code of an experiment, as it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xmslurm_repro.cli.output import json_option, print_json
from xmslurm_repro.cli.session import run
from xmslurm_repro.errors import UsageError
from xmslurm_repro.model.canonical import Json

if TYPE_CHECKING:
    from xmslurm_repro.services.tools import Tools


@click.command()
@click.argument("experiment")
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(path_type=Path))
@click.option("--branch", metavar="NAME", help="Make a git branch here instead of a folder.")
@json_option
def checkout(experiment: str, folder: Path | None, branch: str | None, as_json: bool) -> int:
    """
    Restore the code of EXPERIMENT into DIR (by default code-ID), byte for byte.

    DIR must be new or empty, or hold exactly this code already; nothing is ever overwritten.
    With --branch, the code becomes a branch of the git repository you are in, on the commit
    that it was a change of; your files, your index and HEAD stay as they are.
    """
    if branch is not None and folder is not None:
        raise UsageError("give a folder or --branch, not both")

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services import checkout as service
        from xmslurm_repro.services.lookup import select

        selection = select(tools.record, experiment)
        document: dict[str, Json]
        if branch is not None:
            start = Path(os.curdir).absolute()
            code, made = service.checkout_branch(tools, selection, start, branch)
            document = {
                "branch": branch,
                "commit": made.commit,
                "submodules": {
                    **dict.fromkeys(made.linked, "link"),
                    **{path: f"files: {reason}" for path, reason in made.plain},
                },
            }
            text = f"Branch {branch} is commit {made.commit[:10]}. Your files are as they were."
            for path, reason in made.plain:
                text += f"\n  {path} is a folder of files in it, no submodule: {reason}"
        else:
            target = folder or Path(f"code-{selection.name.replace('/', '-')}")
            code, is_new = service.checkout(tools, selection, target)
            document = {"path": str(target), "was_written": is_new}
            text = f"{target} holds snapshot {code.root.short}{'' if is_new else ' already'}."
        base = code.origin.commit if code.origin else None
        if as_json:
            print_json({"snapshot": str(code.root), "base_commit": base, **document})
        else:
            click.echo(text)
        return 0

    return run(body, is_quiet=as_json)
