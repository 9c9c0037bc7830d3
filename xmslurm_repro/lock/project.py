"""What a project says that it depends on, and what looks like a lock, in a snapshot."""

from __future__ import annotations

import configparser
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from packaging.dependency_groups import DependencyGroupResolver
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from xmslurm_repro.errors import FormatError, UsageError
from xmslurm_repro.ports.store import Tree

PYLOCK, UV_LOCK, REQUIREMENTS = "pylock.toml", "uv.lock", "requirements.txt"
CONDA_LOCK, PIXI_LOCK = "conda-lock.yml", "pixi.lock"
POETRY_LOCK, PDM_LOCK = "poetry.lock", "pdm.lock"
KINDS = (PYLOCK, UV_LOCK, CONDA_LOCK, PIXI_LOCK, REQUIREMENTS, POETRY_LOCK, PDM_LOCK)
"""The locks that we read, in the order in which we look for them in one folder."""


_PROJECT_FILES = ("pyproject.toml", "setup.cfg", "setup.py", "requirements.in", "Pipfile")
_CONDA_FILES = ("environment.yml", "environment.yaml", "pixi.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """
    What is to be installed beside the default dependencies; all names normal and sorted.

    Attributes:
        extras: Optional dependencies.
        groups: Dependency groups.
    """

    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, extras: Iterable[str], groups: Iterable[str]) -> Choice:
        """The choice of these names, however they are spelt."""
        return cls(
            extras=tuple(sorted(set(map(canonicalize_name, extras)))),
            groups=tuple(sorted(set(map(canonicalize_name, groups)))),
        )

    def __str__(self) -> str:
        """Such as ``extra plot, group dev``; empty where nothing was asked for."""
        named = (("extra", self.extras), ("group", self.groups))
        return ", ".join(f"{kind} {name}" for kind, names in named for name in names)


DEFAULT_CHOICE = Choice()


def no_such_choice(choice: Choice, where: str, details: Sequence[str]) -> UsageError:
    """The error for extras or groups that are not there; *details* say what is."""
    return UsageError(
        f"{where} does not have all of what was asked for: {choice}",
        details=details,
        hint="Name extras of [project.optional-dependencies] and groups of [dependency-groups], "
        "and lock again if they are new.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFile:
    """
    A lock in a snapshot.

    Attributes:
        path: From the root.
        kind: One of `KINDS`.
        project: The file that declares what is locked, as far as there is one.
    """

    path: str
    kind: str
    project: str | None

    @property
    def folder(self) -> str:
        """The folder that the lock is in."""
        return parent(self.path)

    @property
    def project_beside(self) -> str:
        """The pyproject.toml in the lock's own folder."""
        return join(self.folder, "pyproject.toml")


def find_lock(tree: Tree, folder: str) -> LockFile | None:
    """Search *folder* and its parents up to the snapshot's root, nearest first."""
    for place in folders_up(folder):
        for kind in KINDS:
            path = join(place, kind)
            if tree.find(path):
                project = find_project(tree, folder, top=place)
                return LockFile(path=path, kind=kind, project=project)
    return None


def find_project(tree: Tree, folder: str, *, top: str = "") -> str | None:
    """The nearest file that can declare dependencies, in *folder* and its parents up to *top*."""
    for place in folders_up(folder):
        found = [join(place, name) for name in _PROJECT_FILES if tree.find(join(place, name))]
        if found:
            return _speaking(tree, found)
        if place == top:
            break
    return None


def _speaking(tree: Tree, paths: Sequence[str]) -> str:
    # Many a pyproject.toml only configures tools, and setup.py or setup.cfg beside it declares.
    first, *others = paths
    if others and PurePosixPath(first).name == "pyproject.toml":
        document = read_toml(tree, first)
        if "project" not in document and not table(document, "tool", "poetry"):
            # setup.cfg may hold as little: the settings of a linter.
            return next((path for path in others if declared_dependencies(tree, path)), first)
    return first


def find_conda(tree: Tree, folder: str) -> str | None:
    """The nearest file that asks for conda packages and pins none."""
    paths = (join(place, name) for place in folders_up(folder) for name in _CONDA_FILES)
    return next((path for path in paths if tree.find(path)), None)


def folders_up(folder: str) -> Iterator[str]:
    """*folder* and its parents, nearest first; the root is the empty text."""
    place = PurePosixPath(folder.strip("/"))
    while str(place) != ".":
        yield str(place)
        place = place.parent
    yield ""


def join(folder: str, name: str) -> str:
    """The path of *name* in *folder*, from the root."""
    return f"{folder}/{name}" if folder else name


def parent(path: str) -> str:
    """The folder that *path* is in."""
    return path.rpartition("/")[0]


def inside(folder: str, path: str) -> str | None:
    """*path*, from *folder*, as a path from the snapshot's root; ``None`` if it leaves that."""
    if path.startswith("/"):
        return None
    parts: list[str] = []
    for part in join(folder, path).split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def is_folder(tree: Tree, path: str) -> bool:
    """Whether anything lies below *path*."""
    if not path:
        return True
    if any(tree.find(join(path, name)) for name in ("pyproject.toml", "setup.py", "__init__.py")):
        return True
    below = path.encode() + b"/"
    for entry in tree.entries():
        if entry.path >= below:
            return entry.path.startswith(below)
    return False


def read_text(tree: Tree, path: str) -> str:
    """
    A text file of the snapshot.

    Raises:
        FormatError: If it is missing or not UTF-8.
    """
    data = tree.read(path)
    if data is None:
        raise FormatError(f"{path}: no such file in the snapshot")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8: {error}") from error


def read_toml(tree: Tree, path: str) -> dict[str, Any]:
    """
    A TOML file of the snapshot.

    Raises:
        FormatError: If it is missing or not TOML.
    """
    try:
        return tomllib.loads(read_text(tree, path))
    except tomllib.TOMLDecodeError as error:
        raise FormatError(f"{path}: not TOML: {error}") from error


def declared_dependencies(tree: Tree, path: str) -> tuple[str, ...]:
    """
    What the project file at *path* asks for, as it says it; what tools other than the Python
    standard declare is given as a sentence, because all that matters then is that it is there.

    Raises:
        FormatError: If the file cannot be read.
    """
    name = PurePosixPath(path).name
    if name == "pyproject.toml":
        return _of_pyproject(read_toml(tree, path), path)
    text = read_text(tree, path)
    if name == "setup.cfg":
        return _of_setup_cfg(text, path)
    if name == "setup.py":
        return ("what install_requires lists",) if "install_requires" in text else ()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(line for line in lines if line) if name == "requirements.in" else (name,)


def standard_dependencies(
    tree: Tree, path: str | None, choice: Choice = DEFAULT_CHOICE
) -> tuple[Requirement, ...]:
    """
    What the pyproject.toml at *path* asks for in the standard tables, with the extras and groups
    of *choice* as far as it has them; empty for any other file.

    Raises:
        FormatError: If one of them is no requirement (PEP 508), or groups include each other.
    """
    if path is None or PurePosixPath(path).name != "pyproject.toml":
        return ()
    document = read_toml(tree, path)
    project = table(document, "project")
    texts = list(_texts(project, "dependencies", path))
    optional = table(project, "optional-dependencies")
    for name in optional:
        if canonicalize_name(name) in choice.extras:
            texts += _texts(optional, name, path)
    found = []
    for text in texts:
        try:
            found.append(Requirement(text))
        except InvalidRequirement as error:
            raise FormatError(f"{path}: project.dependencies: {text!r}: {error}") from error
    own_name = canonicalize_name(str(project.get("name", "")))
    # ``all = ["project[a,b]"]`` names other extras of the same project.
    return (
        *(each for each in found if canonicalize_name(each.name) != own_name),
        *_of_groups(table(document, "dependency-groups"), choice, path),
    )


def _of_groups(groups: Mapping[str, Any], choice: Choice, path: str) -> tuple[Requirement, ...]:
    known = [name for name in groups if canonicalize_name(name) in choice.groups]
    try:
        resolver = DependencyGroupResolver(groups)
        return tuple(found for name in known for found in resolver.resolve(name))
    except (ExceptionGroup, InvalidRequirement, LookupError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: dependency-groups: {error}") from error


def _of_pyproject(document: Mapping[str, Any], path: str) -> tuple[str, ...]:
    project = table(document, "project")
    texts = _texts(project, "dependencies", path)
    if "dependencies" in _texts(project, "dynamic", path):
        texts += ("what the build backend computes (project.dynamic)",)
    poetry = table(document, "tool", "poetry", "dependencies")
    return texts + tuple(sorted(name for name in poetry if name != "python"))


def _of_setup_cfg(text: str, path: str) -> tuple[str, ...]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise FormatError(f"{path}: {error}") from error
    listed = parser.get("options", "install_requires", fallback="")
    return tuple(line.strip() for line in listed.splitlines() if line.strip())


def table(document: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The table under *names*, one in the other; empty where there is none."""
    found = document
    for name in names:
        below = found.get(name)
        found = below if isinstance(below, Mapping) else {}
    return found


def _texts(table: Mapping[str, Any], name: str, path: str) -> tuple[str, ...]:
    found = table.get(name, [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise FormatError(f"{path}: project.{name}: expected an array of strings")
    return tuple(found)
