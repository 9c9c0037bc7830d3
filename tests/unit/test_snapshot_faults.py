"""What cannot be captured, and what changes while it is."""

from __future__ import annotations

import os
import random
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli import REPOSITORY
from tests.support.git_box import GitBox, fingerprint, with_submodule
from tests.support.nobody import as_nobody, open_to_all
from xmslurm_repro.errors import (
    ChangingFileError,
    UnreadableError,
    UsageError,
)
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.snapshot import EntryKind
from xmslurm_repro.snapshot import StoredTree, content, scan
from xmslurm_repro.snapshot.cache import Stamp
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.memory import MemoryObjectBatch, MemoryObjectStore
from xmslurm_repro.store.objects import DiskObjectStore
from xmslurm_repro.store.upkeep import DiskUpkeep


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    return GitBox(tmp_path / "box")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    with open_to_all() as folder:
        yield folder


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


def test_all_unreadable_files_and_folders_are_named_at_once(open_folder: Path):
    box = GitBox(open_folder / "box")
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
    box.write("a")
    box.commit()
    (box.root / ".git" / "index").chmod(0)

    with as_nobody(open_folder), pytest.raises(UnreadableError) as caught:
        box.capture()

    assert "index" in str(caught.value.details)


def test_a_start_that_is_no_folder_is_an_error(box: GitBox):
    with pytest.raises(UsageError):
        box.capture(start=box.root / "absent")


def test_a_file_that_changes_once_while_it_is_read_is_read_again(box: GitBox):
    place = box.write("log", "start")
    box.store = Meddling(b"start", grow(place), times=1)

    assert b"startmore" == box.content("log")


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

    assert b"START" == box.content("log")


def test_a_write_that_no_stamp_shows_is_noticed_in_a_file_that_is_new(
    box: GitBox, monkeypatch: pytest.MonkeyPatch
):
    place = box.write("log", "start")
    changed_at = place.stat().st_mtime_ns

    def coarse(found: os.stat_result) -> Stamp:
        return Stamp(changed_at, changed_at, found.st_size, found.st_ino, found.st_mode)

    # A clock that stands still, as a file's does while one long write goes on.
    monkeypatch.setattr(scan, "stamp", coarse)
    monkeypatch.setattr(content, "STAMP", coarse)

    # The very first read is torn: what comes after it in the store is not what is on the disk.
    box.store = Meddling(b"start", lambda: place.write_bytes(b"START"), times=1)

    assert b"START" == box.content("log")


def test_a_file_under_constant_fire_is_whole_or_an_error(box: GitBox):
    place = box.write("hot", b"A" * 2_000_000)
    box.write("cold", "1")
    box.commit()
    writer = subprocess.Popen([sys.executable, "-c", _FIRE, str(place)], stdout=subprocess.PIPE)
    try:
        assert b"begun\n" == writer.stdout.readline()
        seen: list[bytes | None] = []
        named: list[str] = []
        for _ in range(12):
            try:
                seen.append(box.content("hot"))
            except ChangingFileError as error:
                named += error.details
    finally:
        writer.kill()
        writer.communicate()

    assert all(len(set(data or b"")) == 1 for data in seen)
    assert {*named} <= {"hot"}


_FIRE = """
import os, random, sys, time
chance, descriptor = random.Random(5), os.open(sys.argv[1], os.O_WRONLY)
print("begun", flush=True)
while True:
    os.pwrite(descriptor, bytes([chance.choice(b"ABCDEFG")]) * 2_000_000, 0)
    time.sleep(0.2 * chance.random())
"""


def test_folders_that_come_and_go_do_not_stop_a_capture_or_are_named(box: GitBox):
    for number in range(50):
        box.write(f"kept/{number}", str(number))
    box.commit()
    churn = subprocess.Popen([sys.executable, "-c", _CHURN, str(box.root)], stdout=subprocess.PIPE)
    seen: list[list[bytes]] = []
    named: list[str] = []
    try:
        assert b"begun\n" == churn.stdout.readline()
        for _ in range(12):
            try:
                seen.append([path for path in box.paths() if path.startswith(b"kept/")])
            except ChangingFileError as error:
                named += error.details
    finally:
        churn.kill()
        churn.communicate()

    assert all(len(kept) == 50 for kept in seen)
    assert all(path.startswith(("come", "came")) for path in named)


_CHURN = """
import os, shutil, sys
print("begun", flush=True)
while True:
    for number in range(3):
        os.makedirs(f"{sys.argv[1]}/come{number}/deep", exist_ok=True)
        open(f"{sys.argv[1]}/come{number}/deep/file", "w").close()
        os.rename(f"{sys.argv[1]}/come{number}", f"{sys.argv[1]}/came{number}")
        shutil.rmtree(f"{sys.argv[1]}/came{number}")
"""


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device"])
def test_what_git_tracks_and_is_no_file_any_more_is_named_with_its_kind(box: GitBox, kind: str):
    for name in ("a", "b"):
        box.write(name)
    box.commit()
    for name in ("a", "b"):
        (box.root / name).unlink()
        if kind == "FIFO":
            os.mkfifo(box.root / name)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(box.root / name))
        elif os.geteuid() == 0:
            os.mknod(box.root / name, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        else:
            os.mkfifo(box.root / name)
            kind = "FIFO"

    with pytest.raises(UnreadableError) as caught:
        box.capture()

    assert tuple(f"{n}: git tracks it, but it is a {kind}" for n in "ab") == caught.value.details


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(box: GitBox):
    place = box.write("a", "start")
    other = box.folder / "other"
    other.write_bytes(b"other")
    box.store = Meddling(b"start", lambda: other.rename(place), times=1)

    assert b"other" == box.content("a")


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
    assert box.kind("c") is EntryKind.SYMLINK


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


_CAPTURE = """
import sys
from pathlib import Path
from xmslurm_repro.snapshot import capture
from xmslurm_repro.store.objects import DiskObjectStore

tree, objects, cache = map(Path, sys.argv[1:])
print("begun", flush=True)
capture(tree, store=DiskObjectStore(objects), cache_dir=cache, environment={})
print("done", flush=True)
"""


def test_a_killed_capture_leaves_the_work_tree_alone_and_the_store_whole(
    box: GitBox, tmp_path: Path
):
    chance, objects = random.Random(3), tmp_path / "objects"
    for number in range(300):
        box.write(f"d{number % 11}/f{number}", chance.randbytes(20_000))
    box.git("add", "d1", "d2")
    before, killed = fingerprint(box.root), 0
    words = [sys.executable, "-c", _CAPTURE, *map(str, (box.root, objects, tmp_path / "cache"))]
    for _ in range(6):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=REPOSITORY)
        assert b"begun\n" == process.stdout.readline()
        time.sleep(chance.random() * 0.3)
        process.kill()
        killed += b"done" not in process.communicate()[0]
        assert before == fingerprint(box.root)
        box.write("more", chance.randbytes(1000))
        before = fingerprint(box.root)
        store = DiskObjectStore(objects)
        upkeep = DiskUpkeep(
            objects=store, objects_root=objects, blobs=DiskBlobStore(tmp_path / "oci")
        )
        assert [] == list(upkeep.damage())

    assert killed
    store = DiskObjectStore(objects)
    assert box.listed() == [
        entry.path for entry in StoredTree(store, box.capture(store=store).root).entries()
    ]
    assert [] == [path for path in objects.rglob(".tmp-*") if path.is_file()]
