"""A capture of a tree of which little has changed: like one that looks at everything, but quick."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.git_box import GitBox, wait_a_tick
from xmslurm_repro.errors import ChangingFileError, DoubtfulFilesError
from xmslurm_repro.model.choice import Choice
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.snapshot import capturing, content, witnesses
from xmslurm_repro.store.objects import DiskObjectStore


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take everything for old enough to be remembered, however new it is."""
    monkeypatch.setattr(witnesses, "RACY_MARGIN_NS", -3_600_000_000_000)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows with each capture that looks at everything."""
    found: list[Path] = []
    anew = capturing.capture_anew

    def counted(start: Path, **options: object) -> Snapshot:
        found.append(start)
        return anew(start, **options)

    monkeypatch.setattr(capturing, "capture_anew", counted)
    return found


STATES: dict[str, Callable[[GitBox], object]] = {
    "index-is-head": lambda box: None,
    "index-is-ahead": lambda box: (
        box.git("add", "a/modified"),
        box.git("rm", "-q", "--cached", "a/b.file"),
    ),
    "index-v4": lambda box: box.git("update-index", "--index-version", "4"),
    "conflict": lambda box: _conflict(box),
}


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    """A repository with a bit of everything."""
    box = GitBox(tmp_path / "box")
    other = GitBox(tmp_path / "other")
    other.write("inside", "x")
    other.write("deep/inside", "y")
    other.commit()
    box.git("submodule", "--quiet", "add", str(other.root), "sub")
    box.write("a/file", "old")
    box.write("a/b/file", "inner")
    box.write("a/b.file", "sorted between")
    box.write("tool", "#!/bin/sh\n", mode=0o755)
    (box.root / "link").symlink_to("a/file")
    box.write(".gitignore", "*.log\nignored/\n")
    box.write("ignored/file")
    box.commit()
    box.write("untracked/deep/file", "new")
    box.write("a/modified", "once")
    wait_a_tick(box)
    return box


def _conflict(box: GitBox) -> None:
    box.git("checkout", "-q", "-b", "theirs")
    box.write("tool", "theirs\n", mode=0o755)
    box.git("commit", "-qam", "theirs")
    box.git("checkout", "-q", "main")
    box.write("tool", "ours\n", mode=0o755)
    box.git("commit", "-qam", "ours")
    box.git("merge", "-q", "theirs", check=False)


def _save_by_rename(box: GitBox) -> None:
    box.write("a/.file.swp", "temporary")
    box.write("a/file~", "renamed over")
    os.replace(box.root / "a/file~", box.root / "a/file")
    (box.root / "a/.file.swp").unlink()


def _retarget(box: GitBox) -> None:
    (box.root / "link").unlink()
    (box.root / "link").symlink_to("tool")


def _become_file(box: GitBox) -> None:
    (box.root / "link").unlink()
    box.write("link", "no link any more")


def _edit_many(box: GitBox) -> None:
    for path in (
        "a/file",
        "a/b/file",
        "a/b.file",
        "tool",
        "sub/deep/inside",
        "untracked/deep/file",
    ):
        box.write(path, "all of them")


EDITS: dict[str, Callable[[GitBox], object]] = {
    "edit": lambda box: box.write("a/file", "edited"),
    "edit-and-undo": lambda box: (box.write("a/file", "edited"), box.write("a/file", "old")),
    "edit-below": lambda box: box.write("a/b/file", "edited"),
    "edit-removed-from-index": lambda box: box.write("a/b.file", "edited"),
    "edit-untracked": lambda box: box.write("untracked/deep/file", "edited"),
    "edit-of-added": lambda box: box.write("a/modified", "twice"),
    "edit-in-submodule": lambda box: box.write("sub/inside", "edited"),
    "edit-at-top": lambda box: box.write("tool", "edited"),
    "empty": lambda box: box.write("a/file", ""),
    "large": lambda box: box.write("a/file", os.urandom(5_000_000)),
    "touch": lambda box: os.utime(box.root / "a/file"),
    "exec-bit": lambda box: (box.root / "tool").chmod(0o644),
    "saved-by-rename": _save_by_rename,
    "retargeted": _retarget,
    "many": _edit_many,
    "temporary-file": lambda box: (box.write("a/x", ""), (box.root / "a/x").unlink()),
    "ignored-file": lambda box: box.write("ignored/file", "edited"),
}
LARGER: dict[str, Callable[[GitBox], object]] = {
    "new-file": lambda box: box.write("a/new", "new"),
    "new-ignored-file": lambda box: box.write("a/new.log", "new"),
    "deleted": lambda box: (box.root / "a/file").unlink(),
    "renamed": lambda box: (box.root / "a/file").rename(box.root / "a/other"),
    "swapped-kinds": lambda box: (
        (box.root / "tool").unlink(),
        (box.root / "tool").mkdir(),
    ),
    "link-becomes-file": _become_file,
    "folder-becomes-link": lambda box: (
        shutil.move(box.root / "untracked", box.folder / "elsewhere"),
        (box.root / "untracked").symlink_to(box.folder / "elsewhere"),
    ),
    "fifo": lambda box: ((box.root / "a/file").unlink(), os.mkfifo(box.root / "a/b/x")),
    "rules": lambda box: box.write(".gitignore", "untracked/\n"),
    "edit-and-stage": lambda box: (box.write("a/file", "staged"), box.git("add", "a/file")),
    "edit-and-commit": lambda box: (
        box.write("a/file", "x"),
        box.git("commit", "-qm", "x", "a/file", check=False),
    ),
    "attributes": lambda box: box.write(".gitattributes", "* -text\n"),
}


@pytest.mark.parametrize("state", STATES)
def test_an_edit_is_captured_without_looking_at_everything(
    box: GitBox, looks: list[Path], state: str
):
    STATES[state](box)
    box.capture()
    for name, edit in EDITS.items():
        wait_a_tick(box)
        edit(box)
        amended, again = box.capture(), box.capture()
        count = len(looks)
        forgetful = box.capture(cache_dir=box.folder / "fresh" / name)
        looks.pop()

        assert (name, forgetful, forgetful) == (name, amended, again)
        assert (name, 1) == (name, count)


@pytest.mark.parametrize("change", LARGER)
def test_what_is_more_than_an_edit_is_captured_all_the_same(box: GitBox, change: str):
    box.capture()
    wait_a_tick(box)
    LARGER[change](box)
    found = [box.capture() for _ in range(2)]
    forgetful = box.capture(cache_dir=box.folder / "fresh")

    assert [forgetful, forgetful] == found


def test_edits_follow_each_other(tmp_path: Path, looks: list[Path]):
    box = GitBox(tmp_path / "box")
    store = DiskObjectStore(tmp_path / "objects")
    box.write("a/b/c/file", "0")
    box.write("a/other", "0")
    box.commit()
    seen = []
    for number in range(20):
        wait_a_tick(box)
        box.write("a/b/c/file" if number % 3 else "a/other", str(number))
        seen.append(box.capture(store=store))
    forgetful = box.capture(cache_dir=box.folder / "fresh")

    assert forgetful == seen[-1]
    assert 20 == len({snapshot.root for snapshot in seen})
    assert 2 == len(looks)


def test_files_as_new_as_the_capture_are_read_again_and_no_others(
    tmp_path: Path, looks: list[Path], monkeypatch: pytest.MonkeyPatch
):
    box = GitBox(tmp_path / "box")
    box.write("old", "0")
    box.write("new", "0")
    box.commit()
    box.capture()
    wait_a_tick(box)
    monkeypatch.setattr(witnesses, "RACY_MARGIN_NS", 0)
    place = box.root / "new"
    place.write_text("1")
    # A file that is as new as the capture may be written to without a new stamp.
    os.utime(place, ns=(0, place.stat().st_mtime_ns + 3_600_000_000_000))
    first = box.capture()
    before = place.stat()
    place.write_text("2")
    os.utime(place, ns=(0, before.st_mtime_ns))
    second = box.capture()

    assert first.root != second.root
    assert box.capture(cache_dir=box.folder / "fresh") == second
    assert 2 == len(looks)


def test_doubtful_content_is_refused_as_ever(tmp_path: Path):
    box = GitBox(tmp_path / "box")
    box.write("notes", "nothing")
    wait_a_tick(box)
    box.capture(choice=Choice())
    wait_a_tick(box)
    box.write("notes", "-----BEGIN RSA PRIVATE KEY-----\n")

    with pytest.raises(DoubtfulFilesError):
        box.capture(choice=Choice())


def test_a_file_that_becomes_a_pointer_is_noted_as_ever(tmp_path: Path):
    box = GitBox(tmp_path / "box")
    box.write(".gitattributes", "*.bin filter=lfs\n")
    box.write("x.bin", "content")
    wait_a_tick(box)
    plain = box.capture(choice=Choice())
    wait_a_tick(box)
    box.write("x.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    pointer = box.capture(choice=Choice())
    box.write("x.bin", "content")
    wait_a_tick(box)

    assert ["x.bin"] == [path for path, _ in pointer.origin.notable]
    assert plain == box.capture(choice=Choice())


def test_a_file_that_changes_while_it_is_read_is_reported_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    box = GitBox(tmp_path / "box")
    place = box.write("file", "0")
    wait_a_tick(box)
    box.capture()
    read = content.ContentReader.read

    def write_and_read(reader: object, path: bytes, *words: object, **more: object) -> object:
        with place.open("a") as file:
            file.write("more")
        return read(reader, path, *words, **more)

    place.write_text("1")
    monkeypatch.setattr(content.ContentReader, "read", write_and_read)

    with pytest.raises(ChangingFileError):
        box.capture()


def test_a_store_that_lost_a_node_gets_everything_again(tmp_path: Path, looks: list[Path]):
    box = GitBox(tmp_path / "box")
    store = DiskObjectStore(tmp_path / "objects")
    box.write("a/file", "0")
    box.capture(store=store)
    wait_a_tick(box)
    box.write("a/file", "1")
    for path in (tmp_path / "objects").rglob("*"):
        if path.is_file():
            path.write_bytes(b"rubbish")
    damaged = box.capture(store=store, cache_dir=box.folder / "cache")

    assert box.capture(store=DiskObjectStore(tmp_path / "more"), cache_dir=box.folder / "f") == (
        damaged
    )
    assert 3 == len(looks)


def test_what_is_staged_while_an_edit_is_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    box = GitBox(tmp_path / "box")
    box.write("file", "0")
    box.write("other", "0")
    box.git("add", "file")
    box.git("commit", "-qm", "one")
    wait_a_tick(box)
    box.capture()
    wait_a_tick(box)
    box.write("file", "1")
    read = content.ContentReader.read

    def stage_and_read(reader: object, *words: object, **more: object) -> object:
        box.git("add", "other")
        return read(reader, *words, **more)

    monkeypatch.setattr(content.ContentReader, "read", stage_and_read)
    snapshot = box.capture()

    assert {"file": "modified", "other": "added"} == dict(snapshot.origin.changed)
