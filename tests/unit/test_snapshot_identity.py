"""A clean snapshot is provably the commit, and people can see whether others have that."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support.git_box import GitBox, fingerprint
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.snapshot import Origin
from xmslurm_repro.snapshot import StoredTree, witnesses
from xmslurm_repro.snapshot.identity import identify


def origin_of(box: GitBox) -> Origin:
    snapshot = box.capture()
    return identify(
        box.root, snapshot, store=box.store, cache_dir=box.cache, environment=box.environment
    ).origin


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


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_ids_taken_down_at_the_capture_are_those_of_the_bytes_and_spare_a_second_reading(
    tmp_path: Path, hash_name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(witnesses, "RACY_MARGIN_NS", -3_600_000_000_000)
    box = GitBox(tmp_path / "box", init=False)
    box.git("init", "-q", "-b", "main", f"--object-format={hash_name}")
    fill(box)
    for number in range(100):
        box.write(f"many/{number}", f"{number}\r\n")
    box.write("large", bytes(range(256)) * 20_000)
    # What git would hold of these is something else: what counts is what lies there.
    box.write(".gitattributes", "many/* text eol=lf\n")
    inner = GitBox(tmp_path / "inner", init=False)
    inner.git("init", "-q", "-b", "main", f"--object-format={hash_name}")
    fill(inner)
    inner.commit()
    box.git("submodule", "--quiet", "add", str(inner.root), "sub")
    box.commit()
    snapshot = box.capture(with_git_ids=True)
    opened: list[Digest] = []
    real = StoredTree.open

    def watch(tree: StoredTree, digest: Digest) -> BinaryIO:
        opened.append(digest)
        return real(tree, digest)

    monkeypatch.setattr(StoredTree, "open", watch)
    quick = identify(
        box.root, snapshot, store=box.store, cache_dir=box.cache, environment=box.environment
    ).origin
    few = len(opened)
    for path in box.cache.iterdir():
        path.unlink()
    slow = identify(
        box.root, snapshot, store=box.store, cache_dir=box.cache, environment=box.environment
    ).origin

    assert quick.tree == slow.tree
    assert few < 40 < 100 < len(opened) - few


def test_ids_of_the_other_kind_are_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(witnesses, "RACY_MARGIN_NS", -3_600_000_000_000)
    box = GitBox(tmp_path / "box", init=False)
    box.git("init", "-q", "-b", "main", "--object-format=sha256")
    nested = GitBox(tmp_path / "other")
    for number in range(60):
        nested.write(f"n/{number}", f"{number}")
    nested.commit()
    box.write("a", "a")
    box.commit()
    nested.root.rename(box.root / "nested")

    snapshot = box.capture(with_git_ids=True)
    said = identify(
        box.root, snapshot, store=box.store, cache_dir=box.cache, environment=box.environment
    ).origin

    for path in box.cache.iterdir():
        path.unlink()
    assert (
        said
        == identify(
            box.root, snapshot, store=box.store, cache_dir=box.cache, environment=box.environment
        ).origin
    )


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


def test_bytes_that_git_converts_are_named_where_the_tree_is_the_commit_s(tmp_path: Path):
    box = GitBox(tmp_path / "box")
    box.write(".gitattributes", "* text=auto eol=crlf\n")
    box.write("a.txt", "one\r\n")
    box.commit()
    assert b"" == box.git("status", "--porcelain")

    origin = origin_of(box)

    assert origin.tree == origin.commit_tree
    assert ("a.txt",) == origin.converted
    assert origin == Origin.from_json(Reader.of_json(canonical_json(origin.to_json()), "origin"))


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
