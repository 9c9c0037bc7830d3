"""A store on a disk that is full. Mounts a small file system, so it needs root."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.contract.test_record import NOON, TOKEN, receipt
from xmslurm_repro.errors import StoreError
from xmslurm_repro.model.snapshot import EntryKind, TreeEntry, encode_node
from xmslurm_repro.snapshot import StoredTree
from xmslurm_repro.snapshot.checkout import checkout
from xmslurm_repro.store.hashing import blake3_digest
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.memory import MemoryObjectStore
from xmslurm_repro.store.objects import DiskObjectStore
from xmslurm_repro.store.upkeep import DiskUpkeep
from xmslurm_repro.wiring.record import open_record

pytestmark = pytest.mark.real


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_a_store_error_that_says_so_and_leaves_nothing(small_disk: Path):
    store = DiskObjectStore(small_disk / "objects")

    def fill() -> None:
        with store.batch() as batch:
            for seed in range(12):
                batch.put(random.Random(seed).randbytes(1_000_000))

    with pytest.raises(StoreError, match="No space left") as caught:
        fill()

    assert "space" in (caught.value.hint or "")
    assert [] == [path for path in small_disk.rglob("*") if path.is_file()]
    store.put(b"still works")
    assert [blake3_digest(b"still works")] == list(store.digests())


def test_a_pack_that_cannot_be_written_anew_stays_as_it_is(small_disk: Path):
    store = DiskObjectStore(small_disk / "objects")
    with store.batch() as batch:
        kept = [batch.put(random.Random(seed).randbytes(800_000)) for seed in range(3)]
        batch.put(random.Random(99).randbytes(1_300_000))
    upkeep = DiskUpkeep(
        objects=store,
        objects_root=small_disk / "objects",
        blobs=DiskBlobStore(small_disk / "oci"),
    )
    waste = upkeep.waste(set(kept), set(), kept_refs=set(), older_than_seconds=0)
    assert ["repack"] == [item.kind for item in waste.items]

    with pytest.raises(StoreError, match="No space left"):
        upkeep.remove(waste, set(kept))

    assert [] == list(upkeep.damage())
    assert set(kept) < set(DiskObjectStore(small_disk / "objects").digests())
    assert [] == list((small_disk / "objects/incoming").iterdir())


def test_a_record_on_a_full_disk_says_so_and_has_all_that_was_recorded_before(small_disk: Path):
    home, filler = small_disk / "home", small_disk / "filler"
    store = DiskObjectStore(home / "objects")
    record = open_record(home, store)
    kept = record.new_experiment(title="kept", created_at=NOON)
    record.promise([receipt(kept)])
    record.close()
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass

    with pytest.raises(StoreError, match="no room left") as caught:
        open_record(home, store)

    assert "space" in (caught.value.hint or "")
    filler.unlink()
    record = open_record(home, store)
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass

    def record_on() -> None:
        for number in range(1000):
            lost = record.new_experiment(title="x" * 5000, created_at=NOON)
            record.promise([receipt(lost, token=f"zyxwvuts{number}")])

    with pytest.raises(StoreError, match="no room left"):
        record_on()
    filler.unlink()
    runs = record.runs()
    assert TOKEN == runs[0].receipt.run_id.token
    record.keep_again()
    assert 0 == record.keep_again()
    record.close()


def test_an_image_blob_that_does_not_fit_leaves_nothing(small_disk: Path):
    blobs = DiskBlobStore(small_disk / "oci")
    small = blobs.put(b"small")

    def fill() -> None:
        with blobs.writer() as writer:
            for seed in range(9):
                writer.write(random.Random(seed).randbytes(1_000_000))
            writer.commit()

    with pytest.raises(StoreError, match="No space left"):
        fill()

    assert [small] == list(blobs.digests())
    assert [] == list((small_disk / "oci/ingest").iterdir())
    assert b"small" == blobs.get(small)


def test_a_checkout_onto_a_full_disk_leaves_nothing(small_disk: Path, tmp_path: Path):
    store = MemoryObjectStore()
    data = random.Random(1).randbytes(3_000_000)
    entries = [
        TreeEntry(name=name, kind=EntryKind.FILE, digest=store.put(data), size_bytes=len(data))
        for name in (b"one", b"two")
    ]
    tree = StoredTree(store, store.put(encode_node(entries)))

    with pytest.raises(StoreError, match="No space left"):
        checkout(tree, small_disk / "out")

    assert [] == list(small_disk.iterdir())
