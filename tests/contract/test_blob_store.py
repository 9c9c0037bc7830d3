"""What every blob store promises (ports.store.BlobStore)."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from xmslurm_repro.errors import DigestMismatchError, MissingObjectError, StoreError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import MEDIA_TYPE_MANIFEST, Descriptor
from xmslurm_repro.store import layout
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.memory_blobs import MemoryBlobStore


def sha(data: bytes) -> Digest:
    return Digest.sha256(hashlib.sha256(data).hexdigest())


def descriptor(data: bytes) -> Descriptor:
    return Descriptor(media_type=MEDIA_TYPE_MANIFEST, digest=sha(data), size_bytes=len(data))


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    return DiskBlobStore(tmp_path / "oci") if request.param == "disk" else MemoryBlobStore()


def test_what_was_put_is_there_under_its_sha256(store):
    digest = store.put(b"hello")

    assert sha(b"hello") == digest
    assert store.has(digest)
    assert b"hello" == store.get(digest)
    assert 5 == store.size_bytes(digest)


def test_putting_twice_changes_nothing(store):
    store.put(b"hello")
    store.put(b"hello")

    assert [sha(b"hello")] == list(store.digests())


def test_a_blob_can_be_written_piece_by_piece(store):
    with store.writer() as writer:
        writer.write(b"he")
        writer.write(memoryview(b"llo"))
        named = writer.commit()

    assert (sha(b"hello"), 5) == named
    assert b"hello" == store.get(named[0])


def test_what_is_not_committed_leaves_no_trace(store):
    with store.writer() as writer:
        writer.write(b"hello")

    assert [] == list(store.digests())


def test_a_block_that_raises_leaves_no_trace(store):
    def write_half():
        with store.writer() as writer:
            writer.write(b"other")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_half()

    assert [] == list(store.digests())


def test_a_blob_that_is_not_what_was_expected_is_not_kept(store):
    with store.writer() as writer:
        writer.write(b"hello")
        with pytest.raises(DigestMismatchError) as caught:
            writer.commit(expected=sha(b"other"))

    assert (str(sha(b"other")), str(sha(b"hello"))) == (caught.value.want, caught.value.got)
    assert [] == list(store.digests())


def test_a_committed_blob_takes_no_more(store):
    with store.writer() as writer:
        writer.commit()
        with pytest.raises(ValueError, match="committed"):
            writer.write(b"more")
        with pytest.raises(ValueError, match="committed"):
            writer.commit()


def test_a_stream_can_be_read_from_any_place(store):
    digest = store.put(b"hello")
    with store.open(digest) as stream:
        stream.seek(3)

        assert b"lo" == stream.read()


@pytest.mark.parametrize("method", ["get", "open", "size_bytes"])
def test_a_blob_that_is_not_here_is_named_in_the_error(store, method):
    with pytest.raises(MissingObjectError) as caught:
        getattr(store, method)(sha(b"nowhere"))

    assert str(sha(b"nowhere")) == caught.value.name
    assert not store.has(sha(b"nowhere"))


def test_only_sha256_names_blobs(store):
    with pytest.raises(ValueError, match="SHA-256"):
        store.has(Digest.blake3("0" * 64))


def test_blobs_are_listed_in_order(store):
    for number in range(20):
        store.put(b"%d" % number)

    assert sorted(sha(b"%d" % number) for number in range(20)) == list(store.digests())


def test_a_name_can_be_given_and_moved(store):
    store.set_ref("base/default", descriptor(b"one"))
    store.set_ref("other", descriptor(b"two"))
    store.set_ref("base/default", descriptor(b"three"))

    assert descriptor(b"three") == store.ref("base/default")
    assert {"base/default": descriptor(b"three"), "other": descriptor(b"two")} == store.refs()
    assert None is store.ref("nobody")


def test_an_empty_name_is_refused(store):
    with pytest.raises(ValueError, match="empty"):
        store.set_ref("", descriptor(b"one"))


def test_a_store_on_disk_that_was_never_written_is_empty_and_makes_nothing(tmp_path):
    store = DiskBlobStore(tmp_path / "oci")

    assert [] == list(store.digests())
    assert {} == store.refs()
    assert not (tmp_path / "oci").exists()


def test_a_damaged_blob_is_found_when_read_and_mended_when_put(tmp_path):
    store = DiskBlobStore(tmp_path)
    digest = store.put(b"hello")
    store.path(digest).write_bytes(b"hellO")

    with pytest.raises(DigestMismatchError):
        store.get(digest)
    assert digest == store.put(b"hello")
    assert b"hello" == store.get(digest)


def test_another_tools_index_entries_survive(tmp_path):
    (tmp_path / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": [descriptor(b"x").to_json() | {"size": 7}]})
    )
    store = DiskBlobStore(tmp_path)
    store.set_ref("mine", descriptor(b"one"))

    kept = json.loads((tmp_path / "index.json").read_text())["manifests"]
    assert [7, 3] == [item["size"] for item in kept]
    assert ["mine"] == list(store.refs())


def _name_many(root: Path, mark: str) -> None:
    store = DiskBlobStore(root)
    for number in range(25):
        store.set_ref(f"{mark}{number}", descriptor(mark.encode()))


def test_two_processes_that_name_images_at_once_lose_no_name(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_name_many, args=(tmp_path, mark)) for mark in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [0, 0] == [worker.exitcode for worker in workers]
    assert 50 == len(DiskBlobStore(tmp_path).refs())


def _die_while_writing(root: Path) -> None:
    with DiskBlobStore(root).writer() as writer:
        writer.write(b"x" * 3_000_000)
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_writer_left_is_cleared_away_but_not_what_a_living_one_writes(tmp_path):
    worker = multiprocessing.get_context("spawn").Process(
        target=_die_while_writing, args=(tmp_path,)
    )
    worker.start()
    worker.join()
    (left,) = (tmp_path / "ingest").iterdir()
    with DiskBlobStore(tmp_path).writer() as living:
        living.write(b"hello")
        DiskBlobStore(tmp_path).put(b"other")

        assert not left.exists()
        assert sha(b"hello") == living.commit()[0]
    assert [] == list((tmp_path / "ingest").iterdir())


def test_a_blob_that_is_finished_while_leftovers_are_looked_for_is_none(tmp_path, monkeypatch):
    with DiskBlobStore(tmp_path).writer() as living:
        living.write(b"hello")

        def listed(folder):
            found = list(os.scandir(folder))
            living.commit()
            return found

        with monkeypatch.context() as patch:
            patch.setattr(layout, "os", SimpleNamespace(**{**vars(os), "scandir": listed}))
            DiskBlobStore(tmp_path).put(b"other")

    assert {sha(b"hello"), sha(b"other")} == set(DiskBlobStore(tmp_path).digests())


def test_a_folder_that_cannot_be_made_is_reported_with_its_path(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="file/oci cannot be used: Not a directory"):
        DiskBlobStore(tmp_path / "file" / "oci").put(b"x")


def _write_more_than_allowed(root: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = DiskBlobStore(root)
    try:
        with store.writer() as writer:
            for _ in range(4):
                writer.write(b"x" * 1_000_000)
            writer.commit()
    except StoreError as error:
        os._exit(7 if "File too large" in error.message else 8)


def test_a_disk_that_takes_no_more_is_reported_and_nothing_is_kept(tmp_path):
    worker = multiprocessing.get_context("spawn").Process(
        target=_write_more_than_allowed, args=(tmp_path,)
    )
    worker.start()
    worker.join()

    assert 7 == worker.exitcode
    assert [] == list(DiskBlobStore(tmp_path).digests())
    assert [] == list((tmp_path / "ingest").iterdir())
