"""Reading, comparing and restoring captured trees."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.git_box import GitBox
from xmslurm_repro.errors import (
    DigestMismatchError,
    FormatError,
    IntegrityError,
    MissingObjectError,
    StoreError,
    UsageError,
)
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.snapshot import EntryKind, TreeEntry, encode_node
from xmslurm_repro.snapshot import StoredTree, compare_trees, restore, write_archive
from xmslurm_repro.store.memory import MemoryObjectStore


class CountingStore(MemoryObjectStore):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = 0

    def get(self, digest: Digest) -> bytes:
        self.gets += 1
        return super().get(digest)


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    box = GitBox(tmp_path / "box")
    box.store = CountingStore()
    return box


def tree_of(box: GitBox) -> StoredTree:
    return StoredTree(box.store, box.capture().root)


def node(store: MemoryObjectStore, *entries: tuple[bytes, EntryKind, bytes]) -> Digest:
    return store.put(
        encode_node(
            TreeEntry(name=name, kind=kind, digest=store.put(data), size_bytes=len(data))
            for name, kind, data in entries
        )
    )


def test_finding_tells_files_from_folders_and_from_nothing(box: GitBox):
    box.write("a/b", "1")
    (box.root / "l").symlink_to("a")
    tree = tree_of(box)

    assert b"1" == tree.read("a/b")
    assert tree.read("l") is None
    for path in ("a", "a/", "a/c", "a/b/c", "l/b", "", "/", "/a/b", "../box"):
        assert tree.find(path) is None
        assert tree.read(path) is None


def test_a_node_is_read_once(box: GitBox):
    for number in range(5):
        box.write(f"a/{number}", str(number))
    tree = tree_of(box)
    before = box.store.gets

    for number in range(5):
        tree.find(f"a/{number}")
    list(tree.entries())

    assert 2 == box.store.gets - before


def test_folders_alike_are_not_read_when_trees_are_compared(box: GitBox):
    for number in range(50):
        box.write(f"d{number}/f", "1")
    left = box.capture().root
    box.write("d7/f", "2")
    right = box.capture().root
    before = box.store.gets

    changes = compare_trees(box.store, left, right)

    assert [b"d7/f"] == [change.path for change in changes]
    assert 4 == box.store.gets - before


def test_a_file_that_became_a_folder_is_both_gone_and_new(box: GitBox):
    box.write("a", "1")
    left = box.capture().root
    (box.root / "a").unlink()
    box.write("a/b", "2")
    right = box.capture().root

    changes = compare_trees(box.store, left, right)

    shown = [(c.path, c.left is not None, c.right is not None) for c in changes]
    assert [(b"a", True, False), (b"a/b", False, True)] == shown


def test_a_missing_node_is_an_error_that_names_the_snapshot(box: GitBox):
    box.write("a/b", "1")
    tree = tree_of(box)
    below = next(e.digest for e in tree.node(tree.root) if e.name == b"a")
    del box.store.objects[below]

    with pytest.raises(MissingObjectError) as caught:
        list(tree.entries())

    assert str(below) == caught.value.name
    assert str(tree.root) in str(caught.value)


def test_an_object_that_is_no_node_is_a_format_error(box: GitBox):
    digest = box.store.put(b"not a node")

    with pytest.raises(FormatError):
        list(StoredTree(box.store, digest).entries())


@pytest.mark.parametrize("umask", [0, 0o77])
def test_restoring_gives_bytes_links_and_modes_whatever_the_umask(
    box: GitBox, tmp_path: Path, umask: int
):
    box.write("a/tool", "1", mode=0o711)
    box.write("a/file", "2", mode=0o600)
    (box.root / "l").symlink_to("/nowhere")
    previous = os.umask(umask)
    try:
        restore(tree_of(box), tmp_path / "out" / "here")
    finally:
        os.umask(previous)

    out = tmp_path / "out" / "here"
    modes = {
        p.name: stat.S_IMODE(p.stat().st_mode) for p in [out, out / "a", *(out / "a").iterdir()]
    }
    assert {"here": 0o755, "a": 0o755, "tool": 0o755, "file": 0o644} == modes
    assert b"2" == (out / "a" / "file").read_bytes()
    assert "/nowhere" == os.readlink(out / "l")


def test_restoring_into_an_empty_folder_is_fine_and_into_a_full_one_is_not(
    box: GitBox, tmp_path: Path
):
    box.write("a", "1")
    tree = tree_of(box)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_bytes(b"precious")
    (tmp_path / "file").write_bytes(b"precious")

    restore(tree, tmp_path / "empty")
    for name in ("full", "file"):
        with pytest.raises(UsageError):
            restore(tree, tmp_path / name)

    assert b"1" == (tmp_path / "empty" / "a").read_bytes()
    assert ["x"] == [path.name for path in (tmp_path / "full").iterdir()]


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"a\0b"])
def test_a_forged_node_cannot_lead_out_of_the_target(tmp_path: Path, name: bytes):
    store = MemoryObjectStore()
    content = store.put(b"x")
    record = b"100644 %s 1 %s\0" % (content.hex.encode(), name)

    with pytest.raises(FormatError):
        restore(StoredTree(store, store.put(record)), tmp_path / "out")

    assert [] == list((tmp_path / "out").iterdir())


def test_a_forged_node_cannot_write_through_a_link(tmp_path: Path):
    store = MemoryObjectStore()
    below = node(store, (b"x", EntryKind.FILE, b"1"))
    link = b"120000 %s 2 d\0" % store.put(b"..").hex.encode()
    folder = b"040000 %s 1 d\0" % below.hex.encode()

    with pytest.raises(FormatError):
        restore(StoredTree(store, store.put(link + folder)), tmp_path / "out")

    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", [b".git", b".GIT"])
def test_a_forged_repository_is_not_restored(tmp_path: Path, name: bytes):
    store = MemoryObjectStore()

    with pytest.raises(IntegrityError, match="commands"):
        restore(StoredTree(store, node(store, (name, EntryKind.FILE, b"1"))), tmp_path / "out")


def test_a_damaged_file_is_not_restored_in_part(box: GitBox, tmp_path: Path):
    box.write("a", "1" * 3_000_000)
    tree = tree_of(box)
    entry = tree.find("a")
    assert entry is not None
    box.store.objects[entry.digest] = b"2" * 3_000_000

    with pytest.raises(DigestMismatchError):
        restore(tree, tmp_path / "out")

    assert [] == list((tmp_path / "out").iterdir())


def test_a_target_that_cannot_be_written_is_a_store_error(box: GitBox, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreError, match="Not a directory"):
        restore(tree_of(box), tmp_path / "file" / "out")


def test_an_archive_holds_the_tree_for_any_tar(box: GitBox, tmp_path: Path):
    box.write("a/tool", "1", mode=0o711)
    box.write("a.b", "2")
    box.write("long/" + "n" * 150, "3")
    (box.root / "l").symlink_to("a/tool")
    archive = io.BytesIO()

    write_archive(tree_of(box), archive.write)

    archive.seek(0)
    with tarfile.TarFile.open(fileobj=archive) as opened:
        names = opened.getnames()
    (tmp_path / "x.tar").write_bytes(archive.getvalue())
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "x.tar", "-C", tmp_path / "out"], check=True)
    again = GitBox(tmp_path / "again", init=False)
    again.root.rmdir()
    (tmp_path / "out").rename(again.root)

    assert ["a", "a.b", "a/tool", "l", "long", "long/" + "n" * 150] == sorted(names)
    assert names.index("a") < names.index("a/tool")
    assert tree_of(box).root == again.capture(allow_no_repository=True).root
