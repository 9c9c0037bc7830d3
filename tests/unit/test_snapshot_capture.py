"""What a captured work tree holds: files, bytes, modes, links."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.git_box import GitBox
from xmslurm_repro.errors import (
    FormatError,
)
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.snapshot import EntryKind, Origin
from xmslurm_repro.snapshot import StoredTree, find_work_tree
from xmslurm_repro.store.objects import DiskObjectStore


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    return GitBox(tmp_path / "box")


def test_staged_unstaged_and_untracked_changes_are_captured_as_they_are_on_disk(box: GitBox):
    box.write("staged", "old")
    box.write("edited", "old")
    box.commit()
    box.write("staged", "staged")
    box.git("add", "staged")
    box.write("staged", "later")
    box.write("edited", "new")
    box.write("untracked/file", "new")

    assert [b"edited", b"staged", b"untracked/file"] == box.paths()
    assert b"later" == box.content("staged")
    assert b"new" == box.content("edited")


def test_deleted_files_are_not_captured(box: GitBox):
    box.write("a")
    box.write("b")
    box.commit()
    (box.root / "a").unlink()
    box.git("rm", "-q", "b")

    assert [] == box.paths()


def test_the_exec_bit_is_taken_from_disk_even_where_git_ignores_it(box: GitBox):
    box.write("tool", "#!/bin/sh\n")
    box.commit()
    box.git("config", "core.fileMode", "false")
    (box.root / "tool").chmod(0o744)

    assert box.kind("tool") is EntryKind.EXECUTABLE
    assert () == box.capture().origin.changed


@pytest.mark.parametrize("target", ["real", "nowhere", "/etc/passwd", "../..", "folder"])
def test_links_are_captured_as_text_and_never_followed(box: GitBox, target: str):
    box.write("real")
    box.write("folder/inner")
    (box.root / "link").symlink_to(target)

    assert [b"folder/inner", b"link", b"real"] == box.paths()
    entry = StoredTree(box.store, box.capture().root).find("link")
    assert entry is not None
    assert entry.kind is EntryKind.SYMLINK
    assert os.fsencode(target) == box.store.get(entry.digest)


def test_a_tracked_folder_that_became_a_link_is_a_link(box: GitBox):
    box.write("folder/inner")
    box.write("other/inner")
    box.commit()
    shutil.rmtree(box.root / "folder")
    (box.root / "folder").symlink_to("other")

    assert [b"folder", b"other/inner"] == box.paths()


def test_no_filter_and_no_end_of_line_rule_applies(box: GitBox):
    box.git("config", "core.autocrlf", "true")
    box.git("config", "filter.redact.clean", "sed s/abc/XXX/")
    box.write(".gitattributes", "*.key filter=redact\n*.gone export-ignore\n*.id ident\n")
    raw = {"mixed.txt": b"a\r\nb\n", "x.key": b"PASSWORD=abc\n", "y.gone": b"1", "z.id": b"$Id$"}
    for name, data in raw.items():
        box.write(name, data)
    box.commit()

    assert raw == {name: box.content(name) for name in raw}


def test_names_need_not_be_utf_8(box: GitBox):
    names = [b"\xff\xfe", b"new\nline", b"tab\tand space", b"-dash", b"e\xcc\x81", b"\xc3\xa9"]
    for name in names:
        box.write(os.fsencode("d/") + name, name)

    snapshot = box.capture()

    assert sorted(b"d/" + name for name in names) == box.paths(snapshot)
    text = canonical_json(snapshot.origin.to_json())
    assert snapshot.origin == Origin.from_json(Reader.of_json(text, "origin"))


def test_a_very_large_file_is_captured(tmp_path: Path):
    box = GitBox(tmp_path / "box")
    with open(box.root / "big", "wb") as file:
        file.truncate(60_000_000)
        file.write(b"head")
        file.seek(60_000_000)
        file.write(b"tail")
    store = DiskObjectStore(tmp_path / "objects")

    snapshot = box.capture(store=store)

    assert 60_000_004 == snapshot.size_bytes
    with StoredTree(store, snapshot.root).open(
        next(iter(StoredTree(store, snapshot.root).entries())).digest
    ) as stream:
        shown = stream.read()
    assert (box.root / "big").read_bytes() == shown


def test_an_empty_work_tree_is_the_empty_node(box: GitBox):
    snapshot = box.capture()

    assert b"" == box.store.get(snapshot.root)
    assert (0, 0) == (snapshot.file_count, snapshot.size_bytes)


def test_counts_and_sizes_are_those_of_files_and_links(box: GitBox):
    box.write("a/b", "123")
    box.write("a/c", "4567")
    (box.root / "l").symlink_to("a/b")

    snapshot = box.capture()

    assert (3, 10) == (snapshot.file_count, snapshot.size_bytes)


def test_a_capture_may_start_in_any_folder_of_the_work_tree(box: GitBox):
    box.write("a/b/c", "1")
    box.write("top", "2")

    assert box.capture().root == box.capture(start=box.root / "a" / "b").root
    assert box.root == find_work_tree(box.root / "a" / "b")


@pytest.mark.parametrize("index", ["--sparse-index", "--no-sparse-index"])
def test_a_sparse_checkout_is_captured_as_far_as_it_is_there(box: GitBox, index: str):
    for name in ("in/a", "out/b", "out/deep/c", "top"):
        box.write(name, name)
    box.commit()
    box.git("sparse-checkout", "set", "--cone", index, "in")

    snapshot = box.capture()

    assert [b"in/a", b"top"] == box.paths(snapshot)
    assert () == snapshot.origin.changed
    assert (("out", "the sparse checkout leaves it out"),) == snapshot.origin.skipped


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_files_that_git_was_told_to_overlook_are_not_overlooked(box: GitBox, flag: str):
    box.write("config", "old")
    box.commit()
    box.git("update-index", flag, "config")
    box.write("config", "edited")

    snapshot = box.capture()

    assert b"edited" == box.content("config")
    assert (("config", "modified"),) == snapshot.origin.changed


def test_a_merge_conflict_is_captured_with_its_markers(box: GitBox):
    box.write("a", "base\n")
    box.commit()
    box.git("checkout", "-q", "-b", "other")
    box.write("a", "other\n")
    box.commit()
    box.git("checkout", "-q", "main")
    box.write("a", "main\n")
    box.commit()
    box.git("merge", "other", check=False)

    snapshot = box.capture()

    assert b"<<<<<<<" in (box.content("a") or b"")
    assert (("a", "modified"),) == snapshot.origin.changed


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_every_version_of_the_index_is_read(box: GitBox, version: str):
    for name in ("a/one", "a/one-more", "b", "c/d/e"):
        box.write(name, name)
    box.write("later")
    box.commit()
    box.git("update-index", f"--index-version={version}")
    (box.root / "later").unlink()
    box.write("new")
    box.git("add", "-N", "new")

    snapshot = box.capture()

    assert box.listed() == box.paths(snapshot)
    assert (("later", "deleted"), ("new", "added")) == snapshot.origin.changed


def test_very_long_paths_are_read_from_the_index(box: GitBox):
    path = "/".join(["d" * 200] * 18) + "/" + "f" * 200
    folder = box.root
    for part in path.split("/")[:-1]:
        folder /= part
        folder.mkdir()
    (folder / path.split("/")[-1]).write_text("deep")
    box.commit()

    assert [path.encode()] == box.paths()
    assert () == box.capture().origin.changed


@pytest.mark.parametrize("damage", [b"", b"DIRC", b"DIRC\0\0\0\x02\0\0\xff\xff" + b"x" * 50, b"no"])
def test_a_damaged_index_is_an_error_that_names_it(box: GitBox, damage: bytes):
    (box.root / ".git" / "index").write_bytes(damage)

    with pytest.raises(FormatError) as caught:
        box.capture()

    assert str(box.root / ".git" / "index") in str(caught.value)


def test_rules_and_names_may_differ_in_case_where_git_was_told_so(box: GitBox):
    box.git("config", "core.ignoreCase", "true")
    box.write(".gitignore", "*.LOG\n/Build/\nx[A-B]z\n")
    for name in ("a.log", "A.Log", "build/x", "xaz", "kept"):
        box.write(name)

    assert box.listed() == box.paths() == [b".gitignore", b"kept"]
