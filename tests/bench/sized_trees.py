"""
Work trees of three sizes, each in the state in which one works: files changed, staged, new and
ignored, and a submodule.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tests.bench.disk import need, remove
from tests.bench.harness import BenchError
from tests.bench.trees import (
    CHANGED,
    FIRST_LINE,
    WorkTree,
    _installed_files,
    _leave_changes,
    commit_all,
    count_tree,
)

_EDITED = "edited/train.py"
_IGNORED = "*.o\n"
SUBMODULE = "vendored"
"""Where each tree has its submodule."""


def make_small(path: Path, env: Mapping[str, str]) -> WorkTree:
    """A repository of 240 files: 204 of its own, of installed packages, and 28 of a submodule."""
    return _once(path, lambda fresh: _of_packages(fresh, env, own=204, submodule=28, ignored=100))


def make_middle(path: Path, env: Mapping[str, str]) -> WorkTree:
    """A repository of 5,000 files and about 100 MB, 1,457 of them of a submodule."""
    return _once(
        path, lambda fresh: _of_packages(fresh, env, own=3515, submodule=1457, ignored=1000)
    )


def make_large(path: Path, env: Mapping[str, str]) -> WorkTree:
    """
    Linux as Debian packages its source: 79,000 files, 1.3 GB, 300 ignore files.

    Raises:
        BenchError: If the package cannot be had.
    """
    return _once(path, lambda fresh: _of_linux(fresh, env))


def _once(path: Path, make: Callable[[Path], None]) -> WorkTree:
    if not path.exists():
        fresh = path.with_suffix(".fresh")
        remove(fresh)
        fresh.mkdir(parents=True)
        make(fresh)
        fresh.rename(path)
    return _without_ignored(count_tree(path))


def _without_ignored(tree: WorkTree) -> WorkTree:
    ignored = sum(name.endswith(".o") for _, _, names in os.walk(tree.path) for name in names)
    return replace(tree, file_count=tree.file_count - ignored)


def _of_packages(
    path: Path, env: Mapping[str, str], *, own: int, submodule: int, ignored: int
) -> None:
    chosen = _installed_files(own + submodule)
    mine, others = chosen[:own], chosen[own:]
    tracked, untracked = mine[CHANGED // 2 :], mine[: CHANGED // 2]
    _copy(tracked, path / "packages")
    _finish(path, env, _copied(others, path.with_name(f"{path.stem}-submodule")))
    _leave_changes(path, untracked, tracked[:CHANGED])
    _ignore(path, ignored)


def _of_linux(path: Path, env: Mapping[str, str]) -> None:
    need("apt-get", "dpkg-deb", "xz")
    archives = path.with_name("linux-source")
    if not archives.exists():
        remove(archives.with_suffix(".fresh"))
        archives.with_suffix(".fresh").mkdir()
        _sh('apt-get -q download "$(apt-cache search --names-only "^linux-source-[0-9.]+$" |'
            ' sort -V | tail -n 1 | cut -d" " -f1)"', archives.with_suffix(".fresh"))  # fmt: skip
        archives.with_suffix(".fresh").rename(archives)
    _sh(
        f'dpkg-deb --fsys-tarfile {archives}/*.deb | tar -xO --wildcards "*.tar.xz" |'
        " tar -xJ --strip-components=1",
        path,
    )
    rules = path / ".gitignore"
    # Debian's own last rules ignore everything.
    rules.write_text(rules.read_text().partition("# Debian packaging")[0])
    _finish(path, env, _copied(_installed_files(28), path.with_name(f"{path.stem}-submodule")))
    untracked = [
        (name, os.path.join(path, name)) for name in ("Kbuild", "Makefile", "CREDITS", "README")
    ]
    _leave_changes(path, untracked, [])
    for name in ("Kconfig", "MAINTAINERS", "COPYING"):
        with open(path / name, "a") as file:
            file.write("# modified\n")
    _ignore(path, 10_000)


def _sh(script: str, cwd: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail; {script}"],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"cannot get Linux's source:\n{done.stderr[-2000:]}")


def _finish(path: Path, env: Mapping[str, str], submodule: Path) -> None:
    """Make a repository of *path* with the folder *submodule* as its submodule."""
    commit_all(submodule, env)
    (path / "edited").mkdir()
    (path / _EDITED).write_text(f'"""A file that is edited."""\n\n{FIRST_LINE}\n')
    with open(path / ".gitignore", "a") as rules:
        rules.write(_IGNORED)
    add = ("submodule", "--quiet", "add")
    for words in (
        ("init", "--quiet", "--initial-branch=main"),
        ("-c", "protocol.file.allow=always", *add, os.fspath(submodule), SUBMODULE),
    ):
        subprocess.run(["git", *words], cwd=path, env=dict(env), check=True)
    shutil.rmtree(submodule)
    commit_all(path, env)


def _copied(chosen: list[tuple[str, str]], target: Path) -> Path:
    remove(target)
    _copy(chosen, target)
    return target


def _copy(chosen: list[tuple[str, str]], target: Path) -> None:
    for name, source in chosen:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)


def _ignore(path: Path, count: int) -> None:
    """Leave *count* ignored files beside the tracked ones."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=path, capture_output=True, check=True
    ).stdout.split(b"\0")
    for name in listed[:count]:
        if name and not name.endswith(b".o") and not (path / os.fsdecode(name)).is_dir():
            (path / (os.fsdecode(name) + ".o")).write_bytes(b"ignored")
