"""What the last capture saw: an unchanged tree is not looked through, a changed one always is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.git_box import GitBox, wait_a_tick
from xmslurm_repro.errors import NoRepositoryError, UnbornHeadError
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.snapshot import capturing, looking, witnesses
from xmslurm_repro.store.objects import DiskObjectStore


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take everything for old enough to be remembered, however new it is."""
    monkeypatch.setattr(witnesses, "RACY_MARGIN_NS", -3_600_000_000_000)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows with each capture that looks through the whole tree."""
    found: list[Path] = []
    anew = capturing.capture_anew

    def counted(start: Path, **options: object) -> Snapshot:
        found.append(start)
        return anew(start, **options)

    monkeypatch.setattr(capturing, "capture_anew", counted)
    return found


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    """A repository with a bit of everything."""
    box = GitBox(tmp_path / "box")
    other = GitBox(tmp_path / "other")
    other.write("inside", "x")
    other.commit()
    box.git("submodule", "--quiet", "add", str(other.root), "sub")
    box.git("config", "user.name", "a", cwd=box.root / "sub")
    box.git("config", "user.email", "a@example.org", cwd=box.root / "sub")
    box.write("a/file", "old")
    box.write("tool", "#!/bin/sh\n", mode=0o755)
    (box.root / "link").symlink_to("a/file")
    box.write(".gitignore", "*.log\nignored/\n")
    box.write("a/quiet/.gitignore", "*\n")
    box.write("ignored/file")
    box.write("b.log")
    box.commit()
    box.write("untracked/deep/file", "new")
    box.write("a/file", "edited")
    wait_a_tick(box)
    return box


def test_an_unchanged_tree_is_not_looked_through_again(box: GitBox, looks: list[Path]):
    first = box.capture()
    second, third = box.capture(), box.capture()

    assert [first, first] == [second, third]
    assert 1 == len(looks)


def test_two_processes_find_what_one_finds(
    box: GitBox, looks: list[Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(looking, "_enough_for_two", lambda: 2)
    monkeypatch.setattr(looking, "_may_fork", lambda: True)
    first, again = box.capture(), box.capture()
    wait_a_tick(box)
    box.write("untracked/deep/file", "newer")
    changed = box.capture()
    wait_a_tick(box)
    box.write(".gitignore", "*.log\n")

    assert first == again
    assert first.root != changed.root != box.capture().root
    # The first time, and for other rules; one file is read without looking at all of them.
    assert 2 == len(looks)


def _edit_unseen(box: GitBox) -> None:
    place = box.root / "a/file"
    before = place.stat()
    place.write_text("EDITED")
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(box: GitBox) -> None:
    box.write("a/fresh", "edited")
    os.replace(box.root / "a/fresh", box.root / "a/file")


def _to_link(box: GitBox) -> None:
    (box.root / "untracked").rename(box.folder / "elsewhere")
    (box.root / "untracked").symlink_to(box.folder / "elsewhere")


def _retarget(box: GitBox) -> None:
    (box.root / "link").unlink()
    (box.root / "link").symlink_to("tool")


def _make_repository(box: GitBox) -> None:
    box.git("init", "-q", "-b", "main", cwd=box.root / "untracked/deep")
    box.git("commit", "-q", "--allow-empty", "-m", "x", cwd=box.root / "untracked/deep")


def _commit_below(box: GitBox) -> None:
    box.git("commit", "-q", "--allow-empty", "-m", "x", cwd=box.root / "sub")


CHANGES: dict[str, Callable[[GitBox], object]] = {
    "edit-of-same-size-and-mtime": _edit_unseen,
    "replaced-by-equal-file": _replace,
    "new-file": lambda box: box.write("new"),
    "new-file-below": lambda box: box.write("untracked/deep/more"),
    "new-folder": lambda box: box.write("newer/file"),
    "deleted": lambda box: (box.root / "tool").unlink(),
    "renamed": lambda box: (box.root / "a/file").rename(box.root / "a/other"),
    "exec-bit": lambda box: (box.root / "tool").chmod(0o644),
    "folder-becomes-link": _to_link,
    "link-has-new-target": _retarget,
    "folder-removed": lambda box: shutil.rmtree(box.root / "untracked"),
    "ignored-no-more": lambda box: box.write(".gitignore", "ignored/\n"),
    "uncaptured-rules": lambda box: box.write("a/quiet/.gitignore", "*\n!.gitignore\n"),
    "staged": lambda box: box.git("add", "untracked"),
    "committed": lambda box: box.commit(),
    "branch": lambda box: box.git("checkout", "-q", "-b", "other"),
    "detached": lambda box: box.git("checkout", "-q", "--detach"),
    "packed": lambda box: box.git("pack-refs", "--all"),
    "moved-by-plumbing": lambda box: box.git(
        "update-ref", "HEAD", box.git("commit-tree", "-m", "x", "HEAD^{tree}").decode().strip()
    ),
    "remote": lambda box: box.git("remote", "add", "origin", "https://example.org/x"),
    "file-mode": lambda box: box.git("config", "core.fileMode", "false"),
    "exclude-file": lambda box: Path(box.root, ".git/info/exclude").write_text("untracked/\n"),
    "excludes-file-appears": lambda box: (
        (box.home / ".config/git").mkdir(parents=True),
        (box.home / ".config/git/ignore").write_text("deep\n"),
    ),
    "user-config-appears": lambda box: (box.home / ".gitconfig").write_text(
        "[core]\n\texcludesFile = ~/mine\n"
    ),
    "submodule-edited": lambda box: box.write("sub/inside", "y"),
    "submodule-commit": _commit_below,
    "nested-repository": _make_repository,
    "submodule-without-repository": lambda box: (box.root / "sub/.git").unlink(),
    "no-repository": lambda box: shutil.rmtree(box.root / ".git"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_is_seen_as_if_nothing_had_been_remembered(box: GitBox, change: str):
    box.capture(allow_no_repository=True)
    assert box.capture(allow_no_repository=True)
    wait_a_tick(box)
    CHANGES[change](box)
    remembering = box.capture(allow_no_repository=True)
    forgetful = box.capture(allow_no_repository=True, cache_dir=box.folder / "fresh")

    assert forgetful == remembering
    assert forgetful == box.capture(allow_no_repository=True)


def test_a_folder_called_git_that_becomes_a_repository_is_seen(box: GitBox):
    (box.root / "untracked/deep/.git").mkdir()
    wait_a_tick(box)
    before, again = box.capture(), box.capture()
    _make_repository(box)
    after = box.capture()

    assert before == again
    assert {"sub"} == {path for path, _ in before.origin.submodules}
    assert {"sub", "untracked/deep"} == {path for path, _ in after.origin.submodules}


def test_what_the_store_lost_is_captured_again(box: GitBox, looks: list[Path], tmp_path: Path):
    store = DiskObjectStore(tmp_path / "objects")
    first = box.capture(store=store)
    box.capture(store=store)
    shutil.rmtree(tmp_path / "objects")
    store = DiskObjectStore(tmp_path / "objects")
    again = box.capture(store=store)

    assert first == again
    assert 2 == len(looks)
    assert store.has(first.root)


def test_another_store_gets_everything(box: GitBox, tmp_path: Path):
    box.capture(store=DiskObjectStore(tmp_path / "one"))
    other = DiskObjectStore(tmp_path / "two")
    snapshot = box.capture(store=other)

    assert other.has(snapshot.root)


def test_a_tree_without_git_is_remembered_too(tmp_path: Path, looks: list[Path]):
    box = GitBox(tmp_path / "box", init=False)
    box.write("file", "x")
    wait_a_tick(box)
    first, again = (box.capture(allow_no_repository=True) for _ in range(2))

    assert first == again
    assert 1 == len(looks)
    with pytest.raises(NoRepositoryError):
        box.capture()


def test_what_was_allowed_once_is_not_allowed_for_ever(tmp_path: Path):
    box = GitBox(tmp_path / "box", commit=False)
    box.write("file", "x")
    wait_a_tick(box)

    assert box.capture(allow_unborn=True) == box.capture(allow_unborn=True)
    with pytest.raises(UnbornHeadError):
        box.capture()


def test_another_home_has_other_rules(box: GitBox, tmp_path: Path):
    home = tmp_path / "home"
    (home / ".config/git").mkdir(parents=True)
    (home / ".config/git/ignore").write_text("untracked\n")
    before = box.paths()
    box.capture()
    other = box.capture(environment={**box.environment, "HOME": str(home)})

    assert set(before) - {b"untracked/deep/file"} == set(box.paths(other))


def test_a_damaged_memory_is_no_memory(box: GitBox, looks: list[Path]):
    first = box.capture()
    (memory,) = box.cache.glob("*.recall")
    data = bytearray(memory.read_bytes())
    data[len(data) // 2] ^= 1
    memory.write_bytes(data)

    assert first == box.capture()
    assert 2 == len(looks)


def test_a_tree_as_new_as_its_capture_is_not_remembered(
    box: GitBox, looks: list[Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(witnesses, "RACY_MARGIN_NS", 3_600_000_000_000)
    box.capture()
    box.capture()

    assert 2 == len(looks)
    assert [] == list(box.cache.glob("*.recall"))


def test_an_index_written_anew_with_the_same_bytes_is_the_same(box: GitBox, looks: list[Path]):
    box.capture()
    wait_a_tick(box)
    index = box.root / ".git/index"
    (box.root / ".git/fresh").write_bytes(index.read_bytes())
    (box.root / ".git/fresh").replace(index)
    box.capture()

    assert 1 == len(looks)


def test_an_index_without_a_checksum_is_known_by_its_stamp(box: GitBox, looks: list[Path]):
    index = box.root / ".git/index"
    index.write_bytes(index.read_bytes()[:-20] + bytes(20))
    wait_a_tick(box)
    first, again = box.capture(), box.capture()
    index.write_bytes(index.read_bytes())

    assert first == again == box.capture()
    assert 2 == len(looks)
