"""Capturing a work tree: what is in it, what is said of it, what is left alone."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.git_box import GitBox, fingerprint
from xmslurm_repro.errors import (
    ChangingFileError,
    FormatError,
    NoRepositoryError,
    UnbornHeadError,
    UnreadableError,
    UsageError,
)
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.snapshot import EntryKind, Origin
from xmslurm_repro.snapshot import StoredTree, cache, find_work_tree
from xmslurm_repro.store.memory import MemoryObjectBatch, MemoryObjectStore
from xmslurm_repro.store.objects import DiskObjectStore


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    return GitBox(tmp_path / "box")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take files for old enough to be remembered, however new they are."""
    monkeypatch.setattr(cache, "RACY_MARGIN_NS", -3_600_000_000_000)


class Reading:
    """A `Progress` that notes how many bytes each capture had to read."""

    def __init__(self) -> None:
        self.totals: list[int | None] = []
        self.read_bytes = 0

    def start(self, label: str, *, total: int | None = None, unit: str = "bytes") -> Reading:
        del label, unit
        self.totals.append(total)
        return self

    def advance(self, amount: int) -> None:
        self.read_bytes += amount

    def finish(self) -> None:
        pass


def read_bytes(box: GitBox, **options: object) -> int:
    reading = Reading()
    box.capture(progress=reading, **options)
    return reading.read_bytes


def content(box: GitBox, path: str) -> bytes | None:
    return StoredTree(box.store, box.capture().root).read(path)


def kind(box: GitBox, path: str) -> EntryKind | None:
    entry = StoredTree(box.store, box.capture().root).find(path)
    return entry.kind if entry else None


# --- what belongs to it


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
    assert b"later" == content(box, "staged")
    assert b"new" == content(box, "edited")


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

    assert kind(box, "tool") is EntryKind.EXECUTABLE
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

    assert raw == {name: content(box, name) for name in raw}


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

    assert b"edited" == content(box, "config")
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

    assert b"<<<<<<<" in (content(box, "a") or b"")
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


# --- repositories in it


def with_submodule(box: GitBox) -> Path:
    library = GitBox(box.folder / "library")
    library.write("lib.py", "1")
    library.write(".gitignore", "*.o\n")
    library.commit()
    box.git("submodule", "--quiet", "add", str(library.root), "libs/one")
    box.commit()
    return box.root / "libs" / "one"


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


# --- where there is no commit, or no repository


def test_no_repository_is_an_error_that_names_the_two_ways_out(tmp_path: Path):
    box = GitBox(tmp_path / "box", init=False)

    with pytest.raises(NoRepositoryError) as caught:
        box.capture()

    assert "git init" in (caught.value.hint or "")
    assert "--no-git" in (caught.value.hint or "")


def test_without_a_repository_the_folder_itself_is_captured_by_its_gitignore(tmp_path: Path):
    box = GitBox(tmp_path / "box", init=False)
    box.write(".gitignore", "*.log\n")
    box.write("a/b", "1")
    box.write("a/c.log")

    snapshot = box.capture(allow_no_repository=True)

    assert [b".gitignore", b"a/b"] == box.paths(snapshot)
    assert Origin() == snapshot.origin


def test_a_repository_without_a_commit_is_an_error_unless_allowed(tmp_path: Path):
    box = GitBox(tmp_path / "box", commit=False)
    box.write("staged")
    box.git("add", "staged")
    box.write("new")

    with pytest.raises(UnbornHeadError) as caught:
        box.capture()
    snapshot = box.capture(allow_unborn=True)

    assert "--allow-unborn" in (caught.value.hint or "")
    assert snapshot.origin.commit is None
    assert "main" == snapshot.origin.branch
    assert (("new", "untracked"), ("staged", "added")) == snapshot.origin.changed


def test_a_work_tree_kept_elsewhere_is_refused(box: GitBox):
    box.git("config", "core.worktree", str(box.folder / "elsewhere"))
    (box.folder / "elsewhere").mkdir()

    with pytest.raises(NoRepositoryError, match="elsewhere"):
        box.capture()


# --- what it is a change of


def test_commit_and_branch_are_those_of_head(box: GitBox):
    box.write("a")
    box.commit()
    commit = box.git("rev-parse", "HEAD").strip().decode()
    on_branch = box.capture().origin
    box.git("pack-refs", "--all")
    packed = box.capture().origin
    box.git("checkout", "-q", "--detach")
    detached = box.capture().origin
    box.git("symbolic-ref", "HEAD", "refs/heads/main")
    box.git("checkout", "-q", "-b", "feature/x")

    assert (commit, "main") == (on_branch.commit, on_branch.branch)
    assert (commit, "main") == (packed.commit, packed.branch)
    assert (commit, None) == (detached.commit, detached.branch)
    assert "feature/x" == box.capture().origin.branch


