"""Reading a uv.lock by ``uv export``. uv.lock is uv's own format; only uv reads it rightly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xmslurm_repro.errors import FormatError, LockMissingError, LockUnpinnedError
from xmslurm_repro.lock.project import (
    DEFAULT_CHOICE,
    Choice,
    LockFile,
    declared_dependencies,
    inside,
    join,
    no_such_choice,
    parent,
    read_text,
    read_toml,
)
from xmslurm_repro.lock.uvtool import UvError, export_lock
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.ports.store import Tree
from xmslurm_repro.transport.http_messages import public_url


def demand_member(tree: Tree, file: LockFile) -> LockFile:
    """
    Make sure that the lock knows the nearest project; one without dependencies may be unknown.

    Returns:
        *file*, with the project beside the lock in place of one that needs no lock.

    Raises:
        LockMissingError: If the nearest project has dependencies and is not locked there.
    """
    beside = LockFile(path=file.path, kind=file.kind, project=file.project_beside)
    project = file.project
    if project is None or parent(project) == file.folder:
        return beside
    if _member_name(tree, file) is not None:
        return file
    declared = declared_dependencies(tree, project)
    if declared:
        raise LockMissingError(
            f"{project} declares dependencies, and {file.path} does not cover it",
            hint="Run `uv lock` in its folder, or make it a member of the workspace.",
            details=(f"declared: {', '.join(declared)}",),
        )
    return beside


def inputs(tree: Tree, file: LockFile) -> list[Json]:
    """What else decides the export, beside the lock: the project's files, by digest."""
    paths = sorted({file.project_beside, file.project or file.project_beside})
    entries = ((path, tree.find(path)) for path in paths)
    digests: dict[str, Json] = {path: str(entry.digest) for path, entry in entries if entry}
    return [file.project, digests]


def export(tree: Tree, file: LockFile, choice: Choice = DEFAULT_CHOICE) -> str:
    """
    The lock as a pylock.toml, with what *choice* names.

    Raises:
        UsageError: If the project has no such extra or group.
        LockUnpinnedError: With every package of which the lock has files without a hash.
        FormatError: If uv cannot read it.
    """
    document = read_toml(tree, file.path)
    files = {file.path: read_text(tree, file.path).encode()}
    needed = [join(path, "pyproject.toml") for _, path in _local_packages(document)]
    for path in (*needed, *_local_wheels(document)):
        place = inside(file.folder, path)
        data = tree.read(place) if place else None
        if place and data is not None:
            files[place] = data
    beside = file.project_beside
    files.setdefault(beside, tree.read(beside) or b"")
    package = None if file.project == beside else _member_name(tree, file)
    try:
        return export_lock(files, file.folder, package, extras=choice.extras, groups=choice.groups)
    except UvError as error:
        if "is not defined in the" in str(error):
            raise no_such_choice(choice, file.path, error.lines()) from error
        if "Failed to download" in str(error) and (unpinned := tuple(_unpinned(document))):
            raise _unpinned_error(file, unpinned) from error
        raise FormatError(
            f"{file.path}: uv cannot read it",
            hint="Run `uv lock` and launch again.",
            details=error.lines(),
        ) from error


def _member_name(tree: Tree, file: LockFile) -> str | None:
    """What the lock calls the nearest project, or ``None`` if it does not know it."""
    for name, path in _local_packages(read_toml(tree, file.path)):
        if inside(file.folder, path) == parent(file.project or ""):
            return name
    return None


def _local_packages(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and path of each package whose source is a folder."""
    for package, source in _packages(document):
        for kind in ("editable", "virtual", "directory"):
            if isinstance(source.get(kind), str):
                yield str(package.get("name", "")), source[kind]


def _local_wheels(document: Mapping[str, Any]) -> Iterator[str]:
    """The path of each wheel from an index that is a folder of the project."""
    for package, source in _packages(document):
        folder, wheels = source.get("registry"), package.get("wheels", [])
        if not isinstance(folder, str) or "://" in folder or not isinstance(wheels, list):
            continue
        paths = (wheel.get("path") for wheel in wheels if isinstance(wheel, dict))
        yield from (join(folder, path) for path in paths if isinstance(path, str))


def _unpinned(document: Mapping[str, Any]) -> Iterator[str]:
    """Packages whose index gave uv no hashes; uv would have to download all of their files."""
    for package, source in _packages(document):
        wheels = package.get("wheels", [])
        listed = [each for each in wheels if isinstance(each, dict)]
        if any("url" in each and "hash" not in each for each in listed):
            index = public_url(str(source.get("registry", "")))
            yield f"{package.get('name')} {package.get('version', '')}: no hashes from {index}"


def _unpinned_error(file: LockFile, unpinned: tuple[str, ...]) -> LockUnpinnedError:
    count = f"{len(unpinned)} package{'s' if len(unpinned) > 1 else ''}"
    return LockUnpinnedError(
        f"{file.path} has no hashes of {count}, because an index gave uv none",
        hint="Name an index that gives hashes as their source (`tool.uv.sources`; PyPI has most "
        "packages of NVIDIA), or keep the wheels in the project, and lock again.",
        details=unpinned,
    )


def _packages(document: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each package and its source."""
    packages = document.get("package", [])
    for package in packages if isinstance(packages, list) else ():
        source = package.get("source", {}) if isinstance(package, dict) else None
        if isinstance(source, dict):
            yield package, source
