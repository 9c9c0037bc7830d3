"""Work trees to measure with: real files, many of them, and the same ones each time."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.disk import remove

FILES = 5000
LARGEST_BYTES = 400_000
"""Files above it are left out; then 5,000 files of an ordinary environment are about 100 MB."""

FIRST_LINE = "SEED = 100000"
BIG_FILE_BYTES = 50_000_000
CHANGED = 20

_WAY_OUT = ("http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")
_QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart" / "project"
_EDITED = "edited/train.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkTree:
    """
    A git repository with changes that nobody committed.

    Attributes:
        path: Its top.
        file_count: Files in it, those that are not committed included.
        size_bytes: The sum of their sizes.
        edited: The file that `edit` edits; its last line is `FIRST_LINE`, at first.
    """

    path: Path
    file_count: int
    size_bytes: int
    edited: str = _EDITED

    def edit(self) -> None:
        """Edit one line of one file, to something that it never was before."""
        file = self.path / self.edited
        lines = file.read_text().splitlines()
        # The number has as many digits as before: what only looks at sizes sees no edit.
        lines[-1] = f"SEED = {int(lines[-1].rpartition(' ')[2]) + 1}"
        file.write_text("\n".join(lines) + "\n")


def clean_environment(home: Path) -> dict[str, str]:
    """An environment in which nothing of this user's settings is seen but the way out."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        **{name: value for name, value in os.environ.items() if name.lower() in _WAY_OUT},
        "PATH": os.environ["PATH"],
        "HOME": os.fspath(home),
        "LC_ALL": "C.UTF-8",
        "XMSLURM_REPRO_HOME": os.fspath(home / "xmslurm-repro"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }


def make_work_tree(path: Path, env: Mapping[str, str], *, with_big_file: bool = False) -> WorkTree:
    """
    Make a repository at *path* of `FILES` files and about 100 MB, from installed packages.

    One that is there already is taken as it is.

    Which files: those whose path has the smallest SHA-256, so that they are spread over all
    packages and are the same ones wherever the same packages are installed.
    `CHANGED` of them are modified and as many are untracked.
    """
    if path.exists():
        return count_tree(path)
    fresh = path.with_suffix(".fresh")
    remove(fresh)
    _fill(fresh, env, with_big_file=with_big_file)
    fresh.rename(path)
    return count_tree(path)


def _fill(path: Path, env: Mapping[str, str], *, with_big_file: bool) -> None:
    chosen = _installed_files(FILES)
    for name, source in chosen[: FILES - CHANGED]:
        target = path / "packages" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (path / "edited").mkdir()
    (path / _EDITED).write_text(f'"""A file that is edited."""\n\n{FIRST_LINE}\n')
    if with_big_file:
        (path / "big.bin").write_bytes(_noise(BIG_FILE_BYTES))
    commit_all(path, env)
    _leave_changes(path, chosen[FILES - CHANGED :], chosen[:CHANGED])


def make_quickstart(path: Path, env: Mapping[str, str]) -> WorkTree:
    """
    Make a repository at *path* of the quickstart's project, and one line to edit.

    One that is there already is taken as it is.
    """
    if not path.exists():
        shutil.copytree(_QUICKSTART, path)
        with open(path / "train.py", "a") as file:
            file.write(f"{FIRST_LINE}\n")
        commit_all(path, env)
    return replace(count_tree(path), edited="train.py")


def commit_all(path: Path, env: Mapping[str, str]) -> None:
    """Make a repository of the folder *path*, with one commit that is the same each time."""
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _WHO}
    for words in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("commit", "--quiet", "--message", "All files"),
        ("repack", "-a", "-d", "--quiet"),
    ):
        subprocess.run(["git", *words], cwd=path, env={**env, **who}, check=True)


_WHO = (
    ("NAME", "Bench"),
    ("EMAIL", "bench@example.org"),
    ("DATE", "2000-01-01T00:00:00Z"),
)


def _installed_files(count: int) -> list[tuple[str, str]]:
    top = sysconfig.get_path("purelib")
    found = []
    for folder, folders, names in os.walk(top):
        # Git would ignore these, or take them for repositories and settings of its own.
        folders[:] = [name for name in folders if name not in {"__pycache__", ".git"}]
        for name in names:
            path = os.path.join(folder, name)
            if _is_wanted(path):
                found.append((os.path.relpath(path, top), path))
    found.sort(key=lambda pair: hashlib.sha256(os.fsencode(pair[0])).digest())
    if len(found) < count:
        raise RuntimeError(f"only {len(found)} files are installed: run `uv sync` with all groups")
    return found[:count]


def _is_wanted(path: str) -> bool:
    name = os.path.basename(path)
    is_code_of_this_project = "xmslurm_repro" in path.rpartition("site-packages")[2]
    return (
        not name.startswith(".git")
        and not is_code_of_this_project
        and not os.path.islink(path)
        and os.path.getsize(path) <= LARGEST_BYTES
    )


def _leave_changes(
    path: Path, untracked: list[tuple[str, str]], modified: list[tuple[str, str]]
) -> None:
    for name, source in untracked:
        target = path / "untracked" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    for name, _ in modified:
        with open(path / "packages" / name, "ab") as file:
            file.write(b"\n# modified\n")


def count_tree(path: Path) -> WorkTree:
    sizes = [
        os.lstat(os.path.join(folder, name)).st_size
        for folder, _, names in os.walk(path)
        for name in names
        if os.path.relpath(folder, path).split(os.sep)[0] != ".git"
    ]
    return WorkTree(path=path, file_count=len(sizes), size_bytes=sum(sizes))


def _noise(count: int) -> bytes:
    """Bytes that no compressor makes smaller, the same ones each time."""
    return hashlib.shake_128(b"a big file").digest(count)
