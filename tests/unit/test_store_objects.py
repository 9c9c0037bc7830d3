"""The object store on disk: its files, its damage, its neighbours."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from xmslurm_repro.errors import DigestMismatchError, IntegrityError, StoreError
from xmslurm_repro.store.hashing import blake3_digest
from xmslurm_repro.store.objects import DiskObjectStore


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def fill(store: DiskObjectStore, contents: list[bytes]) -> None:
    with store.batch() as batch:
        for data in contents:
            batch.put(data)
    store.settle()


def files_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name != ".lock")


def packs_of(root: Path) -> list[Path]:
    return sorted((root / "packs").glob("*.pack"))


MANY = [b"object %d\n" % i * (i % 50 + 1) for i in range(300)]


def test_a_loose_object_is_readable_with_zstd_and_b3sum(tmp_path: Path):
    store = DiskObjectStore(tmp_path)
    digest = store.put(b"hello\n")
    store.settle()

    path = tmp_path / digest.hex[:2] / f"{digest.hex}.zst"
    shown = subprocess.run(["zstd", "-dc", path], capture_output=True, check=True)

    assert b"hello\n" == shown.stdout
    assert blake3_digest(shown.stdout) == digest


def test_an_object_in_a_pack_is_readable_with_zstd_grep_tail_and_head(tmp_path: Path):
    fill(DiskObjectStore(tmp_path), [*MANY, noise(9_000_000)])
    (pack,) = packs_of(tmp_path)
    wanted = blake3_digest(MANY[123])

    script = """
        set -- $(grep -a -m1 "^$2 " "$1") "$1"
        zstd -dc "$4" | tail -c +$((10#$2 + 1)) | head -c $((10#$3))
    """
    shown = subprocess.run(
        ["bash", "-c", script, "bash", pack, wanted.hex], capture_output=True, check=False
    )

    assert MANY[123] == shown.stdout


def test_the_index_of_a_pack_is_sorted_and_counts_raw_bytes(tmp_path: Path):
    fill(DiskObjectStore(tmp_path), MANY)
    (pack,) = packs_of(tmp_path)

    raw = subprocess.run(["zstd", "-dc", pack], capture_output=True, check=True).stdout
    index = pack.read_bytes().partition(b"xmslurm-pack/1\n")[2].splitlines()
    objects = [line.split() for line in index if len(line) == 96]

    assert sorted(objects) == objects
    assert len(MANY) == len(objects)
    for name, start, size in objects:
        assert name.decode() == blake3_digest(raw[int(start) : int(start) + int(size)]).hex


def test_few_small_objects_are_loose_and_many_are_one_pack(tmp_path: Path):
    fill(DiskObjectStore(tmp_path / "few"), MANY[:10])
    fill(DiskObjectStore(tmp_path / "many"), MANY)
    fill(DiskObjectStore(tmp_path / "large"), [noise(300_000)])

    assert 10 == len(files_of(tmp_path / "few"))
    assert [1, 1] == [len(files_of(tmp_path / name)) for name in ("many", "large")]


def test_what_the_store_holds_is_not_written_again(tmp_path: Path):
    store = DiskObjectStore(tmp_path)
    fill(store, MANY)
    before = files_of(tmp_path)

    fill(DiskObjectStore(tmp_path), MANY)
    with store.batch() as batch:
        batch.put_stream(io.BytesIO(MANY[5]))

    assert before == files_of(tmp_path)


def test_a_large_stream_that_is_held_is_not_written_again(tmp_path: Path):
    fill(DiskObjectStore(tmp_path), [noise(5_000_000)])
    before = files_of(tmp_path)

    with DiskObjectStore(tmp_path).batch() as batch:
        batch.put_stream(io.BytesIO(noise(5_000_000)))

    assert before == files_of(tmp_path)


def test_files_and_folders_are_their_owners_only_whatever_the_umask(tmp_path: Path):
    previous = os.umask(0)
    try:
        store = DiskObjectStore(tmp_path / "new" / "objects")
        store.put(b"secret")
        fill(store, MANY)
    finally:
        os.umask(previous)

    for path in [tmp_path / "new", *(tmp_path / "new").rglob("*")]:
        assert (0o700 if path.is_dir() else 0o600) == stat.S_IMODE(path.stat().st_mode)


def test_a_reader_sees_packs_that_others_add_later(tmp_path: Path):
    reader = DiskObjectStore(tmp_path)
    assert [] == list(reader.digests())

    fill(DiskObjectStore(tmp_path), MANY)

    assert reader.has(blake3_digest(MANY[7]))
    assert MANY[8] == DiskObjectStore(tmp_path).get(blake3_digest(MANY[8]))


def test_get_sees_packs_that_others_add_later(tmp_path: Path):
    reader = DiskObjectStore(tmp_path)
    assert not reader.has(blake3_digest(MANY[7]))

    fill(DiskObjectStore(tmp_path), MANY)

    assert MANY[7] == reader.get(blake3_digest(MANY[7]))


def test_a_pack_that_was_merged_into_another_is_not_missed(tmp_path: Path):
    reader = DiskObjectStore(tmp_path / "a")
    fill(DiskObjectStore(tmp_path / "a"), MANY)
    assert reader.has(blake3_digest(MANY[0]))
    (old,) = packs_of(tmp_path / "a")

    fill(DiskObjectStore(tmp_path / "b"), [*MANY, b"one more"])
    (new,) = packs_of(tmp_path / "b")
    shutil.copy(new, old.parent)
    old.unlink()

    assert MANY[0] == reader.get(blake3_digest(MANY[0]))


def test_a_pack_that_went_away_is_noticed(tmp_path: Path):
    store = DiskObjectStore(tmp_path)
    fill(store, MANY)
    assert store.has(blake3_digest(MANY[0]))

    packs_of(tmp_path)[0].unlink()
    list(store.digests())

    assert not store.has(blake3_digest(MANY[0]))


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_damage_to_a_loose_object_is_noticed(tmp_path: Path, place: float):
    store = DiskObjectStore(tmp_path)
    digest = store.put(noise(100_000))
    (path,) = files_of(tmp_path)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)

    with pytest.raises(DigestMismatchError) as caught:
        store.get(digest)

    assert str(path) in str(caught.value)
    with pytest.raises(DigestMismatchError):
        store.open(digest).read()


def test_a_loose_object_that_was_cut_short_is_noticed(tmp_path: Path):
    store = DiskObjectStore(tmp_path)
    digest = store.put(noise(100_000))
    (path,) = files_of(tmp_path)
    os.truncate(path, 5_000)

    with pytest.raises(DigestMismatchError):
        store.get(digest)


def test_damage_to_a_block_of_a_pack_is_noticed_even_by_a_reader_of_exactly_its_size(
    tmp_path: Path,
):
    store = DiskObjectStore(tmp_path)
    data = noise(9_000_000)
    fill(store, [data])
    (path,) = files_of(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[8_900_000] ^= 1
    path.write_bytes(whole)

    stream = DiskObjectStore(tmp_path).open(blake3_digest(data))

    with pytest.raises(DigestMismatchError):
        [stream.read(1_000_000) for _ in range(9)]


def test_no_byte_of_a_pack_can_change_unnoticed(tmp_path: Path):
    contents = [b"%d" % i * 20 for i in range(40)]
    fill(DiskObjectStore(tmp_path / "good"), contents)
    (good,) = packs_of(tmp_path / "good")
    whole = good.read_bytes()
    damaged = tmp_path / "bad" / "packs" / good.name
    damaged.parent.mkdir(parents=True)

    for position in range(0, len(whole), 11):
        broken = bytearray(whole)
        broken[position] ^= 0x10
        damaged.write_bytes(broken)
        store = DiskObjectStore(tmp_path / "bad")
        for data in contents[::13]:
            with suppress(IntegrityError):
                assert data == store.get(blake3_digest(data))


def test_a_damaged_index_is_named_when_something_is_missed(tmp_path: Path):
    fill(DiskObjectStore(tmp_path), MANY)
    (pack,) = packs_of(tmp_path)
    os.truncate(pack, pack.stat().st_size - 10)
    store = DiskObjectStore(tmp_path)

    with pytest.raises(IntegrityError) as caught:
        store.get(blake3_digest(MANY[0]))

    assert any(str(pack) in line for line in caught.value.details)


def test_what_a_damaged_pack_held_can_be_put_again(tmp_path: Path):
    fill(DiskObjectStore(tmp_path), MANY)
    (pack,) = packs_of(tmp_path)
    os.truncate(pack, pack.stat().st_size - 10)
    store = DiskObjectStore(tmp_path)

    store.put(MANY[0])

    assert MANY[0] == store.get(blake3_digest(MANY[0]))


KILLED = """
import io, os, sys
from pathlib import Path
from xmslurm_repro.store.objects import DiskObjectStore
store = DiskObjectStore(Path(sys.argv[1]))
store.put(b"safe")
import random
with store.batch() as batch:
    for i in range(int(sys.argv[2])):
        batch.put(b"%d" % i)
    batch.put_stream(io.BytesIO(random.Random(0).randbytes(20_000_000)))
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("count", [3, 2000])
def test_a_writer_that_is_killed_leaves_the_store_as_it_was(tmp_path: Path, count: int):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert b"ready\n" == writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    litter = list((tmp_path / "incoming").iterdir())
    store = DiskObjectStore(tmp_path)

    assert litter
    assert [blake3_digest(b"safe")] == list(store.digests())
    store.put(b"next")
    assert [] == list((tmp_path / "incoming").iterdir())


KILLED_ANYWHERE = """
import sys
from pathlib import Path
from xmslurm_repro.store.objects import DiskObjectStore
store = DiskObjectStore(Path(sys.argv[1]))
for round in range(100000):
    with store.batch() as batch:
        for i in range(round % 70):
            batch.put(b"%d %d" % (round, i))
    print(round, flush=True)
"""


def test_a_writer_may_be_killed_at_any_moment(tmp_path: Path):
    for delay in (0.0, 0.003, 0.01, 0.02, 0.04):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED_ANYWHERE, tmp_path], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            signal.sigtimedwait([], delay)
            writer.send_signal(signal.SIGKILL)
            done = 0 + sum(1 for line in writer.stdout if line.endswith(b"\n"))
        store = DiskObjectStore(tmp_path)
        for digest in store.digests():
            store.get(digest)
        for number in range(done):
            for i in range(number % 70):
                assert store.has(blake3_digest(b"%d %d" % (number, i)))


def test_a_temporary_file_that_is_still_written_is_not_taken_for_litter(tmp_path: Path):
    slow = DiskObjectStore(tmp_path)
    with slow.batch() as batch:
        batch.put_stream(io.BytesIO(noise(5_000_000)))
        DiskObjectStore(tmp_path).put(b"somebody else")

    assert noise(5_000_000) == slow.get(blake3_digest(noise(5_000_000)))


def test_many_writers_and_readers_at_once_lose_nothing(tmp_path: Path):
    shared = [b"shared %d" % i for i in range(200)]

    def write(number: int) -> None:
        own = [b"own %d %d" % (number, i) for i in range(20 * number)]
        store = DiskObjectStore(tmp_path)
        fill(store, [*own, *shared])
        for data in [*own, *shared]:
            assert data == store.get(blake3_digest(data))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))

    names = list(DiskObjectStore(tmp_path).digests())
    assert len(set(names)) == len(names) == 200 + 20 * 15


