"""The command line as a user runs it, in a project of its own with a store of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
QUICKSTART = REPOSITORY / "examples" / "quickstart" / "project"


@dataclass
class Cli:
    """
    Runs ``xmslurm-repro`` in *folder* with the store *home*.

    *prefix* are words before it, such as those that change the user; *env* is set on top.
    """

    folder: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    program: tuple[str, ...] = (sys.executable, "-m", "xmslurm_repro")

    def run(self, *words: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run it; *status* is what it has to end with, or ``None`` for anything."""
        done = subprocess.run(
            [*self.prefix, *self.program, *words],
            cwd=self.folder,
            env={**os.environ, "XMSLURM_REPRO_HOME": str(self.home), **self.env},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
        if status is not None and done.returncode != status:
            raise AssertionError(
                f"{words} ended with {done.returncode}, not {status}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def json(self, *words: str, status: int | None = 0) -> Any:
        """Run it with ``--json`` and read what it prints."""
        cut = words.index("--") if "--" in words else len(words)
        done = self.run(*words[:cut], "--json", *words[cut:], status=status)
        return json.loads(done.stdout)

    def launch(self, *words: str, options: tuple[str, ...] = ("--wait",), status: int = 0) -> Any:
        """Launch the command *words*; return the JSON document."""
        return self.json("launch", *options, "--", *words, status=status)


def git(folder: Path, *words: str) -> str:
    """Run git there, as nobody in particular."""
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=no"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


def make_project(folder: Path, files: dict[str, str]) -> Path:
    """A git repository with one commit of *files*."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def tree_state(folder: Path) -> dict[str, tuple[object, ...]]:
    """Bytes, modes and times of everything below *folder*, .git included."""
    state: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        if path.is_symlink():
            content: object = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        else:
            content = None
        state[str(path.relative_to(folder))] = (about.st_mode, about.st_mtime_ns, content)
    return state
