"""What was captured and not written to disk yet: killed, cut off from power, and settled."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xmslurm_repro.errors import MissingObjectError, StoreError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.store.boots import are_there, this_boot
from xmslurm_repro.store.hashing import blake3_digest
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.objects import DiskObjectStore
from xmslurm_repro.store.upkeep import DiskUpkeep

MANY = [random.Random(i).randbytes(i * 100) for i in range(300)]
FEW = [b"one", b"two", b"three"]

BEFORE = "00000000-0000-4000-8000-000000000001.here"
NOW = "00000000-0000-4000-8000-000000000002.here"
ELSEWHERE = "00000000-0000-4000-8000-000000000003.there"


@pytest.fixture(params=[FEW, MANY], ids=["loose", "pack"])
def contents(request: pytest.FixtureRequest) -> list[bytes]:
    return request.param


def fill(store: DiskObjectStore, contents: list[bytes]) -> list[Digest]:
    with store.batch() as batch:
        return [batch.put(data) for data in contents]


def unsynced_in(root: Path) -> list[Path]:
    paths = (root / "unsynced").rglob("*")
    return sorted(path for path in paths if path.is_file() and path.name != ".lock")


def files_below(root: Path) -> set[str]:
    paths = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)) for path in paths}


def test_a_capture_waits_for_no_disk(tmp_path: Path, contents, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "home").mkdir()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)

    digests = fill(DiskObjectStore(tmp_path / "home/objects"), contents)

    assert [] == synced
    others = DiskObjectStore(tmp_path / "home/objects")
    assert contents == [others.get(digest) for digest in digests]


def test_after_settling_every_file_lies_in_its_place_and_was_synced_there(
    tmp_path: Path, contents, monkeypatch: pytest.MonkeyPatch
):
    store = DiskObjectStore(tmp_path, boot=NOW)
    fill(store, contents)
    names = {path.name for path in unsynced_in(tmp_path)}
    synced: set[tuple[int, int]] = set()
    real = os.fsync

    def watch(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.add((found.st_dev, found.st_ino))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    store.settle()

    assert {f"packs/{n}" if n.endswith("k") else f"{n[:2]}/{n}" for n in names} == files_below(
        tmp_path
    )
    for name in files_below(tmp_path):
        for path in (tmp_path / name, (tmp_path / name).parent, tmp_path):
            assert (path.stat().st_dev, path.stat().st_ino) in synced


def test_a_reader_goes_on_while_what_it_reads_is_settled(tmp_path: Path):
    data = random.Random(1).randbytes(12_000_000)
    store = DiskObjectStore(tmp_path)
    (digest,) = fill(store, [data])
    other = DiskObjectStore(tmp_path)

    with store.open(digest) as stream, other.open(digest) as others:
        begin = stream.read(1_000_000), others.read(1_000_000)
        store.settle()
        whole = begin[0] + stream.read(), begin[1] + others.read()

    assert (data, data) == whole


def test_who_finds_an_object_unsynced_settles_it_too(tmp_path: Path, contents):
    fill(DiskObjectStore(tmp_path), contents)
    finder = DiskObjectStore(tmp_path)
    digests = fill(finder, contents)

    finder.settle()

    assert [] == unsynced_in(tmp_path)
    assert all(finder.has(digest) for digest in digests)


def test_what_a_boot_before_left_whole_is_kept(tmp_path: Path, contents):
    before = DiskObjectStore(tmp_path, boot=BEFORE)
    digests = fill(before, contents)
    places = before.places(digest.hex for digest in digests)

    now = DiskObjectStore(tmp_path, boot=NOW)
    assert not now.has_places(places)
    assert not are_there(str(tmp_path), places)
    assert contents == [now.get(digest) for digest in digests]
    assert now.has_places(places)
    assert are_there(str(tmp_path), places)
    assert [] == unsynced_in(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros at the end", "zeros inside"])
def test_what_lost_power_before_it_was_written_is_as_if_it_had_never_been(
    tmp_path: Path, contents, damage: str
):
    before = DiskObjectStore(tmp_path, boot=BEFORE)
    digests = fill(before, contents)
    places = before.places(digest.hex for digest in digests)
    for path in unsynced_in(tmp_path):
        size = path.stat().st_size
        begin = {"empty": 0, "cut": size - 3, "zeros at the end": size - 9}.get(damage, size // 3)
        rest = b"" if damage in {"empty", "cut"} else bytes(min(9, size - begin))
        with open(path, "r+b") as file:
            if not rest:
                file.truncate(begin)
            file.seek(begin)
            file.write(rest)

    now = DiskObjectStore(tmp_path, boot=NOW)
    for digest in digests:
        with pytest.raises(MissingObjectError):
            now.get(digest)
    assert not now.has_places(places)
    assert [] == list(now.digests())
    assert digests == fill(now, contents)
    now.settle()
    assert contents == [DiskObjectStore(tmp_path).get(digest) for digest in digests]


def test_what_other_hosts_write_is_left_to_them_until_it_is_settled(tmp_path: Path, contents):
    there = DiskObjectStore(tmp_path, boot=ELSEWHERE)
    digests = fill(there, contents)
    theirs = unsynced_in(tmp_path)

    here = DiskObjectStore(tmp_path, boot=NOW)
    assert not any(here.has(digest) for digest in digests)
    fill(here, contents)
    here.settle()
    there.settle()

    assert theirs
    assert contents == [there.get(digest) for digest in digests]
    assert contents == [here.get(digest) for digest in digests]


def test_a_container_of_another_name_on_this_machine_shares_what_it_writes(tmp_path: Path):
    one = DiskObjectStore(tmp_path, boot=NOW)
    other = DiskObjectStore(tmp_path, boot=NOW.replace("here", "box"))
    digests = fill(one, MANY)

    assert MANY == [other.get(digest) for digest in digests]
    other.settle()
    assert [] == unsynced_in(tmp_path)


def test_pruning_takes_over_what_any_host_left(tmp_path: Path):
    objects = DiskObjectStore(tmp_path / "objects", boot=NOW)
    fill(objects, [b"mine"])
    kept = fill(DiskObjectStore(tmp_path / "objects", boot=ELSEWHERE), MANY)
    fill(DiskObjectStore(tmp_path / "objects", boot=BEFORE), FEW)
    upkeep = DiskUpkeep(
        objects=objects, objects_root=tmp_path / "objects", blobs=DiskBlobStore(tmp_path / "oci")
    )

    for _ in range(2):
        waste = upkeep.waste(set(kept), set(), kept_refs=set(), older_than_seconds=0)
        upkeep.remove(waste, set(kept))

    assert set(kept) == set(objects.digests())
    assert [] == unsynced_in(tmp_path / "objects")


def test_a_disk_that_fails_late_is_an_error_each_time_and_never_a_promise(
    tmp_path: Path, contents, monkeypatch: pytest.MonkeyPatch
):
    store, finder = DiskObjectStore(tmp_path), DiskObjectStore(tmp_path)
    digests = fill(store, contents)
    fill(finder, contents)

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="No space left") as caught:
            store.settle()
        store.settle_soon()
        for _ in range(len(contents)):
            with pytest.raises(StoreError):
                store.settle()

    # The system says it once: whoever relied on the file must not be told that all is well.
    assert "Free some space" in (caught.value.hint or "")
    with pytest.raises(StoreError, match="lost"):
        finder.settle()
    fill(store, contents)
    store.settle()
    assert contents == [DiskObjectStore(tmp_path).get(digest) for digest in digests]


def test_settling_in_the_background_says_later_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = DiskObjectStore(tmp_path)
    fill(store, MANY)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        store.settle_soon()
        with pytest.raises(StoreError, match="Input/output error"):
            store.settle()


def test_many_may_write_and_settle_at_once(tmp_path: Path):
    def write(number: int) -> list[Digest]:
        store = DiskObjectStore(tmp_path)
        digests = fill(store, [b"%d" % number, *MANY[number : number + 100], *FEW])
        store.settle_soon()
        store.settle()
        return digests

    with ThreadPoolExecutor(6) as pool:
        digests = [digest for found in pool.map(write, range(6)) for digest in found]

    assert [] == unsynced_in(tmp_path)
    store = DiskObjectStore(tmp_path)
    assert all(blake3_digest(store.get(digest)) == digest for digest in digests)


def test_one_store_may_be_written_and_settled_by_many_threads(tmp_path: Path):
    store = DiskObjectStore(tmp_path)

    def write(number: int) -> list[Digest]:
        found = []
        for turn in range(10):
            found += fill(
                store, [b"%d %d %d" % (number, turn, i) for i in range(40 * (turn % 2) + 3)]
            )
            store.settle()
        return found

    with ThreadPoolExecutor(4) as pool:
        digests = [digest for found in pool.map(write, range(4)) for digest in found]

    assert [] == unsynced_in(tmp_path)
    assert set(digests) == set(DiskObjectStore(tmp_path).digests())


SETTLING = """
import os, signal, sys
from pathlib import Path
from xmslurm_repro.store.objects import DiskObjectStore
root, step, left = Path(sys.argv[1]), sys.argv[2], [int(sys.argv[3])]
store = DiskObjectStore(root)
with store.batch() as batch:
    for i in range(300):
        batch.put(b"%d" % i * 50)
