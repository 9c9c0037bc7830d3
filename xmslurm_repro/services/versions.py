"""The versions of local projects that take them from the tags of their repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from xmslurm_repro.model.project import UNKNOWN_VERSION, Project
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.services.tools import Tools


def with_versions(
    tools: Tools, start: Path, snapshot: Snapshot, projects: Sequence[Project]
) -> tuple[tuple[Project, ...], tuple[str, ...]]:
    """
    *projects* with the versions that follow from tags, and what people should know of them.

    The history of the repository that holds *start* is looked at only where one needs it.
    """
    waiting = [one.rule for one in projects if one.rule and one.version == UNKNOWN_VERSION]
    versions: dict[object, str | None] = {}
    if waiting:
        has_changes = any(how != "untracked" for _, how in snapshot.origin.changed)
        distance = tools.snapshots.nearest_tags(start, has_changes=has_changes)
        for rule in waiting:
            found = tools.locks.version_of_tag(rule, distance) if distance else None
            versions[rule] = found or rule.fallback
    known = tuple(
        replace(one, version=versions.get(one.rule) or one.version) if one.rule else one
        for one in projects
    )
    return known, tuple(remark for one in known for remark in _remarks(one))


def _remarks(project: Project) -> Iterator[str]:
    if project.version == UNKNOWN_VERSION:
        yield (
            f"{project.name} has the version {UNKNOWN_VERSION}: only its build backend, which does "
            "not run, could tell; set `version` in [project] of pyproject.toml"
        )
    if project.generated is not None:
        yield (
            f"{project.generated}, which the build backend of {project.name} writes, is not in the "
            f"snapshot: what imports it will fail; launch with `--include {project.generated}`, or "
            "let git have it"
        )
