"""A snapshot's name depends on names, bytes, links and exec bits, and on nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.snapshot import EntryKind, TreeEntry, encode_node
from xmslurm_repro.snapshot import StoredTree, capture, compare_trees, restore
from xmslurm_repro.snapshot.cache import NO_ID, Known
from xmslurm_repro.snapshot.nodes import write_nodes
from xmslurm_repro.store.memory import MemoryObjectStore

NAMES = st.sampled_from(b"a|b|a.b|a-b|A|z z|\xff|\xc3\xbc|n\nl|.h".split(b"|"))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)
BODIES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=20)),
    st.tuples(st.just("executable"), st.binary(max_size=20)),
    st.tuples(st.just("link"), st.binary(min_size=1, max_size=20).map(lambda b: b.replace(b"\0", b"x"))),
)  # fmt: skip
Tree = dict[bytes, tuple[str, bytes]]


def without_clashes(files: Tree) -> Tree:
    """Drop paths that would have to be folders of others."""
    folders = {path[:at] for path in files for at in range(len(path)) if path[at : at + 1] == b"/"}
    return {path: body for path, body in files.items() if path not in folders}


TREES = st.dictionaries(PATHS, BODIES, max_size=8).map(without_clashes)
CHECKS = settings(
    max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="xmslurm-identity-"))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def make(root: Path, files: Tree, order: list[bytes]) -> None:
    root.mkdir()
    for path in order:
        kind, body = files[path]
        place = os.path.join(os.fsencode(root), path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if kind == "link":
            os.symlink(body, place)
        else:
            Path(os.fsdecode(place)).write_bytes(body)
            os.chmod(place, 0o700 if kind == "executable" else 0o600)


def root_of(root: Path, store: MemoryObjectStore, cache: Path) -> Digest:
    return capture(
        root, store=store, cache_dir=cache, allow_no_repository=True, environment={}
    ).root


def name_by_definition(files: Tree) -> Digest:
    """The root's digest as the model defines it, without any of our shortcuts."""

    def digest(data: bytes) -> Digest:
        return Digest.blake3(blake3.blake3(data).hexdigest())

    kinds = {"file": EntryKind.FILE, "executable": EntryKind.EXECUTABLE, "link": EntryKind.SYMLINK}

    def node(prefix: bytes) -> tuple[Digest, int]:
        below = {path.removeprefix(prefix) for path in files if path.startswith(prefix)}
        entries = []
        for name in {path.partition(b"/")[0] for path in below}:
            if name in below:
                kind, body = files[prefix + name]
                entry = (kinds[kind], digest(body), len(body))
            else:
                entry = (EntryKind.DIRECTORY, *node(prefix + name + b"/"))
            entries.append(
                TreeEntry(name=name, kind=entry[0], digest=entry[1], size_bytes=entry[2])
            )
        return digest(encode_node(entries)), sum(entry.size_bytes for entry in entries)

    return node(b"")[0]


@CHECKS
@given(files=TREES, data=st.data())
def test_creation_order_umask_times_and_place_leave_no_trace(files: Tree, data: st.DataObject):
    order = data.draw(st.permutations(sorted(files)))
    umask = data.draw(st.sampled_from([0, 0o22, 0o77]))
    mtime = data.draw(st.integers(0, 4_000_000_000))
    with folder() as place:
        store = MemoryObjectStore()
        make(place / "one", files, sorted(files))
        previous = os.umask(umask)
        try:
            make(place / "two", files, order)
            for path in files:
                os.utime(os.path.join(os.fsencode(place / "two"), path), (mtime, mtime), follow_symlinks=False)  # fmt: skip
            first = root_of(place / "one", store, place / "cache")
            second = root_of(place / "two", store, place / "cache")
        finally:
            os.umask(previous)

    assert name_by_definition(files) == first == second


@CHECKS
@given(files=TREES)
def test_a_restored_tree_is_the_same_snapshot(files: Tree):
    with folder() as place:
        store = MemoryObjectStore()
        make(place / "one", files, sorted(files))
        root = root_of(place / "one", store, place / "cache")
        restore(StoredTree(store, root), place / "two")

        assert root == root_of(place / "two", store, place / "cache")


@CHECKS
@given(left=TREES, right=TREES)
def test_comparing_finds_exactly_the_paths_that_differ(left: Tree, right: Tree):
    with folder() as place:
        store = MemoryObjectStore()
        roots = []
        for name, files in (("left", left), ("right", right)):
            make(place / name, files, sorted(files))
            roots.append(root_of(place / name, store, place / "cache"))
        changes = compare_trees(store, *roots)
        entries = [{e.path: e for e in StoredTree(store, root).entries()} for root in roots]

    differing = sorted(p for p in left.keys() | right.keys() if left.get(p) != right.get(p))
    assert differing == [change.path for change in changes]
    for change in changes:
        assert entries[0].get(change.path) == change.left
        assert entries[1].get(change.path) == change.right


@CHECKS
@given(files=TREES)
def test_entries_are_sorted_by_path_and_found_by_path(files: Tree):
    with folder() as place:
        store = MemoryObjectStore()
        make(place / "one", files, sorted(files))
        tree = StoredTree(store, root_of(place / "one", store, place / "cache"))
        entries = list(tree.entries())

    assert sorted(files) == [entry.path for entry in entries]
    for entry in entries:
        kind, body = files[entry.path]
        assert entry == tree.find(os.fsdecode(entry.path))
        assert (None if kind == "link" else body) == tree.read(os.fsdecode(entry.path))
        assert tree.find(os.fsdecode(entry.path) + "/x") is None


def test_nodes_for_a_thousand_folders_are_those_of_the_model():
    files = {
        b"d%d/e%d/f%d" % (i % 10, i % 100, i): Known(
            1, 1, i, i, 0o100644, bytes([i % 256]) * 32, NO_ID
        )
        for i in range(1000)
    }
    store = MemoryObjectStore()
    with store.batch() as batch:
        root = write_nodes(files, batch)

    tree = StoredTree(store, root.digest)

    assert sorted(files) == [entry.path for entry in tree.entries()]
    assert (1000, sum(range(1000))) == (root.file_count, root.size_bytes)
    assert 1 + 10 + 100 == len(store.objects)
