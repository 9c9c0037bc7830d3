"""A base image from a Dockerfile whose context is a snapshot, not a folder."""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.model.dockerfile import BuildOptions
from xmslurm_repro.model.image import BaseImage
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.services.prepare import CodeRequest, folder_in_tree, take_snapshot
from xmslurm_repro.services.tools import Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltBase:
    """A base and the snapshot that its context was taken from."""

    base: BaseImage
    snapshot: Snapshot


def build_base(
    tools: Tools,
    request: CodeRequest,
    *,
    name: str,
    options: BuildOptions,
) -> BuiltBase:
    """
    Capture the work tree, build a Dockerfile in it and call the result *name*.

    Args:
        tools: The world.
        request: Its ``start`` is the context.
        name: What to call the base.
        options: What the engine is told.

    Raises:
        ReproError: Of the capture or the build; see there.
    """
    # Nothing of it is needed by anybody before it has its name.
    with tools.guard.using():
        snapshot = take_snapshot(tools, request)
        base = tools.bases.build(
            name=name,
            tree=tools.snapshots.tree(snapshot.root),
            folder=folder_in_tree(tools, request),
            options=options,
            progress=tools.progress,
        )
    return BuiltBase(base=base, snapshot=snapshot)