def test_a_head_that_is_a_link_is_read(box: GitBox):
    commit = box.git("rev-parse", "HEAD").strip().decode()
    (box.root / ".git" / "HEAD").unlink()
    (box.root / ".git" / "HEAD").symlink_to("refs/heads/main")

    assert commit == box.capture().origin.commit


def test_changes_are_told_by_bytes_mode_and_presence(box: GitBox):
    for name in ("same", "edited", "mode", "gone", "staged", "type", "touched", "forgotten"):
        box.write(name, name)
    box.commit()
    box.write("edited", "EDITED")
    (box.root / "mode").chmod(0o755)
    (box.root / "gone").unlink()
    box.write("staged", "new")
    box.write("added", "new")
    box.git("add", "staged", "added")
    (box.root / "type").unlink()
    (box.root / "type").symlink_to("same")
    os.utime(box.root / "touched", (1, 1))
    box.git("rm", "-q", "--cached", "forgotten")
    box.write("untracked")

    assert {
        "edited": "modified",
        "mode": "modified",
        "gone": "deleted",
        "staged": "modified",
        "added": "added",
        "type": "modified",
        "untracked": "untracked",
    } == dict(box.capture().origin.changed)


def test_a_change_that_was_committed_is_none(box: GitBox):
    box.write("a", "1")
    box.commit()
    box.write("a", "2")
    before = box.capture()
    box.commit()
    after = box.capture()

    assert (("a", "modified"),) == before.origin.changed
    assert () == after.origin.changed
    assert before.root == after.root


def test_an_edit_of_the_same_size_within_one_tick_of_the_clock_is_seen(box: GitBox):
    for number in range(30):
        place = box.write("a", "old!")
        box.git("add", "a")
        box.git("commit", "-q", "--allow-empty", "-m", "x")
        stamp = place.stat().st_mtime_ns
        place.write_bytes(b"new%d" % (number % 10))
        os.utime(place, ns=(stamp, stamp))

        snapshot = box.capture()

        assert b"new%d" % (number % 10) == box.store.get(
            next(iter(StoredTree(box.store, snapshot.root).entries())).digest
        )
        assert (("a", "modified"),) == snapshot.origin.changed


def test_remotes_are_recorded_without_credentials(box: GitBox):
    urls = {
        "token": ("https://user:s3cret@example.org/a.git", "https://example.org/a.git"),
        "user": ("https://s3cret@example.org:8443/a.git", "https://example.org:8443/a.git"),
        "query": ("https://example.org/a.git?private_token=s3cret", "https://example.org/a.git"),
        "ssh": ("ssh://git:s3cret@example.org/a.git", "ssh://git@example.org/a.git"),
        "scp": ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        "path": ("/srv/a.git", "/srv/a.git"),
        "ipv6": ("https://u:s3cret@[::1]:8443/a", "https://[::1]:8443/a"),
        "broken": ("https://u:s3cret@[::1/a", "https://…"),
    }
    for name, (url, _) in urls.items():
        box.git("config", f"remote.{name}.url", url)

    remotes = dict(box.capture().origin.remotes)

    assert {name: kept for name, (_, kept) in urls.items()} == remotes
    for path in box.cache.iterdir():
        assert b"s3cret" not in path.read_bytes()


def test_settings_are_read_again_when_their_file_or_an_included_one_changes(box: GitBox):
    (box.home / ".gitconfig").write_text("[include]\n\tpath = more\n")
    (box.home / "more").write_text("[core]\n\texcludesFile = ~/ignored\n")
    (box.home / "ignored").write_text("*.log\n")
    box.write("a.log")
    box.write("b.tmp")
    first = box.paths()
    box.git("config", "core.excludesFile", str(box.home / "other"))
    (box.home / "other").write_text("*.tmp\n")
    second = box.paths()
    box.git("config", "--unset", "core.excludesFile")
    (box.home / "more").write_text("[core]\n\texcludesFile = /dev/null\n")

    assert [b"b.tmp"] == first
    assert [b"a.log"] == second
    assert [b"a.log", b"b.tmp"] == box.paths()


def test_a_broken_configuration_is_an_error_that_names_the_file(box: GitBox):
    (box.root / ".git" / "config").write_text("[core\n")

    with pytest.raises(FormatError) as caught:
        box.capture()

    assert str(box.root / ".git" / "config") in str(caught.value)


def test_a_repository_that_lost_the_commit_of_head_is_an_error(box: GitBox):
    box.write("a")
    box.commit()
    commit = box.git("rev-parse", "HEAD").strip().decode()
    (box.root / ".git" / "objects" / commit[:2] / commit[2:]).unlink()

    with pytest.raises(FormatError, match=commit):
        box.capture()


