"""Submodules, nested repositories, and unusual kinds of repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.git_box import GitBox, with_submodule
from xmslurm_repro.errors import (
    UnreadableError,
)


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    return GitBox(tmp_path / "box")


def test_a_submodule_is_captured_with_its_changes_and_its_own_rules(box: GitBox):
    submodule = with_submodule(box)
    box.write("libs/one/lib.py", "2")
    box.write("libs/one/new.py")
    box.write("libs/one/x.o")
    box.write("y.o")

    snapshot = box.capture()

    head = box.git("rev-parse", "HEAD", cwd=submodule).strip().decode()
    assert [
        b".gitmodules",
        b"libs/one/.gitignore",
        b"libs/one/lib.py",
        b"libs/one/new.py",
        b"y.o",
    ] == box.paths(snapshot)
    assert (("libs/one", head),) == snapshot.origin.submodules
    assert (
        ("libs/one/lib.py", "modified"),
        ("libs/one/new.py", "untracked"),
        ("y.o", "untracked"),
    ) == snapshot.origin.changed


def test_a_submodule_at_another_commit_is_modified(box: GitBox):
    submodule = with_submodule(box)
    box.write("libs/one/lib.py", "2")
    box.git("commit", "-q", "-a", "-m", "local", cwd=submodule)

    assert (("libs/one", "modified"),) == box.capture().origin.changed


def test_a_submodule_that_is_not_checked_out_is_said_to_be_skipped(box: GitBox):
    with_submodule(box)
    box.git("submodule", "deinit", "-q", "-f", "libs/one")

    snapshot = box.capture()

    assert [b".gitmodules"] == box.paths(snapshot)
    assert (("libs/one", "the submodule is not checked out"),) == snapshot.origin.skipped
    assert () == snapshot.origin.changed


def test_what_lies_in_a_submodule_that_is_not_checked_out_is_captured_all_the_same(box: GitBox):
    with_submodule(box)
    box.git("submodule", "deinit", "-q", "-f", "libs/one")
    box.write("libs/one/stray.py", "1")

    assert [b".gitmodules", b"libs/one/stray.py"] == box.paths()


def test_a_submodule_whose_repository_is_lost_is_an_error(box: GitBox):
    with_submodule(box)
    shutil.rmtree(box.root / ".git" / "modules")

    with pytest.raises(UnreadableError) as caught:
        box.capture()

    assert ["libs/one: its `.git` does not lead to a repository"] == list(caught.value.details)


def test_submodules_of_submodules_are_captured(box: GitBox):
    middle = GitBox(box.folder / "middle")
    with_submodule(middle)
    box.git("submodule", "--quiet", "add", str(middle.root), "m")
    box.git("submodule", "--quiet", "update", "--init", "--recursive")
    box.commit()

    snapshot = box.capture()

    assert b"m/libs/one/lib.py" in box.paths(snapshot)
    assert ["m", "m/libs/one"] == [path for path, _ in snapshot.origin.submodules]


def test_a_nested_repository_is_captured_by_its_own_rules(box: GitBox):
    box.write(".gitignore", "*.py\nhidden/\n")
    box.commit()
    for name in ("nested", "hidden"):
        (box.root / name).mkdir()
        box.git("init", "-q", "-b", "main", cwd=box.root / name)
        box.write(f"{name}/.gitignore", "*.o\n")
        box.write(f"{name}/a.py")
        box.write(f"{name}/a.o")

    snapshot = box.capture()

    assert [b".gitignore", b"nested/.gitignore", b"nested/a.py"] == box.paths(snapshot)
    assert (("nested", "unborn"),) == snapshot.origin.submodules
    assert ("nested", "untracked") in snapshot.origin.changed


def test_a_linked_work_tree_is_captured_with_the_shared_exclude_file(box: GitBox):
    box.write("a", "1")
    box.commit()
    box.git("worktree", "add", "-q", "-b", "side", str(box.folder / "linked"))
    (box.root / ".git" / "info" / "exclude").write_text("*.log\n")
    (box.folder / "linked" / "x.log").write_text("")
    (box.folder / "linked" / "b").write_text("")

    snapshot = box.capture(start=box.folder / "linked")

    assert [b"a", b"b"] == box.paths(snapshot)
    assert "side" == snapshot.origin.branch
    assert (("b", "untracked"),) == snapshot.origin.changed


def test_a_folder_called_git_that_is_no_repository_is_not_one(box: GitBox):
    box.write("sub/.git/not-a-repository", "1")
    box.write("sub/a")
    box.write("file/.git", "nonsense")
    box.write("file/b")

    assert box.listed() == box.paths() == [b"file/b", b"sub/a"]


def test_a_sha256_repository_is_captured(tmp_path: Path):
    box = GitBox(tmp_path / "box", init=False)
    box.git("init", "-q", "-b", "main", "--object-format=sha256")
    box.write("a", "1")
    box.write("b/c", "2")
    box.commit()
    box.write("a", "3")
    box.git("add", "a")

    snapshot = box.capture()

    assert box.git("rev-parse", "HEAD").strip().decode() == snapshot.origin.commit
    assert (("a", "modified"),) == snapshot.origin.changed


def test_a_shallow_clone_is_captured(tmp_path: Path):
    upstream = GitBox(tmp_path / "upstream")
    upstream.write("a", "1")
    upstream.commit()
    box = GitBox(tmp_path / "box", init=False)
    box.git("clone", "-q", "--depth=1", f"file://{upstream.root}", ".")
    box.write("a", "2")

    assert (("a", "modified"),) == box.capture().origin.changed
