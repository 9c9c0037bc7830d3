"""Trees that no capture of ours makes: nothing leaves the folder, and errors are ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.git_box import GitBox
from xmslurm_repro.errors import IntegrityError, ReproError, UnreadableError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.snapshot import DEEPEST
from xmslurm_repro.snapshot import StoredTree
from xmslurm_repro.snapshot.branch import make_branch
from xmslurm_repro.snapshot.checkout import checkout
from xmslurm_repro.snapshot.identity import identify
from xmslurm_repro.store.memory import MemoryObjectStore

Make = Callable[[MemoryObjectStore], Digest]


def record(mode: bytes, digest: Digest, size: int, name: bytes) -> bytes:
    return b"%s %s %d %s\0" % (mode, digest.hex.encode(), size, name)


def one(name: bytes, data: bytes = b"evil\n", *, mode: bytes = b"100644", size: int = -1) -> Make:
    def make(store: MemoryObjectStore) -> Digest:
        digest = store.put(data)
        return store.put(record(mode, digest, len(data) if size == -1 else size, name))

    return make


def nested(depth: int, name: bytes = b"d") -> Make:
    def make(store: MemoryObjectStore) -> Digest:
        node = one(b"x")(store)
        for _ in range(depth):
            node = store.put(record(b"040000", node, 5, name))
        return node

    return make


def twice(store: MemoryObjectStore) -> Digest:
    link, file = store.put(b"/tmp"), store.put(b"evil\n")
    below = store.put(record(b"100644", file, 5, b"x"))
    return store.put(record(b"120000", link, 4, b"a") + record(b"040000", below, 5, b"a"))


HOSTILE = {
    "parent": one(b".."),
    "itself": one(b"."),
    "path": one(b"a/b"),
    "absolute": one(b"/tmp/x"),
    "nothing": one(b""),
    "repository": one(b".git"),
    "repository in capitals": one(b".GIT"),
    "link and folder of one name": twice,
    "set-uid": one(b"a", mode=b"104755"),
    "device": one(b"a", mode=b"020000"),
    "submodule": one(b"a", mode=b"160000"),
    "larger than said": one(b"a", size=1),
    "smaller than said": one(b"a", size=500),
    "less than nothing": one(b"a", size=-2),
    "a file for a folder": one(b"a", mode=b"040000"),
    "link with a NUL": one(b"a", b"x\0y", mode=b"120000"),
    "deep": nested(3000),
    "too long a name": one(b"n" * 256),
    "too long a path": nested(60, b"n" * 200),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_tree_that_could_do_harm_is_refused_without_a_trace(tmp_path: Path, kind: str):
    store = MemoryObjectStore()
    tree = StoredTree(store, HOSTILE[kind](store))
    (tmp_path / "in").mkdir()

    with pytest.raises(ReproError):
        checkout(tree, tmp_path / "in" / "out")

    assert ["in"] == os.listdir(tmp_path)
    assert [] == os.listdir(tmp_path / "in")


@pytest.mark.parametrize(
    "name", [b"git~1", b".git ", b".git.", b".git::$INDEX_ALLOCATION", ".g\u200cit".encode()]
)
def test_names_that_are_git_s_own_elsewhere_are_kept_and_no_branch(tmp_path: Path, name: bytes):
    box = GitBox(tmp_path / "box")
    box.write(name + b"x", "not at all")
    box.write(name, "harmless here")
    snapshot = box.capture()
    tree = StoredTree(box.store, snapshot.root)

    assert box.listed() == box.paths(snapshot)
    assert identify(
        box.root, snapshot, store=box.store, cache_dir=box.cache, environment=box.environment
    ).origin.tree
    assert checkout(tree, tmp_path / "out")
    assert b"harmless here" == (tmp_path / "out" / os.fsdecode(name)).read_bytes()
    with pytest.raises(IntegrityError, match="git refuses"):
        make_branch(tree, box.root, "b", base=None, message="m", time_s=1)
    assert b"" == box.git("branch", "--list", "b")


def test_names_of_every_other_kind_come_back(tmp_path: Path):
    box = GitBox(tmp_path / "box")
    for name in (
        b"new\nline",
        b"\xff",
        b"-rf",
        b"..\\x",
        b".tmp-a",
        b"n" * 255,
        b"...",
        b"~",
        b"$x",
    ):
        box.write(name, name)
        box.write(b"d/" + name + b"/" + name[:100], name)
    snapshot = box.capture()
    made = GitBox(tmp_path / "again")

    checkout(StoredTree(box.store, snapshot.root), tmp_path / "out")

    again = made.capture(start=tmp_path / "out", allow_no_repository=True)
    assert snapshot.root == again.root
    assert 0o755 == (tmp_path / "out").stat().st_mode & 0o777


def test_folders_as_deep_as_we_go_come_back_and_deeper_ones_are_named(tmp_path: Path):
    box = GitBox(tmp_path / "box")
    box.write("/".join(["d"] * DEEPEST) + "/x", "1")
    snapshot = box.capture()
    tree = StoredTree(box.store, snapshot.root)

    assert checkout(tree, tmp_path / "out")
    assert identify(
        box.root, snapshot, store=box.store, cache_dir=box.cache, environment=box.environment
    ).origin.tree
    make_branch(tree, box.root, "b", base=None, message="m", time_s=1)
    box.git("fsck", "--strict")
    box.write("/".join(["e"] * (DEEPEST + 1)) + "/x", "1")
    with pytest.raises(UnreadableError) as caught:
        box.capture()
    assert "folders deep" in caught.value.details[0]