# --- what cannot be captured


def test_a_fifo_a_socket_and_a_device_are_skipped_and_recorded(box: GitBox):
    os.mkfifo(box.root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(box.root / "sock"))
    box.write(".gitignore", "ignored\n")
    os.mkfifo(box.root / "ignored")

    snapshot = box.capture()

    assert [b".gitignore"] == box.paths(snapshot)
    assert (("pipe", "it is a FIFO"), ("sock", "it is a socket")) == snapshot.origin.skipped


def test_a_tracked_file_that_became_a_fifo_is_an_error(box: GitBox):
    box.write("a")
    box.commit()
    (box.root / "a").unlink()
    os.mkfifo(box.root / "a")

    with pytest.raises(UnreadableError) as caught:
        box.capture()

    assert ["a: git tracks it, but it is a FIFO"] == list(caught.value.details)


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Be a user whom permissions bind, also where tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may reach; those of pytest are root's only."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="xmslurm-snapshot-"))
    yield folder
    subprocess.run(["chmod", "-R", "u+rwx", folder], check=True)
    shutil.rmtree(folder)


def test_all_unreadable_files_and_folders_are_named_at_once(open_folder: Path):
    box = GitBox(open_folder / "box")
    open_folder.chmod(0o755)
    for name in ("one", "fine", "closed/inner", "ignored/inner"):
        box.write(name, name)
    box.write(".gitignore", "ignored\n")
    for name in ("one", "closed", "ignored"):
        (box.root / name).chmod(0)

    with as_nobody(open_folder), pytest.raises(UnreadableError) as caught:
        box.capture()

    assert ["closed: Permission denied", "one: Permission denied"] == list(caught.value.details)
    assert caught.value.hint


def test_a_repository_that_cannot_be_read_is_an_error_that_names_the_file(open_folder: Path):
    box = GitBox(open_folder / "box")
    open_folder.chmod(0o755)
    box.write("a")
    box.commit()
    (box.root / ".git" / "index").chmod(0)

    with as_nobody(open_folder), pytest.raises(UnreadableError) as caught:
        box.capture()

    assert "index" in str(caught.value.details)


def test_a_start_that_is_no_folder_is_an_error(box: GitBox):
    with pytest.raises(UsageError):
        box.capture(start=box.root / "absent")


class Meddling(MemoryObjectStore):
    """A store during whose writing something happens to the work tree."""

    def __init__(self, when: bytes, meddle: Callable[[], None], times: int) -> None:
        super().__init__()
        self._when, self._meddle, self.left = when, meddle, times

    @contextmanager
    def batch(self) -> Iterator[MemoryObjectBatch]:
        with super().batch() as inner:
            put = inner.put

            def meddling(data: bytes) -> Digest:
                if data.startswith(self._when) and self.left:
                    self.left -= 1
                    self._meddle()
                return put(data)

            inner.put = meddling  # type: ignore[method-assign]
            yield inner


def grow(path: Path) -> Callable[[], None]:
    def meddle() -> None:
        with open(path, "ab") as file:
            file.write(b"more")

    return meddle


def test_a_file_that_changes_once_while_it_is_read_is_read_again(box: GitBox):
    place = box.write("log", "start")
    box.store = Meddling(b"start", grow(place), times=1)

    assert b"startmore" == content(box, "log")


def test_files_that_keep_changing_are_named(box: GitBox):
    box.write("fine", "fine")
    place = box.write("log", "start")
    store = Meddling(b"start", grow(place), times=99)

    with pytest.raises(ChangingFileError) as caught:
        box.capture(store=store)

    assert 99 - 3 == store.left
    assert ["log"] == list(caught.value.details)
    assert ".gitignore" in (caught.value.hint or "")
    assert [] == list(store.digests())


def test_a_rewrite_of_the_same_size_and_mtime_while_a_file_is_read_is_noticed(box: GitBox):
    place = box.write("log", "start")

    def meddle() -> None:
        stamp = place.stat().st_mtime_ns
        place.write_bytes(b"START")
        os.utime(place, ns=(stamp, stamp))

    box.store = Meddling(b"start", meddle, times=1)

    assert b"START" == content(box, "log")


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(box: GitBox):
    place = box.write("a", "start")
    other = box.folder / "other"
    other.write_bytes(b"other")
    box.store = Meddling(b"start", lambda: other.rename(place), times=1)

    assert b"other" == content(box, "a")


def test_a_file_that_is_renamed_while_others_are_read_is_not_lost(box: GitBox):
    box.write("a", "start")
    place = box.write("b", "moving")
    box.store = Meddling(b"start", lambda: place.rename(box.root / "c"), times=1)

    assert [b"a", b"c"] == box.paths()


