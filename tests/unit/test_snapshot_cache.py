"""What a capture remembers of the one before."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from tests.support.git_box import GitBox
from xmslurm_repro.snapshot import StoredTree, witnesses


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    return GitBox(tmp_path / "box")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take files for old enough to be remembered, however new they are."""
    monkeypatch.setattr(witnesses, "RACY_MARGIN_NS", -3_600_000_000_000)


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

    assert b"new" == box.content("a")


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
    assert b"1" == one.content("a")
    assert b"2" == two.content("a")


def test_the_cache_is_its_owners_only(box: GitBox):
    box.capture()

    assert 0o700 == stat.S_IMODE(box.cache.stat().st_mode)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in box.cache.iterdir()}
