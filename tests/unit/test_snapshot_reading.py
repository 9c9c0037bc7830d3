"""Reading many files: what is asked for ahead, and what git's own files say of a commit."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.support.git_box import GitBox
from xmslurm_repro.snapshot import ahead, commit_tree
from xmslurm_repro.snapshot.ahead import Ahead
from xmslurm_repro.snapshot.commit_tree import quick_root_tree
from xmslurm_repro.snapshot.repository import find_repository


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    return GitBox(tmp_path)


def test_with_a_slow_disk_the_same_is_captured(box: GitBox, monkeypatch: pytest.MonkeyPatch):
    for number in range(3000):
        box.write(f"d{number % 40}/f{number}", b"%d" % number * (number % 50))
    box.write("large", random.Random(1).randbytes(5_000_000))
    (box.root / "d0/link").symlink_to("../large")
    usual = box.capture()
    asked: set[int] = set()
    real = os.posix_fadvise

    def advise(descriptor: int, *words: int) -> None:
        asked.add(os.fstat(descriptor).st_ino)
        real(descriptor, *words)

    monkeypatch.setattr(ahead, "_MUCH", 0)
    monkeypatch.setattr(os, "posix_fadvise", advise)
    for path in box.cache.iterdir():
        path.unlink()
    slow = box.capture()

    assert usual == slow
    assert len(asked) > 2000


def test_whoever_asks_ahead_stays_near_the_reader_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    waiting = [(b"%05d" % number,) for number in range(5000)]
    folder = os.open(tmp_path, os.O_RDONLY)
    opened: list[bytes] = []

    def fail(path: bytes, flags: int, *, dir_fd: int) -> int:
        opened.append(path)
        raise FileNotFoundError

    monkeypatch.setattr(ahead, "_MUCH", 0)
    monkeypatch.setattr(os, "open", fail)
    with Ahead(folder, waiting) as asking:
        asking.look(4000)
        while len(opened) < 1000:
            pass
        del waiting[2500:]
        asking.look(2500)
    monkeypatch.undo()
    os.close(folder)

    assert len(opened) == len(set(opened))
    assert min(opened) >= b"%05d" % (2500 - 1024)
    assert b"%05d" % 3999 in opened


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_the_tree_of_a_commit_is_read_as_git_reads_it(tmp_path: Path, is_packed, form: str):
    box = GitBox(tmp_path, init=False)
    box.git("init", "-q", f"--object-format={form}")
    for number in range(12):
        box.write("a", f"{number}")
        box.commit("x" * 900)
    commits = box.git("rev-list", "HEAD").decode().split()
    if is_packed:
        box.git("gc", "-q", "--aggressive", "--prune=now")
    repository = find_repository(box.root)

    found = {commit: quick_root_tree(repository, commit) for commit in commits}

    trees = box.git("log", "--format=%T").decode().split()
    wanted = dict(zip(commits, trees, strict=True))
    known = {commit: tree for commit, tree in found.items() if tree is not None}
    assert known.items() <= wanted.items()
    # Those that are stored as a difference are left to the library.
    assert len(known) == len(commits) or is_packed
    assert known


@pytest.mark.parametrize("what", ["missing", "a tree", "damaged", "not an index"])
def test_what_is_not_plainly_a_commit_is_left_to_the_library(box: GitBox, what: str):
    box.write("a", "1")
    box.commit()
    repository = find_repository(box.root)
    commit = box.git("rev-parse", "HEAD").decode().strip()
    place = box.root / ".git/objects" / commit[:2] / commit[2:]
    if what == "missing":
        commit = "0" * 40
    elif what == "a tree":
        commit = box.git("rev-parse", "HEAD^{tree}").decode().strip()
    elif what == "damaged":
        place.chmod(0o600)
        place.write_bytes(b"rubbish")
    else:
        box.git("gc", "-q")
        for path in (box.root / ".git/objects/pack").glob("*.idx"):
            path.chmod(0o600)
            path.write_bytes(b"\xfftOc\x00\x00\x00\x03" + bytes(2000))

    assert quick_root_tree(repository, commit) is None


def test_an_index_of_a_pack_with_large_positions_is_followed():
    name = bytes(range(20))
    index = commit_tree._INDEX_MAGIC + b"".join(
        (1 if byte >= name[0] else 0).to_bytes(4, "big") for byte in range(256)
    )
    index += name + bytes(4) + (1 << 31).to_bytes(4, "big") + (5 << 32).to_bytes(8, "big")
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    descriptor = os.memfd_create("index")
    os.write(descriptor, index)

    assert 5 << 32 == commit_tree._position(descriptor, name)
    assert commit_tree._position(descriptor, bytes(20)) is None
    os.close(descriptor)
