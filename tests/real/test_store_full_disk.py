"""A store on a disk that is full. Mounts a small file system, so it needs root."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from xmslurm_repro.errors import StoreError
from xmslurm_repro.store.hashing import blake3_digest
from xmslurm_repro.store.objects import DiskObjectStore

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
