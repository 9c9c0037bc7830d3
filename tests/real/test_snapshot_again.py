"""`snapshot` where nothing has changed: the same words as the long way, and never of the past."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import Cli, git, make_project

PROGRAM = """
import sys
from xmslurm_repro.snapshot import witnesses
from xmslurm_repro.cli import main
witnesses.RACY_MARGIN_NS = -3_600_000_000_000  # everything is old enough to be remembered
main()
"""


@dataclass(frozen=True)
class Said:
    """What a run printed, how it ended, and whether it had to go the long way."""

    status: int
    out: bytes
    err: bytes
    is_long: bool


@dataclass
class Person:
    """Somebody who asks for snapshots in *folder*."""

    folder: Path
    home: Path
    env: dict[str, str]

    def ask(self, *words: str, **options: object) -> Said:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", PROGRAM, "snapshot", *words],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home / "user"),
                "XMSLURM_REPRO_HOME": str(self.home / "data"),
                **self.env,
            },
            stdin=subprocess.DEVNULL,
            capture_output="stdout" not in options,
            check=False,
            timeout=60,
            **options,
        )
        lines = (done.stderr or b"").splitlines(keepends=True)
        imports = [line for line in lines if line.startswith(b"import time:")]
        return Said(
            status=done.returncode,
            out=done.stdout,
            err=b"".join(line for line in lines if not line.startswith(b"import time:")),
            is_long=any(line.split()[-1] == b"click" for line in imports),
        )

    def forget(self) -> None:
        for path in (self.home / "data/cache").rglob("*.answer"):
            path.unlink()


@pytest.fixture
def person(tmp_path: Path) -> Person:
    folder = make_project(tmp_path / "p", {"a/b.py": "1\n", "c": "2\n", ".gitignore": "*.log\n"})
    (folder / "new.txt").write_text("untracked\n")
    (tmp_path / "home/user").mkdir(parents=True)
    return Person(folder=folder, home=tmp_path / "home", env={})


@pytest.mark.parametrize(
    "words", [(), ("--json",), ("--exclude", "c"), ("--no-git", "--include", "*.log")]
)
def test_the_second_answer_is_the_first_one_and_takes_no_click(
    person: Person, words: tuple[str, ...]
):
    first, second = person.ask(*words), person.ask(*words)

    assert (0, True, False) == (first.status, first.is_long, second.is_long)
    assert (first.out, first.err) == (second.out, second.err)
    assert person.ask(*words, "--exclude", "new.txt").is_long


def _configure(person: Person) -> None:
    place = person.home / "user/.config/xmslurm-repro/config.toml"
    place.parent.mkdir(parents=True)
    place.write_text('[snapshot]\nexclude = ["new.txt"]\n')


def _misconfigure(person: Person) -> None:
    (person.home / "user/.config/xmslurm-repro/config.toml").write_text("what = 1\n")


CHANGES: tuple[Callable[[Person], object], ...] = (
    lambda p: (p.folder / "c").write_text("3\n"),
    lambda p: (p.folder / "a/more").write_text(""),
    lambda p: (p.folder / "a/b.py").chmod(0o755),
    lambda p: (p.folder / "c").unlink(),
    lambda p: git(p.folder, "add", "."),
    lambda p: git(p.folder, "commit", "-qm", "x"),
    lambda p: git(p.folder, "update-ref", "refs/remotes/origin/main", "HEAD"),
    lambda p: git(p.folder, "remote", "add", "origin", "https://example.org/x"),
    lambda p: git(p.folder, "checkout", "-qb", "other"),
    lambda p: (p.folder / ".git/info/exclude").write_text("new.txt\n"),
    _configure,
    lambda p: p.env.update(XMSLURM_REPRO_EXTRAS="x"),
    lambda p: p.env.update(XMSLURM_REPRO_NONSENSE="x"),
    lambda p: p.env.pop("XMSLURM_REPRO_NONSENSE"),
    lambda p: shutil.rmtree(p.home / "data/objects"),
    _misconfigure,
)


def test_whatever_changes_the_answer_is_that_of_the_long_way(person: Person):
    for number, change in enumerate(CHANGES):
        person.ask()
        change(person)
        found = person.ask()
        person.forget()
        expected = person.ask()

        assert (number, True, True) == (number, found.is_long, expected.is_long)
        assert (number, expected) == (number, found)


def test_a_damaged_answer_is_none(person: Person):
    first = person.ask()
    [kept] = (person.home / "data/cache").rglob("*.answer")
    kept.write_bytes(kept.read_bytes()[:-3] + b"???")

    assert first == person.ask()


def test_nothing_is_kept_where_the_configuration_moves_the_caches(person: Person):
    place = person.home / "user/.config/xmslurm-repro/config.toml"
    place.parent.mkdir(parents=True)
    place.write_text(f'cache_dir = "{person.home}/elsewhere"\n')

    assert person.ask() == person.ask()
    assert [] == list(person.home.rglob("*.answer"))


def test_caches_that_the_environment_moves_are_found(person: Person):
    person.env["XMSLURM_REPRO_CACHE_DIR"] = "../elsewhere"
    first, second = person.ask(), person.ask()

    assert (first.out, True, False) == (second.out, first.is_long, second.is_long)


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_sees_the_same_colors(person: Person, env: dict[str, str]):
    person.env.update(env)
    plain = person.ask().out.replace(b"\n", b"\r\n")
    shown = []
    for _ in range(2):
        mine, theirs = os.openpty()
        said = person.ask(stdout=theirs, stderr=subprocess.PIPE)
        os.close(theirs)
        shown.append((said.is_long, os.read(mine, 65536)))
        os.close(mine)
    (was_long, first), (is_long, second) = shown

    assert (True, False, first) == (was_long, is_long, second)
    assert bool(env) == (plain == first)


def test_whoever_reads_no_further_sees_the_same_end(person: Person):
    person.ask()
    ends = []
    for _ in range(2):
        reading, writing = os.pipe()
        os.close(reading)
        ends.append(person.ask(stdout=writing, stderr=subprocess.PIPE))
        os.close(writing)
        person.forget()

    assert (False, True) == (ends[0].is_long, ends[1].is_long)
    assert (ends[1].status, ends[1].err) == (ends[0].status, ends[0].err)


def test_the_command_itself_does_it_too(tmp_path: Path):
    folder = make_project(tmp_path / "p", {"a": ""})
    cli = Cli(folder=folder, home=tmp_path / "home")

    assert cli.run("snapshot").stdout == cli.run("snapshot").stdout
