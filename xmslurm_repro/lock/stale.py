"""Whether a lock still covers what the project asks for.

uv is asked for the lock as it is (``--frozen``), and the other kinds say nothing of what they
were made from. So a dependency that was added after locking would silently be missing.
"""

from __future__ import annotations

from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from xmslurm_repro.errors import LockMissingError
from xmslurm_repro.lock.project import (
    CONDA_LOCK,
    DEFAULT_CHOICE,
    PIXI_LOCK,
    UV_LOCK,
    Choice,
    LockFile,
    read_toml,
    standard_dependencies,
)
from xmslurm_repro.lock.select import Selection
from xmslurm_repro.lock.target import holds
from xmslurm_repro.model.lock import Target
from xmslurm_repro.ports.store import Tree


def check_covered(
    tree: Tree,
    file: LockFile,
    selection: Selection,
    target: Target,
    choice: Choice = DEFAULT_CHOICE,
) -> None:
    """
    Compare the selection with the direct dependencies of the nearest pyproject.toml.

    Raises:
        LockMissingError: With every dependency that is missing, or locked in a version that the
            project no longer allows.
    """
    path = file.project
    if path is None or tree.find(path) is None or file.kind in {CONDA_LOCK, PIXI_LOCK}:
        return  # conda's names are not those of PyPI
    wanted = standard_dependencies(tree, path, choice)
    wrong = tuple(_uncovered(wanted, selection, target, overridden=_overridden(tree, file)))
    if wrong:
        is_uv = file.kind == UV_LOCK
        raise LockMissingError(
            f"{file.path} is older than {path}: it does not cover all that is declared",
            hint="Run `uv lock` and launch again." if is_uv else "Lock again, then launch.",
            details=wrong,
        )


def _uncovered(
    wanted: tuple[Requirement, ...],
    selection: Selection,
    target: Target,
    *,
    overridden: frozenset[str],
) -> Iterator[str]:
    pinned = (*selection.files, *selection.sdists)
    versions = {one.artifact.name: one.artifact.version for one in pinned}
    directories = {name for name, _ in selection.directories}
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        applies = holds(requirement.marker, target, f"the dependency {requirement}")
        if not applies or name in directories or name in overridden:
            continue
        if name not in versions:
            yield f"{requirement}: not in the lock"
        elif not _allows(requirement, versions[name]):
            yield f"{requirement}: the lock has {versions[name]}"


def _allows(requirement: Requirement, version: str) -> bool:
    if requirement.url is not None:
        return True
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True


def _overridden(tree: Tree, file: LockFile) -> frozenset[str]:
    """Packages that uv was told to take in another version (or not at all) than is declared."""
    beside = file.project_beside
    if file.kind != UV_LOCK or tree.find(beside) is None:
        return frozenset()
    settings = read_toml(tree, beside).get("tool", {}).get("uv", {})
    listed = [
        *settings.get("override-dependencies", []),
        *settings.get("exclude-dependencies", []),
    ]
    return frozenset(
        canonicalize_name(Requirement(text).name) for text in listed if isinstance(text, str)
    )
