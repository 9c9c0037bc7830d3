"""Which lock is in force where somebody names one, and what to do where there is none."""

from __future__ import annotations

from pathlib import PurePosixPath

from xmslurm_repro.errors import LockMissingError, LockUnpinnedError, UsageError
from xmslurm_repro.lock.project import (
    CONDA_LOCK,
    PDM_LOCK,
    PIXI_LOCK,
    POETRY_LOCK,
    PYLOCK,
    REQUIREMENTS,
    UV_LOCK,
    LockFile,
    declared_dependencies,
    find_conda,
    find_project,
    folders_up,
    inside,
    join,
    parent,
)
from xmslurm_repro.ports.store import Tree


def named_lock(tree: Tree, folder: str, lock_path: str) -> LockFile:
    """
    The lock that was asked for. Whether it covers the nearest project is not our question.

    Raises:
        LockMissingError: If the snapshot does not have it.
        LockUnpinnedError: If it asks for conda packages, with the command that locks them.
        UsageError: If it is of no kind that we read.
    """
    path = inside("", lock_path)
    if path is None or tree.find(path) is None:
        raise LockMissingError(
            f"the snapshot has no lock {lock_path}",
            hint="Check the path, and that git does not ignore the file: what it ignores is not "
            "captured.",
        )
    kind = _kind_of(path)
    is_below = parent(path) in folders_up(folder)
    project = find_project(tree, folder, top=parent(path)) if is_below else None
    return LockFile(path=path, kind=kind, project=project if kind == UV_LOCK else None)


def _kind_of(path: str) -> str:
    name = PurePosixPath(path).name
    if name == PYLOCK or (name.startswith("pylock.") and name.endswith(".toml")):
        return PYLOCK
    if name == UV_LOCK:
        return UV_LOCK
    if name.endswith((CONDA_LOCK, "conda-lock.yaml")):
        return CONDA_LOCK
    if name == PIXI_LOCK:
        return PIXI_LOCK
    if name in {POETRY_LOCK, PDM_LOCK}:
        return name
    if name.endswith(("environment.yml", "environment.yaml")) or name == "pixi.toml":
        raise LockUnpinnedError(
            f"{path} asks for conda packages and pins none",
            hint=f"Run `{conda_command(path)}` and launch with what it writes.",
        )
    if name.endswith((".txt", ".lock", ".in")):
        return REQUIREMENTS
    raise UsageError(
        f"{path} is no kind of lock that we read",
        hint="Use a pylock.toml, a uv.lock, a poetry.lock, a pdm.lock, a conda-lock.yml, a "
        "pixi.lock, or a requirements file with hashes.",
    )


def demand_no_lock_needed(tree: Tree, folder: str) -> None:
    """
    Make sure that nothing asks for packages, where there is no lock.

    Raises:
        LockMissingError: If something does; with the command that makes a lock.
    """
    _demand_no_dependencies(tree, find_project(tree, folder))
    _demand_no_conda(tree, folder)


def _demand_no_dependencies(tree: Tree, project: str | None) -> None:
    declared = declared_dependencies(tree, project) if project else ()
    if project and declared:
        raise LockMissingError(
            f"{project} declares dependencies, and there is no lock for them",
            hint=_remedy(tree, project),
            details=(f"declared: {', '.join(declared)}",),
        )


def _demand_no_conda(tree: Tree, folder: str) -> None:
    path = find_conda(tree, folder)
    if path is not None:
        raise LockMissingError(
            f"{path} asks for conda packages, and there is no lock for them",
            hint=f"Run `{conda_command(path)}` and launch again.",
        )


def conda_command(path: str) -> str:
    """The command that locks what *path* (``environment.yml``, ``pixi.toml``) asks for."""
    if PurePosixPath(path).name == "pixi.toml":
        return f"pixi lock --manifest-path {path}"
    folder = parent(path)
    lock = join(folder, CONDA_LOCK)
    return f"conda-lock lock --file {path} --lockfile {lock}"


def _remedy(tree: Tree, project: str) -> str:
    place = parent(project)
    if tree.find(join(place, "Pipfile.lock")):
        return "Run `pipenv requirements --hash > requirements.txt` and launch again."
    if project.endswith("pyproject.toml"):
        return "Run `uv lock` and launch again."
    locked = join(place, "requirements.txt")
    return f"Run `uv pip compile {project} --generate-hashes --output-file {locked}`."
