"""Every path can be asked why it is in a snapshot, or out, and the answer agrees with git's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.git_box import GitBox
from xmslurm_repro.errors import UsageError
from xmslurm_repro.model.choice import Choice, Explanation
from xmslurm_repro.snapshot.explain import explain


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    box = GitBox(tmp_path / "box")
    box.write(".gitignore", "# comment\n\n*.log\nbuild/\n!keep.log\n")
    box.write("sub/.gitignore", "*.tmp\n")
    box.write("tracked.log", "x")
    box.write("gone.py", "x")
    box.git("add", "-f", "-A")
    box.commit()
    (box.root / "gone.py").unlink()
    box.write("plain.py", "x")
    box.write("a.log", "x")
    box.write("keep.log", "x")
    box.write("build/deep/x.py", "x")
    box.write("sub/a.tmp", "x")
    box.write("sub/a.orig", "x")
    box.write("sub/mine", "x")
    box.write(".env", "A=1")
    box.write("weights.bin", b"x" * 2000)
    box.write("data/in.csv", "x")
    (box.root / ".git/info/exclude").write_text("mine\n")
    (box.home / ".config/git").mkdir(parents=True)
    (box.home / ".config/git/ignore").write_text("*.orig\n")
    os.mkfifo(box.root / "fifo")
    return box


CHOICE = Choice(exclude=("data/",), include=("build/deep/",), max_file_bytes=1000)


def ask(box: GitBox, path: str, choice: Choice = CHOICE) -> Explanation:
    return explain(
        box.root, Path(path), choice=choice, cache_dir=box.cache, environment=box.environment
    )


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("tracked.log", "git tracks it"),
        ("plain.py", "untracked, and no rule ignores it"),
        ("build/deep/x.py", "the choice includes it"),
        ("sub", "a folder with 1 captured file"),
    ],
)
def test_why_a_path_is_in(box: GitBox, path: str, why: str):
    answer = ask(box, path)

    assert (True, why) == (answer.is_captured, answer.why)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("gone.py", "git tracks it, but it is deleted"),
        ("nowhere", "there is no such file"),
        ("fifo", "it is a FIFO"),
        (".env", "a launch asks before it captures it: its name looks like a secret's (.env)"),
        ("weights.bin", "a launch asks before it captures it: it is larger than 1.0 kB"),
        ("data/in.csv", "the choice excludes it, with data"),
        (".git/config", "it is git's own"),
    ],
)
def test_why_a_path_is_out(box: GitBox, path: str, why: str):
    answer = ask(box, path)

    assert (False, why) == (answer.is_captured, answer.why)


@pytest.mark.parametrize(
    "path", ["a.log", "build/deep/x.py", "sub/a.tmp", "sub/a.orig", "sub/mine"]
)
def test_the_rule_is_the_one_that_git_names(box: GitBox, path: str):
    source, line, rule = (
        box.git("check-ignore", "-v", path).decode().partition("\t")[0].rsplit(":", 2)
    )

    answer = ask(box, path, Choice())

    assert not answer.is_captured
    assert (rule, int(line)) == (answer.rule, answer.line)
    assert Path(box.root, source).resolve() == Path(box.root, answer.file or "").resolve()


def test_a_rule_that_keeps_a_file_is_named(box: GitBox):
    answer = ask(box, "keep.log")

    assert answer.is_captured
    assert ("!keep.log", ".gitignore", 5) == (answer.rule, answer.file, answer.line)


def test_explaining_agrees_with_capturing_for_every_path(box: GitBox):
    choice = Choice(exclude=("data/", ".env"), include=("build/deep/",), max_file_bytes=None)
    captured = set(box.paths(box.capture(choice=choice)))

    for place, folders, files in os.walk(os.fsencode(box.root)):
        folders[:] = [name for name in folders if name != b".git"]
        for name in files:
            path = os.path.relpath(os.path.join(place, name), os.fsencode(box.root))
            answer = ask(box, os.fsdecode(path), choice)
            assert (path in captured) == answer.is_captured, (path, answer)


def test_a_path_outside_is_refused(box: GitBox):
    with pytest.raises(UsageError, match="outside"):
        ask(box, "../home")


def test_what_lies_in_a_folder_that_is_left_out_has_its_reason(box: GitBox):
    box.write("d/.GIT/hooks/x", "1")

    found = ask(box, "d/.GIT/hooks/x")

    assert not found.is_captured
    assert "d/.GIT: git refuses this name" == found.why
