"""Files that are there whole or not at all."""

from __future__ import annotations

import itertools
import stat
from pathlib import Path

import pytest

from xmslurm_repro.errors import StoreError
from xmslurm_repro.store import files
from xmslurm_repro.store.files import Temporary, make_folder, new_file, remove_stale, write_atomic
from xmslurm_repro.store.hashing import (
    Blake3Hasher,
    Sha256Hasher,
    blake3_digest,
    sha256_digest,
)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path):
    path = tmp_path / "a"
    write_atomic(path, b"old")
    write_atomic(path, b"new")

    assert b"new" == path.read_bytes()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [path] == list(tmp_path.iterdir())


def test_a_block_that_raises_leaves_the_old_file_and_no_litter(tmp_path: Path):
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def fail() -> None:
        with new_file(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert b"old" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_a_missing_folder_is_a_store_error(tmp_path: Path):
    with pytest.raises(StoreError, match="No such file"):
        write_atomic(tmp_path / "absent" / "a", b"")


def test_a_file_name_taken_by_a_folder_is_a_store_error_without_litter(tmp_path: Path):
    (tmp_path / "a").mkdir()

    with pytest.raises(StoreError, match="Is a directory"):
        write_atomic(tmp_path / "a", b"")

    assert [tmp_path / "a"] == list(tmp_path.iterdir())


def test_only_temporary_files_of_dead_writers_are_removed(tmp_path: Path):
    (tmp_path / ".tmp-dead").write_bytes(b"")
    (tmp_path / "other").write_bytes(b"")
    alive = Temporary(tmp_path)

    assert 1 == remove_stale(tmp_path)
    assert {alive.path, tmp_path / "other"} == set(tmp_path.iterdir())
    alive.discard()
    assert [tmp_path / "other"] == list(tmp_path.iterdir())


def test_clearing_a_folder_that_is_not_there_does_nothing(tmp_path: Path):
    assert 0 == remove_stale(tmp_path / "absent")


def test_folders_are_made_for_their_owner_only_and_existing_ones_left_alone(tmp_path: Path):
    tmp_path.chmod(0o755)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")

    assert 0o755 == stat.S_IMODE(tmp_path.stat().st_mode)
    assert 0o700 == stat.S_IMODE((tmp_path / "a").stat().st_mode)


@pytest.mark.parametrize(
    ("hasher", "whole"), [(Blake3Hasher(), blake3_digest), (Sha256Hasher(), sha256_digest)]
)
def test_a_hasher_fed_in_pieces_says_what_the_whole_has(hasher, whole):
    hasher.update(b"ab")
    hasher.update(memoryview(b"c"))

    assert whole(b"abc") == hasher.digest()
    assert 3 == hasher.size_bytes


def test_names_are_those_of_b3sum_and_sha256sum():
    empty_blake3 = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    empty_sha256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    assert empty_blake3 == str(blake3_digest(b""))
    assert empty_sha256 == str(sha256_digest(b""))


def test_what_was_published_is_not_removed_by_a_namesake(tmp_path):
    first = files.Temporary(tmp_path)
    first.publish(tmp_path / "published")
    (tmp_path / first.path.name).write_text("somebody else's")
    first.discard()
    second = files.Temporary(tmp_path)
    second.discard()
    (tmp_path / second.path.name).write_text("somebody else's")
    second.discard()

    assert {"published", first.path.name, second.path.name} == {
        path.name for path in tmp_path.iterdir()
    }


def test_unfinished_files_have_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_NUMBERS", itertools.count())
    one = files.Temporary(tmp_path)
    monkeypatch.setattr(files, "_NUMBERS", itertools.count())
    other = files.Temporary(tmp_path)

    assert one.path != other.path
    assert {0o600} == {path.stat().st_mode & 0o777 for path in (one.path, other.path)}
    one.discard()
    other.discard()
