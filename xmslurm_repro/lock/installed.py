"""What ``uv sync`` would install of local projects, read from their ``pyproject.toml``.

No build backend runs, neither here nor later: of what only one could tell (``project.dynamic``)
the version is read where the backend would (`dynamic_version`), and the rest is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from xmslurm_repro.errors import FormatError
from xmslurm_repro.lock.project import inside, is_folder, join, parent, read_toml, table
from xmslurm_repro.lock.version import Found, dynamic_version
from xmslurm_repro.model.project import UNKNOWN_VERSION, EntryPoint, Project
from xmslurm_repro.ports.store import Tree

_PYPROJECT = "pyproject.toml"
_SCRIPTS = {"scripts": "console_scripts", "gui-scripts": "gui_scripts"}


def is_package(tree: Tree, project: str | None) -> bool:
    """
    Whether uv would install the project whose file is *project*, and not only what it needs.

    It does where there is a build system, unless ``tool.uv.package`` says otherwise.
    """
    if project is None or PurePosixPath(project).name != _PYPROJECT or not tree.find(project):
        return False
    document = read_toml(tree, project)
    said = table(document, "tool", "uv").get("package")
    return said if isinstance(said, bool) else "build-system" in document


def installed_projects(tree: Tree, folders: Iterable[str]) -> tuple[Project, ...]:
    """
    The projects in *folders* of the snapshot, by name; folders without a named one are left out.

    Raises:
        FormatError: If a version, or the table of entry points, is not what it should be.
    """
    found: dict[str, Project] = {}
    for place in sorted(set(folders)):
        path = join(place, _PYPROJECT)
        if not tree.find(path):
            continue
        document = read_toml(tree, path)
        if table(document, "tool", "uv").get("package") is False:
            continue
        name, version = _identity(document, path)
        if name:
            dynamic = Found() if version else dynamic_version(tree, place, document)
            project = Project(
                name=name,
                version=version or dynamic.version or UNKNOWN_VERSION,
                sources=_sources(tree, document, place),
                entry_points=tuple(_entry_points(document, path)),
                rule=dynamic.rule,
                generated=dynamic.generated,
            )
            found.setdefault(canonicalize_name(name), project)
    return tuple(found[name] for name in sorted(found))


def _identity(document: Mapping[str, Any], path: str) -> tuple[str | None, str | None]:
    project, poetry = table(document, "project"), table(document, "tool", "poetry")
    name, version = (project.get(key, poetry.get(key)) for key in ("name", "version"))
    has_rule = "poetry-dynamic-versioning" in table(document, "tool")
    if version is None or (has_rule and version in {"0.0.0", "0"}):
        return (name if isinstance(name, str) else None), None
    try:
        return (name if isinstance(name, str) else None), str(Version(version))
    except (InvalidVersion, TypeError) as error:
        raise FormatError(f"{path}: version: {version!r} is no version") from error


def _entry_points(document: Mapping[str, Any], path: str) -> Iterator[EntryPoint]:
    project, poetry = table(document, "project"), table(document, "tool", "poetry")
    groups: dict[str, Any] = {
        **{group: poetry.get(key, {}) for key, group in _SCRIPTS.items()},
        **dict(table(poetry, "plugins")),
        **{group: project[key] for key, group in _SCRIPTS.items() if key in project},
        **dict(table(project, "entry-points")),
    }
    for group in sorted(groups):
        points = groups[group]
        if not isinstance(points, Mapping):
            raise FormatError(f"{path}: the entry points {group}: expected a table")
        for name in sorted(points):
            value = points[name]
            if isinstance(value, Mapping):  # Poetry: { reference = "a:b", type = "console" }
                value = value.get("reference") if value.get("type") == "console" else None
                if value is None:
                    continue
            if not isinstance(value, str) or not _is_one_line(name, value):
                raise FormatError(f"{path}: the entry point {group}.{name}: expected one line")
            yield EntryPoint(group=group, name=name, value=value)


def _is_one_line(*texts: str) -> bool:
    return all(text.isprintable() and text.strip() for text in texts)


def _sources(tree: Tree, document: Mapping[str, Any], place: str) -> tuple[str, ...]:
    """Where the modules are: what the build backend was told, else ``src``, else the folder."""
    told = (inside(place, each) for each in _told_folders(table(document, "tool")))
    known = tuple(dict.fromkeys(each for each in told if each is not None))
    if known:
        return known
    return (join(place, "src") if is_folder(tree, join(place, "src")) else place,)


def _told_folders(tools: Mapping[str, Any]) -> Iterator[str]:
    """Source folders as uv, setuptools, Poetry, Hatch, PDM and Maturin spell them."""
    setuptools, wheel = table(tools, "setuptools"), ("hatch", "build", "targets", "wheel")
    told: list[Any] = [
        table(tools, "uv", "build-backend").get("module-root"),
        table(setuptools, "package-dir").get(""),
        *_listed(table(setuptools, "packages", "find").get("where")),
        *(each.get("from") for each in _listed(table(tools, "poetry").get("packages"), Mapping)),
        *(parent(each) for each in _listed(table(tools, *wheel).get("packages"))),
        table(tools, "pdm", "build").get("package-dir"),
        table(tools, "maturin").get("python-source"),
    ]
    yield from (each for each in told if isinstance(each, str))


def _listed(value: Any, kind: type = str) -> list[Any]:
    return [each for each in value if isinstance(each, kind)] if isinstance(value, list) else []
