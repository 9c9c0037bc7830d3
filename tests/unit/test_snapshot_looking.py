"""Which of many paths have changed, found by any number of processes."""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from xmslurm_repro.snapshot import looking
from xmslurm_repro.snapshot.looking import NEVER, STAMP, find_changed


class Tree:
    """Files below a folder, with the stamps that they had."""

    def __init__(self, root: Path, count: int) -> None:
        self.root = os.fsencode(root)
        self.paths = [b"d%d/%d" % (number % 3, number) for number in range(count)]
        for path in self.paths:
            place = root / os.fsdecode(path)
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(path)
        found = (STAMP(os.lstat(os.path.join(self.root, path))) for path in self.paths)
        self.stamps = b"".join(array("q", stamp).tobytes() for stamp in found)

    def changed(self, **options: int) -> list[int] | None:
        names, stamps = b"\0".join(self.paths), memoryview(self.stamps)
        return find_changed(self.root, names, stamps, **options)

    def path(self, number: int) -> bytes:
        return os.path.join(self.root, self.paths[number])


@pytest.fixture(params=["one", "two", "waiting", "two-waiting"])
def processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """However many processes look."""
    monkeypatch.setattr(looking, "_may_fork", lambda: request.param != "one")
    monkeypatch.setattr(looking, "_PROBE", 7)
    monkeypatch.setattr(looking, "_AT_ONCE", 16)
    if "two" in request.param:
        monkeypatch.setattr(looking, "_enough_for_two", lambda: 2)
    if "waiting" in request.param:
        waits = iter(range(0, 100_000, 100))
        monkeypatch.setattr(looking, "_waits", lambda: next(waits))
    return request.param


def test_nothing_is_found_where_nothing_changed(tmp_path: Path, processes: str):
    assert [] == Tree(tmp_path, 100).changed()


@pytest.mark.parametrize("count", [1, 2, 13, 14, 15, 97])
def test_what_changed_is_found_in_every_place(tmp_path: Path, processes: str, count: int):
    tree = Tree(tmp_path, count)
    for number in range(0, count, 3):
        os.chmod(tree.path(number), 0o600)
    os.unlink(tree.path(count - 1))
    expected = sorted({*range(0, count, 3), count - 1})

    assert expected == tree.changed()


def test_each_single_change_is_found(tmp_path: Path, processes: str):
    tree = Tree(tmp_path, 40)
    for number in range(40):
        os.truncate(tree.path(number), 0)
        expected = tree.changed()
        Path(os.fsdecode(tree.path(number))).write_bytes(b"new")

        assert [*range(number + 1)] == expected


def test_what_was_too_new_is_always_found(tmp_path: Path, processes: str):
    tree = Tree(tmp_path, 30)
    tree.stamps = tree.stamps[:80] + NEVER + tree.stamps[120:]

    assert [2] == tree.changed()


def test_whoever_goes_there_comes_back(tmp_path: Path, processes: str):
    tree = Tree(tmp_path, 30)
    os.truncate(tree.path(7), 0)
    before = Path.cwd()

    assert [7] == tree.changed(may_go=True)
    assert tree.changed(may_go=True, most=0) is None
    assert before == Path.cwd()


@pytest.mark.parametrize("most", [0, 1, 20, 59])
def test_more_changes_than_wanted_are_not_told_apart(tmp_path: Path, processes: str, most: int):
    tree = Tree(tmp_path, 60)
    before = tree.changed(most=most)
    for number in range(60):
        os.unlink(tree.path(number))

    assert [] == before
    assert tree.changed(most=most) is None


def test_a_folder_that_is_gone_is_no_unchanged_one(tmp_path: Path, processes: str):
    tree = Tree(tmp_path, 3)
    tree.root += b"-elsewhere"

    assert tree.changed() is None


def test_a_process_that_dies_has_seen_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(looking, "_may_fork", lambda: True)
    monkeypatch.setattr(looking, "_enough_for_two", lambda: 2)
    parent, part = os.getpid(), looking._changed

    def dies(*words: object) -> list[int]:
        if os.getpid() != parent:
            os._exit(0)
        return part(*words)

    monkeypatch.setattr(looking, "_changed", dies)
    before = children()

    assert Tree(tmp_path, 30).changed() is None
    assert before == children()


def children() -> set[str]:
    """The processes of this one that have not been waited for."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for text in lists for pid in text.read_text().split()}


def test_without_other_processes_one_looks_at_everything(
    tmp_path: Path, processes: str, monkeypatch: pytest.MonkeyPatch
):
    def fork() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", fork)
    tree = Tree(tmp_path, 60)
    for number in (3, 31, 59):
        os.truncate(tree.path(number), 0)
    before = len(os.listdir("/proc/self/fd"))

    assert [3, 31, 59] == tree.changed()
    assert before == len(os.listdir("/proc/self/fd"))


def test_a_machine_that_does_not_say_how_busy_it_is_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def unknown() -> tuple[float, float, float]:
        raise OSError("unobtainable")

    monkeypatch.setattr(os, "getloadavg", unknown)

    assert [] == Tree(tmp_path, 10).changed()
    assert looking._ENOUGH_FOR_BUSY == looking._enough_for_two()


def test_to_recognize_an_unchanged_tree_imports_next_to_nothing():
    script = "import sys, xmslurm_repro.snapshot.memory; print(*sorted(sys.modules), sep='\\n')"
    words = (sys.executable, "-I", "-c", script)
    before = subprocess.run(
        (sys.executable, "-I", "-c", "import sys; print(*sys.modules, sep='\\n')"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in set(loaded) - set(before) if "xmslurm_repro" not in name}

    assert ours <= {
        *("__future__", "_struct", "array", "blake3", "blake3.blake3", "functools", "struct"),
        *(
            "collections",
            "collections.abc",
            "_collections",
            "keyword",
            "operator",
            "_operator",
            "reprlib",
            "types",
        ),
        *("_functools", "itertools"),
    }
