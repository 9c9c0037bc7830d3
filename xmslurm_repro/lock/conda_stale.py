"""Whether a conda lock still has all that was asked for, as far as names can tell.

Versions are not compared: conda's are no Python versions, and the tools have their own digests of
what they locked. A package that was added after locking is what happens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from packaging.utils import canonicalize_name

from xmslurm_repro.errors import FormatError, LockMissingError
from xmslurm_repro.lock.choose import conda_command
from xmslurm_repro.lock.conda_files import read_yaml
from xmslurm_repro.lock.project import CONDA_LOCK, LockFile, join, read_text, read_toml, table
from xmslurm_repro.lock.select import Selection
from xmslurm_repro.ports.store import Tree

_ENVIRONMENTS = ("environment.yml", "environment.yaml")
_NAME = re.compile(r"(?:[^\s:]+::)?([A-Za-z0-9_][\w.-]*)")
_SELECTED = re.compile(r"(?m)^\s*-\s*['\"]?(?:[^\s:]+::)?([A-Za-z0-9_][\w.-]*).*#\s*\[")
"""A line with a selector (``# [osx]``), which conda-lock reads and YAML does not."""


def check_conda_covered(tree: Tree, file: LockFile, selection: Selection) -> None:
    """
    Look for what the file beside the lock asks for by name.

    Raises:
        LockMissingError: With every package that the lock has not.
    """
    is_conda_lock = file.kind == CONDA_LOCK
    found = _environment(tree, file.folder) if is_conda_lock else _pixi(tree, file.folder)
    if found is None:
        return
    path, wanted = found
    has = {canonicalize_name(pinned.artifact.name) for pinned in selection.files}
    has |= {canonicalize_name(name) for name, _ in selection.directories}
    missing = sorted({name for name in wanted if canonicalize_name(name) not in has})
    if missing:
        raise LockMissingError(
            f"{file.path} is older than {path}: it does not cover all that is asked for",
            hint=f"Run `{conda_command(path) if is_conda_lock else 'pixi lock'}` and launch again.",
            details=[f"{name}: not in the lock" for name in missing],
        )


def _environment(tree: Tree, folder: str) -> tuple[str, list[str]] | None:
    for name in _ENVIRONMENTS:
        path = join(folder, name)
        if not tree.find(path):
            continue
        text = read_text(tree, path)
        document = read_yaml(text, path)
        listed = document.maybe("dependencies") if isinstance(document.value, dict) else None
        selected = set(_SELECTED.findall(text))
        names = _names(listed.value if listed else [])
        return path, [each for each in names if each not in selected]
    return None


def _names(listed: Any) -> Iterator[str]:
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, dict):
            yield from _names(item.get("pip"))
        # URLs, paths and options of pip have no name to look for.
        elif isinstance(item, str) and "/" not in item and (found := _NAME.match(item)):
            yield found[1]


def _pixi(tree: Tree, folder: str) -> tuple[str, list[str]] | None:
    for name, keys in (("pixi.toml", ()), ("pyproject.toml", ("tool", "pixi"))):
        path = join(folder, name)
        if not tree.find(path):
            continue
        try:
            document = table(read_toml(tree, path), *keys)
        except FormatError:
            continue
        if document:
            return path, [*table(document, "dependencies"), *table(document, "pypi-dependencies")]
    return None
