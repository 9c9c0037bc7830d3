"""A clean snapshot is provably the commit, and people can see whether others have that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.git_box import GitBox, fingerprint
from xmslurm_repro.model.snapshot import Origin
from xmslurm_repro.snapshot.identity import identify


def origin_of(box: GitBox) -> Origin:
    snapshot = box.capture()
    return identify(box.root, snapshot, store=box.store, cache_dir=box.cache).origin


def git_says(box: GitBox, what: str) -> str:
    return box.git("rev-parse", what).decode().strip()


def fill(box: GitBox) -> None:
    for name in ("a", "a.b", "a0", "d/x", "d.x", "d0/y", "deep/er/z", b"\xff"):
        box.write(name, name)
    box.write("run", "#!", mode=0o755)
    (box.root / "link").symlink_to("d")


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_a_clean_snapshot_has_the_tree_of_its_commit(tmp_path: Path, hash_name: str):
    box = GitBox(tmp_path / "box", init=False)
    box.git("init", "-q", "-b", "main", f"--object-format={hash_name}")
    fill(box)
    box.commit()
    before = fingerprint(box.root)

    origin = origin_of(box)

    assert git_says(box, "HEAD^{tree}") == origin.tree == origin.commit_tree
    assert before == fingerprint(box.root)


def test_a_changed_snapshot_has_the_tree_that_git_would_write(tmp_path: Path):
    box = GitBox(tmp_path / "box")
    fill(box)
    box.commit()
    first = origin_of(box)
    box.write("deep/er/new", "n")
    (box.root / "d0/y").unlink()
    second = origin_of(box)

    box.git("add", "-A")

    assert box.git("write-tree").decode().strip() == second.tree
    assert first.tree == second.commit_tree != second.tree


def test_a_clean_submodule_counts_as_its_commit_and_a_dirty_one_does_not(tmp_path: Path):
    inner = GitBox(tmp_path / "inner")
    inner.write("code.py", "x\n")
    inner.commit()
    box = GitBox(tmp_path / "box")
    box.git("submodule", "--quiet", "add", str(inner.root), "libs/inner")
    box.write("libs/inner.py", "y\n")
    box.commit()

    clean = origin_of(box)
    box.write("libs/inner/code.py", "z\n")
    dirty = origin_of(box)

    assert git_says(box, "HEAD^{tree}") == clean.tree
    assert clean.tree != dirty.tree


def test_bytes_that_a_filter_changed_are_not_the_commit(tmp_path: Path):
    box = GitBox(tmp_path / "box")
    box.write(".gitattributes", "* text=auto eol=crlf\n")
    box.write("a.txt", "one\r\n")
    box.commit()
    assert b"" == box.git("status", "--porcelain")

    origin = origin_of(box)

    assert origin.tree != origin.commit_tree


def test_whether_a_remote_has_the_commit(tmp_path: Path):
    upstream = GitBox(tmp_path / "upstream")
    for number in range(3):
        upstream.write("a", str(number))
        upstream.commit()
    box = GitBox(tmp_path / "box", init=False)
    box.git("clone", "-q", str(upstream.root), ".")

    assert origin_of(box).on_remote is True
    box.git("checkout", "-q", "HEAD~2")
    assert origin_of(box).on_remote is True
    box.git("checkout", "-q", "main")
    box.write("mine", "x")
    box.commit()
    assert origin_of(box).on_remote is False
    box.git("push", "-q", "origin", "HEAD:refs/heads/other")
    box.git("pack-refs", "--all")
    assert origin_of(box).on_remote is True
    box.git("commit", "-q", "--amend", "--allow-empty", "-m", "again")
    assert origin_of(box).on_remote is False


def test_a_shallow_clone_can_be_asked_too(tmp_path: Path):
    upstream = GitBox(tmp_path / "upstream")
    for number in range(3):
        upstream.write("a", str(number))
        upstream.commit()
    box = GitBox(tmp_path / "box", init=False)
    box.git("clone", "-q", "--depth", "1", f"file://{upstream.root}", ".")

    origin = origin_of(box)
    box.write("mine", "x")
    box.commit()

    assert origin.on_remote is True
    assert git_says(box, "HEAD~^{tree}") == origin.tree
    assert origin_of(box).on_remote is False
