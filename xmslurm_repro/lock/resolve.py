"""From a snapshot to the wheels that its lock pins for a target."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xmslurm_repro.errors import ImageError, LockMissingError, UsageError
from xmslurm_repro.lock import from_requirements, from_tools, from_uv
from xmslurm_repro.lock.cache import SelectionCache
from xmslurm_repro.lock.choose import demand_no_lock_needed, named_lock
from xmslurm_repro.lock.conda_stale import check_conda_covered
from xmslurm_repro.lock.from_conda import select_conda, with_python
from xmslurm_repro.lock.installed import installed_projects, is_package
from xmslurm_repro.lock.project import (
    CONDA_LOCK,
    DEFAULT_CHOICE,
    PDM_LOCK,
    PIXI_LOCK,
    POETRY_LOCK,
    PYLOCK,
    REQUIREMENTS,
    UV_LOCK,
    Choice,
    LockFile,
    find_lock,
    find_project,
    inside,
    is_folder,
    join,
    parent,
    read_text,
)
from xmslurm_repro.lock.select import (
    PinnedFile,
    Selection,
    Unusable,
    no_wheel_error,
    read_pylock,
    select,
)
from xmslurm_repro.lock.stale import check_covered
from xmslurm_repro.lock.uvtool import uv_version
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.lock import Artifact, Lock, Target
from xmslurm_repro.model.project import Project
from xmslurm_repro.ports.store import ObjectStore, Tree

_RULES = 1
"""The version of our own rules of selection; part of every key in the cache."""


def resolve_lock(
    tree: Tree,
    folder: str,
    *,
    lock_path: str | None,
    target: Target,
    store: ObjectStore,
    cache_dir: Path,
    choice: Choice = DEFAULT_CHOICE,
    with_sdists: bool = False,
) -> Lock | None:
    """
    Read the lock that is in force in *folder* of a snapshot. The work tree is not looked at.

    In each folder, from *folder* up to the root, ``pylock.toml`` is looked for, then ``uv.lock``,
    then ``requirements.txt``. Only default dependencies are taken, and what *choice* names.
    The network is used only for a requirements file that was not read before for this target.

    Args:
        tree: The snapshot.
        folder: From its root, with ``/``; the root is the empty text.
        lock_path: A certain lock, from the snapshot's root, instead of the nearest one.
        target: What packages are chosen for; without a Python, only a conda lock will do.
        store: Keeps the lock file.
        cache_dir: A folder of ours for what was found out; may be emptied at any time.
        choice: Extras and groups to take as well.
        with_sdists: Whether a package without a wheel may be a source distribution.

    Returns:
        The lock; ``None`` when the project declares no dependencies and has no lock. An
        artifact's ``url`` is ``blake3:<hex>`` when the wheel itself lies in the snapshot.

    Raises:
        LockMissingError: If the project declares dependencies that no lock covers.
        UsageError: If there is no such lock, extra or group.
        LockUnpinnedError: With every package that has no hash.
        NoWheelError: With every package that has no wheel for the target.
        FormatError: If the lock cannot be read.
        FetchError: If an index that must be asked cannot be.
    """
    file = named_lock(tree, folder, lock_path) if lock_path else find_lock(tree, folder)
    if file is None:
        if choice != DEFAULT_CHOICE:
            raise UsageError(
                f"there is no lock that {choice} could be taken from", hint="Run `uv lock`."
            )
        demand_no_lock_needed(tree, folder)
        return None
    if file.kind == UV_LOCK:
        file = from_uv.demand_member(tree, file)
    data = tree.read(file.path)
    if data is None:
        raise LockMissingError(f"{file.path} is a link in the snapshot, not a file")
    if not target.python and file.kind not in {CONDA_LOCK, PIXI_LOCK}:
        raise ImageError(
            f"the base image has no Python that the packages of {file.path} could be for",
            hint="Make a base with Python by `xmslurm-repro base create`.",
        )
    cache = SelectionCache(cache_dir / "locks")
    selection = _select(tree, file, target, choice, cache, with_sdists=with_sdists)
    check_covered(tree, file, selection, target, choice)
    if file.kind in {CONDA_LOCK, PIXI_LOCK} and choice == DEFAULT_CHOICE:
        check_conda_covered(tree, file, selection)
    own_python = selection.python and with_python(target, selection.python)
    return Lock(
        digest=store.put(data),
        path=file.path,
        kind=file.kind,
        artifacts=_artifacts(tree, file.path, selection.files, target),
        sources=_sources(tree, file, selection, target),
        extras=choice.extras,
        groups=choice.groups,
        projects=installed_projects(tree, _installed_folders(tree, file, selection)),
        target=own_python or None,
        sdists=_artifacts(tree, file.path, selection.sdists, target),
    )


def projects_without_lock(tree: Tree, folder: str) -> tuple[Project, ...]:
    """
    The nearest project, if it is one to install, where `resolve_lock` found that it needs no lock.

    Raises:
        FormatError: If its file cannot be read.
    """
    project = find_project(tree, folder)
    if project is None or not is_package(tree, project):
        return ()
    return installed_projects(tree, (parent(project),))


def _select(
    tree: Tree,
    file: LockFile,
    target: Target,
    choice: Choice,
    cache: SelectionCache,
    *,
    with_sdists: bool,
) -> Selection:
    inputs: list[Json] = []
    if file.kind == UV_LOCK:
        inputs = from_uv.inputs(tree, file)
    elif file.kind == REQUIREMENTS:
        inputs = from_requirements.inputs(tree, file)
    elif file.kind in {POETRY_LOCK, PDM_LOCK}:
        inputs = from_tools.inputs(tree, file)
    entry = tree.find(file.path)
    key: dict[str, Json] = {
        "rules": _RULES,
        "kind": file.kind,
        "path": file.path,
        "lock": str(entry.digest) if entry else None,
        "inputs": inputs,
        "target": target.to_json(),
        "uv": uv_version(),
        "packaging": importlib.metadata.version("packaging"),
    }
    if choice != DEFAULT_CHOICE:
        key["choice"] = str(choice)
    if with_sdists:
        key["with_sdists"] = True
    known = cache.get(key)
    # uv.lock has no hash of a wheel in a folder index: the wheel may be another one by now.
    if known is None or any(pinned.path for pinned in (*known.files, *known.sdists)):
        known = _select_afresh(tree, file, target, choice, with_sdists=with_sdists)
        cache.put(key, known)
    return known


def _select_afresh(
    tree: Tree, file: LockFile, target: Target, choice: Choice, *, with_sdists: bool
) -> Selection:
    if file.kind == PYLOCK:
        lock = read_pylock(read_text(tree, file.path), file.path)
        return select(lock, target, file.path, choice, with_sdists=with_sdists)
    if file.kind == UV_LOCK:
        lock = read_pylock(from_uv.export(tree, file, choice), file.path)
        return select(lock, target, file.path, with_sdists=with_sdists)
    if file.kind == POETRY_LOCK:
        lock = read_pylock(from_tools.export(tree, file, choice), file.path)
        return select(lock, target, file.path, with_sdists=with_sdists)
    if file.kind == PDM_LOCK:
        lock = read_pylock(from_tools.export(tree, file, choice), file.path)
        return select(lock, target, file.path, choice, with_sdists=with_sdists)
    if file.kind in {CONDA_LOCK, PIXI_LOCK}:
        return select_conda(read_text(tree, file.path), file.path, file.kind, target, choice)
    if choice != DEFAULT_CHOICE:
        raise UsageError(
            f"{file.path} knows no extras and no groups, but {choice} was asked for",
            hint="Compile them into it (`uv pip compile --extra …`), or use a uv.lock.",
        )
    return from_requirements.select_pins(tree, file, target, with_sdists=with_sdists)


def _artifacts(
    tree: Tree, lock_path: str, files: Sequence[PinnedFile], target: Target
) -> tuple[Artifact, ...]:
    """The wheels; those that lie in the snapshot by the name of their content there."""
    artifacts, absent = [], []
    for pinned in files:
        one = pinned.artifact
        if pinned.path is None:
            artifacts.append(one)
            continue
        digest = _file_at(tree, inside(parent(lock_path), pinned.path))
        if digest is None:
            found = f"its wheel {pinned.path} is not in the snapshot"
            absent.append(Unusable(name=one.name, version=one.version, found=found))
            continue
        artifacts.append(replace(one, url=str(digest)))
    if absent:
        raise no_wheel_error(absent, target, lock_path, hint=_ABSENT_HINT)
    return tuple(sorted(artifacts, key=lambda artifact: artifact.name))


_ABSENT_HINT = "Move it into the work tree, where git does not ignore it, and lock again."


def _file_at(tree: Tree, path: str | None) -> Digest | None:
    entry = tree.find(path) if path else None
    return entry.digest if entry else None


def _sources(tree: Tree, file: LockFile, selection: Selection, target: Target) -> tuple[str, ...]:
    """The folders to import local packages from, by the two layouts of the packaging guide."""
    places, absent = {file.folder, parent(file.project or file.path)}, []
    for name, path in selection.directories:
        place = inside(file.folder, path)
        if place is None or not is_folder(tree, place):
            found = f"its folder {path} is not in the snapshot"
            absent.append(Unusable(name=name, version="", found=found))
        else:
            places.add(place)
    if absent:
        raise no_wheel_error(absent, target, file.path, hint=_ABSENT_HINT)
    places.discard("")
    folders = {join(p, "src") if is_folder(tree, join(p, "src")) else p for p in places}
    return tuple(sorted(folders - {"src"}))


def _installed_folders(tree: Tree, file: LockFile, selection: Selection) -> tuple[str, ...]:
    """Folders of the local projects that this lock installs, as `_sources` has checked them."""
    chosen = (inside(file.folder, path) for _, path in selection.directories)
    folders = [place for place in chosen if place is not None]
    if file.project is not None and is_package(tree, file.project):
        folders.append(parent(file.project))
    return tuple(folders)
