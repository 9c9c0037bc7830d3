"""``snapshot``: what a launch would capture, and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmslurm_repro.cli.output import field_lines, json_option, plural, print_json, say_bytes
from xmslurm_repro.cli.session import run
from xmslurm_repro.model.canonical import Json, readable_json

if TYPE_CHECKING:
    from xmslurm_repro.model.choice import Explanation
    from xmslurm_repro.model.snapshot import Snapshot
    from xmslurm_repro.services.tools import Tools


@click.command()
@click.option(
    "--explain",
    "paths",
    multiple=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Say why PATH is in or out, and capture nothing. Repeatable.",
)
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Capture in any case. Repeatable."
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out. Repeatable.")
@click.option("--no-git", is_flag=True, help="Accept a folder that is in no git repository.")
@json_option
def snapshot(paths: tuple[Path, ...], as_json: bool, **given: Any) -> int:
    """
    Capture the work tree, as a launch would, and say what it is a change of.

    Where the git tree of the snapshot is the commit's, it is the commit, byte for byte but for
    files that git itself converts (Git LFS, ends of lines), which are counted.
    """
    from xmslurm_repro.cli.answers import notice, show_and_keep

    start = Path(os.curdir).absolute()
    before = None if paths else notice(start)

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services.prepare import CodeRequest, take_snapshot

        if before is None:
            found = [
                tools.snapshots.explain(
                    start,
                    path,
                    allow_no_repository=given["no_git"],
                    include=given["include"],
                    exclude=given["exclude"],
                )
                for path in paths
            ]
            _print_explanations(found, as_json=as_json)
            return 0
        request = CodeRequest(
            start=start,
            allow_unborn=True,
            allow_no_repository=given["no_git"],
            include=given["include"],
            exclude=given["exclude"],
        )
        taken = take_snapshot(tools, request)
        text = readable_json(_snapshot_json(taken)) if as_json else _snapshot_text(taken)
        show_and_keep(text, taken, before, given)
        return 0

    return run(body, is_quiet=as_json)


def _snapshot_json(taken: Snapshot) -> Json:
    return {
        "snapshot": str(taken.root),
        "files": taken.file_count,
        "size_bytes": taken.size_bytes,
        "origin": taken.origin.to_json(),
    }


def _print_explanations(found: list[Explanation], *, as_json: bool) -> None:
    if as_json:
        print_json([item.to_json() for item in found])
        return
    for item in found:
        at = f"{item.file}:{item.line}" if item.line else item.file
        rule = f" ({item.rule} in {at})" if item.rule else ""
        mark = click.style("in ", fg="green") if item.is_captured else click.style("out", fg="red")
        click.echo(f"{mark}  {item.path}: {item.why}{rule}")


def _snapshot_text(taken: Snapshot) -> str:
    origin = taken.origin
    size = f"{plural(taken.file_count, 'file')}, {say_bytes(taken.size_bytes)}"
    fields = [("snapshot", f"{taken.root}"), ("content", size)]
    if origin.commit:
        places = {True: "on a remote", False: "on no remote", None: "on a remote, or not: too far"}
        where = f"branch {origin.branch}" if origin.branch else "detached"
        fields.append(("commit", f"{origin.commit} ({where}; {places[origin.on_remote]})"))
    if origin.tree:
        is_commit = origin.tree == origin.commit_tree
        fields.append(("git tree", origin.tree + (" (the commit's: it is clean)" * is_commit)))
    fields += [(f"remote {name}", url) for name, url in origin.remotes]
    fields += [("submodule", f"{path} at {commit}") for path, commit in origin.submodules]
    if origin.converted:
        count = plural(len(origin.converted), "file")
        fields.append(("converted", f"{count}: git calls them unchanged; their bytes are captured"))
    lines = field_lines(fields)
    lines += [f"  {what}: {path}" for path, what in origin.changed]
    lines += [f"  left out: {path} ({reason})" for path, reason in origin.skipped]
    lines += [f"  note: {path}: {note}" for path, note in origin.notable]
    return "\n".join(lines)
