"""Files and folders of the bench: how much they hold, copies that cost nothing, programs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.bench.harness import BenchError

_PACKAGES = {"b3sum": "b3sum", "zstd": "zstd", "git": "git", "rsync": "rsync", "borg": "borgbackup"}


def need(*programs: str) -> None:
    """
    Make sure that programs are there.

    Raises:
        BenchError: With the packages that have them.
    """
    missing = [_PACKAGES.get(name, name) for name in programs if shutil.which(name) is None]
    if missing:
        raise BenchError(f"missing programs: apt-get install {' '.join(missing)}")


def bytes_below(folder: Path) -> int:
    """The sum of the sizes of all files below *folder*; 0 if it is not there."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(folder)
        for name in names
    )


def remove(folder: Path) -> None:
    """Remove a folder, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def link_copy(source: Path, target: Path) -> None:
    """
    Copy a folder at the cost of names: its files are hard links.

    Right for what is named by its content and never written to. What is written to in place (a
    database, a lock) is copied.
    """

    def link_or_copy(old: str, new: str) -> None:
        if old.endswith((".db", ".db-wal", ".db-shm", ".lock", "index.json")):
            shutil.copy2(old, new)
        else:
            os.link(old, new, follow_symlinks=False)

    shutil.copytree(source, target, symlinks=True, copy_function=link_or_copy)
