"""Checkout: the code of an experiment as a folder, or as a branch of the user's repository."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from xmslurm_repro.errors import NotFoundError, UsageError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.snapshot import Origin
from xmslurm_repro.ports.images import Branch
from xmslurm_repro.services.lookup import Selection, read_manifest, read_unit, runs_of
from xmslurm_repro.services.tools import Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """
    The code of an experiment.

    Attributes:
        root: Its snapshot.
        origin: What that is a change of, as recorded with its first run; ``None`` if nothing
            was.
    """

    root: Digest
    origin: Origin | None


def code_of(tools: Tools, selection: Selection) -> Code:
    """
    The one snapshot that what is selected runs.

    Raises:
        UsageError: If there are several: then a work unit has to be named.
        NotFoundError: If it runs no code of ours.
    """
    manifest = read_manifest(tools.store, selection.row)
    runs = runs_of(tools.record, selection)
    roots = set(manifest.snapshots)
    if selection.unit_number is not None:
        jobs = [job for run in runs for job in read_unit(tools.store, run.receipt.unit).jobs]
        snapshots = [manifest.image(job.image).recipe.snapshot for job in jobs]
        roots = {root for root in snapshots if root is not None}
    if not roots:
        raise NotFoundError(f"experiment {selection.name} runs no captured code")
    if len(roots) > 1:
        raise UsageError(
            f"experiment {selection.name} runs {len(roots)} snapshots",
            hint=f"Name one of its work units, such as `{selection.row.id}/1`.",
        )
    origins = [run.receipt.origin for run in runs if run.receipt.origin is not None]
    origin = None
    if origins:
        reader = Reader.of_json(tools.store.get(origins[0]), f"origin {origins[0]}")
        origin = Origin.from_json(reader)
    return Code(root=roots.pop(), origin=origin)


def checkout(tools: Tools, selection: Selection, target: Path) -> tuple[Code, bool]:
    """
    Let *target* hold the code of what is selected, exactly.

    Returns:
        The code, and whether anything was written: not where *target* held it already.

    Raises:
        UsageError: If *target* holds anything else, or several snapshots are selected.
        IntegrityError: If objects are missing or damaged.
    """
    code = code_of(tools, selection)
    with tools.guard.using():
        return code, tools.snapshots.checkout(code.root, target, progress=tools.progress)


def checkout_branch(
    tools: Tools, selection: Selection, start: Path, name: str
) -> tuple[Code, Branch]:
    """
    Make the branch *name* of the code, on the commit that it was a change of.

    Returns:
        The code, and the branch.

    Raises:
        UsageError: If there is such a branch, or the repository lacks the base commit.
    """
    code = code_of(tools, selection)
    row = selection.row
    message = (
        f"{row.title or 'experiment'}\n\nExperiment: {selection.name}\nSnapshot: {code.root}\n"
    )
    with tools.guard.using():
        branch = tools.snapshots.make_branch(
            code.root,
            start,
            name,
            base=code.origin.commit if code.origin else None,
            message=message,
            time_s=int(datetime.fromisoformat(row.created_at).timestamp()),
            submodules=code.origin.submodules if code.origin else (),
        )
    return code, branch
