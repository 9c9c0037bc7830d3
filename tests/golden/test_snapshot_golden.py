"""Promises about bytes: what a tree is called, what a node says, what old stores look like."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.snapshot import StoredTree, capture, write_archive
from xmslurm_repro.store.hashing import sha256_digest
from xmslurm_repro.store.memory import MemoryObjectStore
from xmslurm_repro.store.objects import DiskObjectStore

GOLDEN = Path(__file__).parent


def make_tree(root: Path) -> None:
    (root / "src" / "deep").mkdir(parents=True)
    (root / "src.py").write_bytes(b"print('beside')\n")
    (root / "src" / "main.py").write_bytes(b"print('hello')\n")
    (root / "src" / "deep" / "empty").write_bytes(b"")
    (root / "run.sh").write_bytes(b"#!/bin/sh\nexec python src/main.py\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("src/main.py")
    (root / os.fsdecode(b"\xc3\xbc \xff")).write_bytes(b"\x00\x01")


def test_a_tree_keeps_its_name_for_ever(tmp_path: Path, golden: Callable[[str, str], None]):
    make_tree(tmp_path / "tree")
    store = MemoryObjectStore()

    snapshot = capture(
        tmp_path / "tree",
        store=store,
        cache_dir=tmp_path / "cache",
        allow_no_repository=True,
        environment={},
    )

    lines = [f"root {snapshot.root}", f"{snapshot.file_count} files, {snapshot.size_bytes} bytes"]
    nodes = {store.get(d) for d in store.digests() if b"100644 " in store.get(d)}
    for node in sorted(nodes):
        lines += ["", *(str(record)[2:-1] for record in node.split(b"\0")[:-1])]
    golden("snapshot/nodes.txt", "\n".join(lines) + "\n")


def test_an_archive_keeps_its_bytes_for_ever(tmp_path: Path, golden: Callable[[str, str], None]):
    make_tree(tmp_path / "tree")
    store = MemoryObjectStore()
    snapshot = capture(
        tmp_path / "tree", store=store, cache_dir=tmp_path / "c", allow_no_repository=True
    )
    archive = bytearray()

    write_archive(StoredTree(store, snapshot.root), archive.extend)

    golden("snapshot/archive.txt", f"{sha256_digest(archive)} {len(archive)}\n")


OLD_CONTENTS = {
    "one-loose": b"a loose object\n",
    "first-of-pack": b"object 0\n",
    "last-of-pack": b"object 39\n" * 40,
}


def test_a_store_of_the_first_version_is_read_for_ever(tmp_path: Path):
    shutil.copytree(GOLDEN / "objects-1", tmp_path / "objects")
    store = DiskObjectStore(tmp_path / "objects")
    names = dict(line.split() for line in (GOLDEN / "objects-1.txt").read_text().splitlines())

    assert set(OLD_CONTENTS) == set(names)
    assert OLD_CONTENTS == {name: store.get(Digest.parse(text)) for name, text in names.items()}
    assert 41 == len(list(store.digests()))