def test_a_file_that_becomes_a_fifo_or_a_link_while_others_are_read_does_not_stop_us(box: GitBox):
    box.write("a", "start")
    place = box.write("b", "file")
    third = box.write("c", "file")

    def meddle() -> None:
        place.unlink()
        os.mkfifo(place)
        third.unlink()
        third.symlink_to("/etc/passwd")

    box.store = Meddling(b"start", meddle, times=1)

    assert [b"a", b"c"] == box.paths()
    assert kind(box, "c") is EntryKind.SYMLINK


# --- what is remembered


@pytest.mark.usefixtures("settled")
def test_an_unchanged_tree_is_not_read_again_and_one_edit_reads_one_file(box: GitBox):
    for number in range(20):
        box.write(f"d{number}/f", "x" * 100)
    box.commit()

    first = read_bytes(box)
    second = read_bytes(box)
    box.write("d3/f", "y" * 123)

    assert (2000, 0, 123) == (first, second, read_bytes(box))
    assert 0 == read_bytes(box)


def test_new_files_are_read_again_until_their_stamps_prove_something(box: GitBox):
    box.write("a", "x" * 100)
    new = [read_bytes(box), read_bytes(box)]
    time.sleep(2.1)
    box.write("b", "y" * 10)

    assert [100, 100] == new
    assert 110 == read_bytes(box)
    assert 10 == read_bytes(box)


@pytest.mark.usefixtures("settled")
def test_an_edit_that_keeps_size_and_mtime_is_seen(box: GitBox):
    place = box.write("a", "old")
    box.capture()
    stamp = place.stat()
    time.sleep(0.02)
    place.write_text("new")
    os.utime(place, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    assert b"new" == content(box, "a")


@pytest.mark.usefixtures("settled")
def test_what_the_store_lost_is_read_again(box: GitBox):
    box.write("a", "x" * 100)
    box.write("b", "y" * 10)
    root = box.capture().root
    entry = StoredTree(box.store, root).find("b")
    assert entry is not None
    del box.store.objects[entry.digest]

    assert 10 == read_bytes(box)
    assert b"y" * 10 == box.store.get(entry.digest)


@pytest.mark.usefixtures("settled")
def test_lost_nodes_are_written_again(box: GitBox):
    box.write("a/b", "1")
    root = box.capture().root
    del box.store.objects[root]

    assert root == box.capture().root
    assert [b"a/b"] == box.paths()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("place", [0, 30, 100, -1])
def test_a_damaged_cache_is_as_good_as_none(box: GitBox, place: int):
    box.write("a", "1")
    box.commit()
    box.write("a", "2")
    box.git("add", "a")
    right = box.capture()
    for path in box.cache.iterdir():
        data = bytearray(path.read_bytes())
        data[min(place, len(data) - 1)] ^= 1
        path.write_bytes(data)

    assert right == box.capture()
    for path in box.cache.iterdir():
        path.write_bytes(path.read_bytes()[:place])
    assert right == box.capture()


@pytest.mark.usefixtures("settled")
def test_two_work_trees_do_not_share_what_is_remembered(tmp_path: Path):
    one, two = GitBox(tmp_path / "one"), GitBox(tmp_path / "two")
    two.cache, two.store = one.cache, one.store
    one.write("a", "1")
    two.write("a", "2")

    assert one.capture().root != two.capture().root
    assert b"1" == content(one, "a")
    assert b"2" == content(two, "a")


def test_the_cache_is_its_owners_only(box: GitBox):
    box.capture()

    assert 0o700 == stat.S_IMODE(box.cache.stat().st_mode)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in box.cache.iterdir()}


# --- what is left alone


def test_nothing_is_written_to_the_work_tree_or_the_repository(box: GitBox):
    submodule = with_submodule(box)
    for name in ("a", "b", "c"):
        box.write(name, name)
    box.commit()
    box.write("a", "edited")
    box.write("new")
    box.git("add", "new")
    (box.root / "b").unlink()
    os.utime(box.root / "c", (5, 5))
    box.write("libs/one/lib.py", "edited")
    assert submodule.is_dir()
    before = fingerprint(box.root)

    box.capture()
    box.capture()

    assert before == fingerprint(box.root)


def test_a_work_tree_that_may_only_be_read_can_be_captured(open_folder: Path):
    box = GitBox(open_folder / "box")
    open_folder.chmod(0o755)
    box.write("a/b", "1")
    box.commit()
    box.write("a/c", "2")
    box.git("add", "a/c")
    box.cache = open_folder / "cache"
    box.cache.mkdir()
    subprocess.run(["chmod", "-R", "a-w", box.root], check=True)

    with as_nobody(open_folder):
        snapshot = box.capture()

    assert [b"a/b", b"a/c"] == box.paths(snapshot)
