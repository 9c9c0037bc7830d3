"""Poetry's and PDM's locks, by the tools themselves: only they read their formats rightly.

Both turn their lock into a pylock.toml (PEP 751). Tried with Poetry 2.2 and poetry-plugin-export
1.9, and with PDM 2.26.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

from xmslurm_repro.errors import FormatError, LockMissingError
from xmslurm_repro.lock.project import POETRY_LOCK, Choice, LockFile, read_text
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.snapshot import PathEntry
from xmslurm_repro.ports.store import Tree

_TIMEOUT_SECONDS = 300
_FILES = ("pyproject.toml", "poetry.toml", "pdm.toml", "README.md", "README.rst")
_BY_HAND = {
    "poetry": "uvx --from poetry --with poetry-plugin-export poetry export --format pylock.toml "
    "--output pylock.toml",
    "pdm": "uvx pdm export --format pylock --output pylock.toml",
}
_STALE = ("changed significantly since", "is not up to date", "hash doesn't match")
_NO_EXPORT = ('"export" does not exist', '"export" is not defined', "invalid choice: 'export'")


def inputs(tree: Tree, file: LockFile) -> list[Json]:
    """What decides the export beside the lock: the project's files, by digest."""
    return [[path, str(entry.digest)] for path, entry in _beside(tree, file)]


def export(tree: Tree, file: LockFile, choice: Choice) -> str:
    """
    The lock as a pylock.toml. Poetry's holds exactly what *choice* names, PDM's all groups.

    Raises:
        LockMissingError: If the tool is not there, or the lock is older than the project; with
            the command that helps.
        FormatError: If the tool cannot read the lock.
    """
    tool = "poetry" if file.kind == POETRY_LOCK else "pdm"
    program = shutil.which(tool)
    if program is None:
        _refuse(file, tool, f"there is no `{tool}` on PATH to export it")
    files = {path: tree.read(path) or b"" for path, _ in _beside(tree, file)}
    files[file.path] = read_text(tree, file.path).encode()
    with tempfile.TemporaryDirectory(prefix="xmslurm-lock-") as place:
        for path, data in files.items():
            target = Path(place, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        folder = Path(place, file.folder)
        if tool == "pdm":
            _run((program, "lock", "--check"), folder, file, tool)
            return _run((program, "export", "--format", "pylock"), folder, file, tool)
        words = [program, "export", "--format", "pylock.toml", "--no-interaction", "--no-ansi"]
        words += [f"--with={name}" for name in choice.groups]
        words += [f"--extras={name}" for name in choice.extras]
        return _run(words, folder, file, tool)


def _beside(tree: Tree, file: LockFile) -> list[tuple[str, PathEntry]]:
    """The project's files, and those of folders below it that it may depend on."""
    prefix = f"{file.folder}/" if file.folder else ""
    found = []
    for entry in tree.entries():
        path = entry.path.decode("utf-8", "surrogateescape")
        name = PurePosixPath(path).name
        if path.startswith(prefix) and name in _FILES:
            found.append((path, entry))
    return found


def _run(words: Sequence[str], folder: Path, file: LockFile, tool: str) -> str:
    # Its own look for news of itself would only cost time, and a virtual environment of ours is
    # none of its business.
    quiet = ("env", "-u", "VIRTUAL_ENV", "PDM_CHECK_UPDATE=0", "PDM_IGNORE_ACTIVE_VENV=1")
    try:
        done = subprocess.run(
            [*quiet, *words], cwd=folder, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FormatError(f"{file.path}: {tool} cannot be run: {error}") from error
    if done.returncode == 0:
        return done.stdout.decode(errors="replace")
    said = (done.stderr + b"\n" + done.stdout).decode(errors="replace")
    if any(sign in said for sign in _NO_EXPORT):
        _refuse(file, tool, f"the `{tool}` on PATH cannot export it")
    if "--check" in words or any(sign in said for sign in _STALE):
        raise LockMissingError(
            f"{file.path} is older than {file.project_beside}",
            hint=f"Run `{tool} lock` and launch again.",
            details=_lines(said),
        )
    raise FormatError(
        f"{file.path}: {tool} cannot read it",
        hint=f"Run `{tool} lock` and launch again.",
        details=_lines(said),
    )


def _refuse(file: LockFile, tool: str, reason: str) -> NoReturn:
    where = f" in {file.folder}" if file.folder else ""
    raise LockMissingError(
        f"{file.path} is in a format of {tool}'s own, and {reason}",
        hint=f"Run `{_BY_HAND[tool]}`{where} and launch again.",
    )


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())[-12:]
