"""What every `ObjectStore` promises, asked of the one on disk and the one in memory."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable
from pathlib import Path

import blake3
import pytest

from xmslurm_repro.errors import MissingObjectError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.ports.store import ObjectStore
from xmslurm_repro.store.memory import MemoryObjectStore
from xmslurm_repro.store.objects import DiskObjectStore

ABSENT = Digest.blake3("0" * 64)


def b3(data: bytes) -> Digest:
    return Digest.blake3(blake3.blake3(data).hexdigest())


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(params=["disk", "disk, safe at once", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    makers: dict[str, Callable[[], ObjectStore]] = {
        "disk": lambda: DiskObjectStore(tmp_path / "objects"),
        "disk, safe at once": lambda: DiskObjectStore(tmp_path / "objects", boot=""),
        "memory": MemoryObjectStore,
    }
    return makers[request.param]()


@pytest.mark.parametrize("data", [b"", b"a", b"x" * 5_000_000, noise(9_000_000)])
def test_what_is_put_is_named_by_its_blake3_and_comes_back(store: ObjectStore, data: bytes):
    digest = store.put(data)

    assert b3(data) == digest
    assert data == store.get(digest)
    assert data == store.open(digest).read()
    assert store.has(digest)


def test_putting_twice_is_putting_once(store: ObjectStore):
    first, second = store.put(b"same"), store.put(b"same")

    assert first == second
    assert [first] == list(store.digests())


def test_a_new_store_is_empty(store: ObjectStore):
    assert [] == list(store.digests())
    assert not store.has(ABSENT)


@pytest.mark.parametrize("ask", ["get", "open"])
def test_an_object_that_is_not_there_is_an_error_that_names_it(store: ObjectStore, ask: str):
    with pytest.raises(MissingObjectError) as caught:
        getattr(store, ask)(ABSENT)

    assert str(ABSENT) == caught.value.name


def test_a_sha256_names_no_object(store: ObjectStore):
    store.put(b"a")

    with pytest.raises(MissingObjectError):
        store.get(Digest.sha256(b3(b"a").hex))


@pytest.mark.parametrize("count", [1, 10, 500])
def test_after_a_batch_every_object_is_there(store: ObjectStore, count: int):
    contents = [noise(i * 7, seed=i) for i in range(count)]

    with store.batch() as batch:
        names = [batch.put(data) for data in contents]

    assert [b3(data) for data in contents] == names
    assert contents == [store.get(name) for name in names]
    assert set(names) == set(store.digests())
    assert len(set(names)) == len(list(store.digests()))


@pytest.mark.parametrize("count", [2, 500])
def test_a_batch_that_raises_leaves_the_store_as_it_was(store: ObjectStore, count: int):
    def fail() -> None:
        with store.batch() as batch:
            for i in range(count):
                batch.put(noise(100, seed=i))
            batch.put_stream(io.BytesIO(noise(5_000_000)))
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()

    assert [] == list(store.digests())


@pytest.mark.parametrize("size", [0, 1, 4194303, 4194304, 4194305, 8388608, 13_000_001])
def test_a_stream_comes_back_whatever_its_size(store: ObjectStore, size: int):
    data = noise(size)

    with store.batch() as batch:
        batch.put(b"before")
        found = batch.put_stream(io.BytesIO(data))
        batch.put(b"behind")

    assert (b3(data), size) == found
    assert data == store.get(found[0])
    assert b"before" == store.get(b3(b"before"))
    assert b"behind" == store.get(b3(b"behind"))


class Pipe(io.RawIOBase):
    """Cannot be rewound, and gives little at a time."""

    def __init__(self, data: bytes) -> None:
        self._source = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        part = self._source.read(min(len(buffer), 70_001))
        buffer[: len(part)] = part
        return len(part)


def test_a_stream_that_cannot_be_rewound_is_kept_too(store: ObjectStore):
    data = noise(9_000_001)

    with store.batch() as batch:
        first = batch.put_stream(Pipe(data))
        again = batch.put_stream(Pipe(data))

    assert first == again == (b3(data), len(data))
    assert data == store.get(first[0])
    assert [first[0]] == list(store.digests())


def test_a_stream_is_read_from_where_it_stands(store: ObjectStore):
    source = io.BytesIO(b"skip" + noise(6_000_000))
    source.seek(4)

    with store.batch() as batch:
        digest, size = batch.put_stream(source)

    assert (b3(noise(6_000_000)), 6_000_000) == (digest, size)


def test_one_object_put_twice_in_a_batch_is_there_once(store: ObjectStore):
    with store.batch() as batch:
        batch.put(b"a")
        batch.put_stream(io.BytesIO(b"a"))

    assert [b3(b"a")] == list(store.digests())


def test_a_stream_can_be_read_in_small_pieces(store: ObjectStore):
    data = noise(5_000_000)
    digest = store.put(data)

    with store.open(digest) as stream:
        pieces = [stream.read(65_537) for _ in range(77)]

    assert data == b"".join(pieces)


@pytest.mark.parametrize("count", [1, 500])
def test_places_last_as_long_as_what_lies_in_them(store: ObjectStore, count: int):
    with store.batch() as batch:
        digests = [batch.put(noise(i * 7, seed=i)) for i in range(count)]
    places = store.places(digest.hex for digest in digests)

    assert store.has_places(places)
    assert store.has_places([])
    assert frozenset() == store.places([])


def test_other_stores_have_other_places(store: ObjectStore, tmp_path: Path):
    digest = store.put(b"a")

    assert not type(store)(*_root_of(store, tmp_path / "other")).has_places(
        store.places([digest.hex])
    )


def _root_of(store: ObjectStore, folder: Path) -> tuple[Path, ...]:
    return (folder,) if isinstance(store, DiskObjectStore) else ()


def test_what_is_not_there_has_no_place(store: ObjectStore):
    digest = store.put(b"a")

    with pytest.raises(MissingObjectError) as caught:
        store.places([digest.hex, ABSENT.hex])

    assert str(ABSENT) == caught.value.name


def test_what_was_settled_is_there_as_before(store: ObjectStore):
    with store.batch() as batch:
        digests = [batch.put(noise(i * 7, seed=i)) for i in range(500)]
    one = store.put(b"one")
    places = store.places([one.hex, *(digest.hex for digest in digests)])

    store.settle_soon()
    store.settle()
    store.settle()

    assert places == store.places([one.hex, *(digest.hex for digest in digests)])
    assert store.has_places(places)
    assert noise(70, seed=10) == store.get(digests[10])
    assert {one, *digests} == set(store.digests())


@pytest.mark.parametrize("size", [0, 1, 2_097_151, 2_097_152, 5_000_001])
def test_a_file_is_kept_as_it_is_read(store: ObjectStore, tmp_path: Path, size: int):
    (tmp_path / "file").write_bytes(noise(size))
    hasher = hashlib.sha1()

    with store.batch() as batch, open(tmp_path / "file", "rb") as file:
        digest, count = batch.put_file(file.fileno(), size, hasher)

    assert (b3(noise(size)), size) == (Digest.blake3(digest.hex()), count)
    assert noise(size) == store.get(b3(noise(size)))
    assert hashlib.sha1(noise(size)).digest() == hasher.digest()
    assert batch.places() == store.places([digest.hex()])


@pytest.mark.parametrize("size", [10, 5_000_000])
@pytest.mark.parametrize("difference", [-1, 1])
def test_a_file_of_another_size_than_it_should_be_is_told_by_what_was_read(
    store: ObjectStore, tmp_path: Path, size: int, difference: int
):
    (tmp_path / "file").write_bytes(noise(size))

    with store.batch() as batch, open(tmp_path / "file", "rb") as file:
        _, count = batch.put_file(file.fileno(), size + difference)

    assert count == size if difference > 0 else count == size + difference + 1


def test_a_file_with_holes_is_what_reading_it_gives(store: ObjectStore, tmp_path: Path):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.seek(9_000_000)
        file.write(noise(3_000_000))
        file.truncate(31_000_000)
    hasher = hashlib.sha1()

    # The second time the store may hold it.
    for data in (b"", b"x"):
        with store.batch() as batch, open(path, "rb") as file:
            batch.put(data)
            digest, count = batch.put_file(file.fileno(), 31_000_000, hasher)

        assert (b3(path.read_bytes()), 31_000_000) == (Digest.blake3(digest.hex()), count)
    assert path.read_bytes() == store.get(b3(path.read_bytes()))
    assert hashlib.sha1(path.read_bytes() * 2).digest() == hasher.digest()
