"""Finding objects in packs: the same, by search and by table."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.store import packed
from xmslurm_repro.store.hashing import blake3_digest
from xmslurm_repro.store.objects import DiskObjectStore


def fill(root: Path, *, packs: int, objects: int) -> set[bytes]:
    contents = {b"%d of %d" % (number, pack) for pack in range(packs) for number in range(objects)}
    store = DiskObjectStore(root)
    for pack in range(packs):
        with store.batch() as batch:
            for data in sorted(data for data in contents if data.endswith(b" of %d" % pack)):
                batch.put(data)
    assert packs == len(store.pack_files())
    return contents


@pytest.mark.parametrize("most", [0, 7, 10_000])
def test_every_object_is_found_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
):
    monkeypatch.setattr(packed, "_MOST_SEARCHES", most)
    contents = fill(tmp_path, packs=3, objects=100)
    store = DiskObjectStore(tmp_path)

    assert contents == {store.get(blake3_digest(data)) for data in contents}
    assert not any(store.has(blake3_digest(data + b"?")) for data in contents)
    assert not store.has(Digest.blake3("0" * 64))
    assert not store.has(Digest.blake3("f" * 64))
    assert {blake3_digest(data) for data in contents} == set(store.digests())


@pytest.mark.parametrize("most", [0, 10_000])
def test_packs_that_come_and_go_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
):
    monkeypatch.setattr(packed, "_MOST_SEARCHES", most)
    contents = fill(tmp_path, packs=2, objects=40)
    store = DiskObjectStore(tmp_path)
    before = {data for data in contents if store.has(blake3_digest(data))}
    store.pack_files()[0].unlink()
    more = fill(tmp_path, packs=3, objects=40) - contents
    found = {data for data in more if store.has(blake3_digest(data))}
    with DiskObjectStore(tmp_path).batch() as batch:
        batch.put(b"alone")
    kept = {data for data in contents if store.has(blake3_digest(data))}

    assert contents == before
    assert more == found
    assert contents == kept