with store.batch() as batch:
    for i in range(3):
        batch.put(b"loose %d" % i)
real = getattr(os, step)
def dying(*args, **named):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **named)
setattr(os, step, dying)
store.settle()
print("settled")
"""


@pytest.mark.parametrize("step", ["fsync", "replace", "mkdir"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_killed_while_settling_nothing_is_lost(tmp_path: Path, step: str, count: int):
    words = [sys.executable, "-c", SETTLING, str(tmp_path), step, str(count)]
    done = subprocess.run(words, capture_output=True, check=False)

    assert -signal.SIGKILL == done.returncode or b"settled\n" == done.stdout
    store = DiskObjectStore(tmp_path)
    store.settle()
    assert [] == unsynced_in(tmp_path)
    for i in range(300):
        assert b"%d" % i * 50 == store.get(blake3_digest(b"%d" % i * 50))
    for i in range(3):
        assert b"loose %d" % i == store.get(blake3_digest(b"loose %d" % i))


def test_what_is_unsynced_on_this_boot_is_there(tmp_path: Path, contents):
    store = DiskObjectStore(tmp_path)
    places = store.places(digest.hex for digest in fill(store, contents))

    assert are_there(str(tmp_path), places)
    assert not are_there(str(tmp_path), [*places, "packs/other.pack"])


def test_this_boot_is_told_from_others():
    with open("/proc/sys/kernel/random/boot_id") as file:
        assert (this_boot() or "").startswith(file.read().strip() + ".")


def test_where_nothing_tells_one_boot_from_another_all_is_safe_at_once(tmp_path: Path, contents):
    store = DiskObjectStore(tmp_path, boot="")
    digests = fill(store, contents)

    assert not (tmp_path / "unsynced").exists()
    assert contents == [DiskObjectStore(tmp_path).get(digest) for digest in digests]