def test_memory_does_not_grow_with_the_stream(tmp_path: Path):
    class Zeros(io.RawIOBase):
        left = 150_000_000

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:
            count = min(len(buffer), self.left)
            self.left -= count
            return count

    store = DiskObjectStore(tmp_path)
    tracemalloc.start()
    with store.batch() as batch:
        digest, size = batch.put_stream(Zeros())
    with store.open(digest) as stream:
        assert 150_000_000 == sum(len(part) for part in iter(lambda: stream.read(1 << 20), b""))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert 150_000_000 == size
    assert peak < 80_000_000


def test_a_store_that_cannot_be_written_is_a_store_error_with_a_hint(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreError) as caught:
        DiskObjectStore(tmp_path / "file" / "objects").put(b"a")

    assert caught.value.hint
    assert str(tmp_path / "file") in str(caught.value)


WRITER = """
import sys
from pathlib import Path
from xmslurm_repro.store.objects import DiskObjectStore
store = DiskObjectStore(Path(sys.argv[1]))
for round in range(12):
    with store.batch() as batch:
        for i in range(round * 8):
            batch.put(b"%d %d" % (round, i))
        batch.put(b"%s %d" % (sys.argv[2].encode(), round))
"""


def test_processes_that_write_the_same_objects_at_once_lose_nothing(tmp_path: Path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, str(number)])
        for number in range(3)
    ]
    reader = DiskObjectStore(tmp_path)
    while any(writer.poll() is None for writer in writers):
        for digest in list(reader.digests()):
            reader.get(digest)

    assert [0, 0, 0] == [writer.wait() for writer in writers]
    expected = {blake3_digest(b"%d %d" % (r, i)) for r in range(12) for i in range(r * 8)}
    expected |= {blake3_digest(b"%d %d" % (n, r)) for n in range(3) for r in range(12)}
    assert expected == set(reader.digests())
    assert [] == list((tmp_path / "incoming").iterdir())
