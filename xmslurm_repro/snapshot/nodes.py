"""Building the Merkle tree of what was read."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.ports.store import ObjectBatch
from xmslurm_repro.snapshot.cache import Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """
    The root node, and how much is below it.

    Attributes:
        nodes: The digits of the name of every node.
        alike: Paths in one folder whose names are the same where neither case nor the form of
            Unicode counts, by each other.
    """

    nodes: tuple[str, ...]
    digest: Digest
    file_count: int
    size_bytes: int
    alike: Mapping[bytes, bytes] = field(default_factory=dict)


def write_nodes(files: Mapping[bytes, Known], batch: ObjectBatch) -> Root:
    """
    Write a node for each folder that *files* are in, and one for the root.

    The bytes are those of `model.snapshot.encode_node`, which a test holds it to: a value for
    each of thousands of entries would cost more than everything else here.

    Args:
        files: By path from the root. No path is a folder of another.
        batch: Where the nodes go.
    """
    folders: dict[bytes, dict[bytes, tuple[bytes, int]]] = {b"": {}}
    for path, known in files.items():
        folder, _, name = path.rpartition(b"/")
        record = b"%s %s %d %s\0" % (
            mode_of(known.mode),
            known.blake3.hex().encode(),
            known.size_bytes,
            name,
        )
        members = folders.get(folder)
        if members is None:
            members = folders[folder] = {}
        members[name] = record, known.size_bytes
    for folder in list(folders):
        above = folder
        while above:
            above = above.rpartition(b"/")[0]
            folders.setdefault(above, {})
    return _write(folders, batch, len(files))


def _write(
    folders: dict[bytes, dict[bytes, tuple[bytes, int]]], batch: ObjectBatch, file_count: int
) -> Root:
    nodes: list[str] = []
    alike: dict[bytes, bytes] = {}
    # The deepest first: a folder's record needs the digest of its node.
    for folder in sorted(folders, key=lambda path: (-path.count(b"/"), path)):
        if not folder:
            continue
        digest, size = _node(folders[folder], batch)
        nodes.append(digest.hex)
        alike.update(_alike(folders[folder], folder + b"/"))
        parent, _, name = folder.rpartition(b"/")
        record = b"040000 %s %d %s\0" % (digest.hex.encode(), size, name)
        folders[parent][name] = record, size
    digest, size = _node(folders[b""], batch)
    nodes.append(digest.hex)
    alike.update(_alike(folders[b""], b""))
    return Root(
        nodes=tuple(nodes),
        digest=digest,
        file_count=file_count,
        size_bytes=size,
        alike=alike,
    )


def _alike(names: Collection[bytes], prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pairs of paths that cannot both be on a disk of macOS or Windows, both ways round."""
    if len(set(map(bytes.lower, names))) == len(names) and b"".join(names).isascii():
        return
    first: dict[str, bytes] = {}
    for name in sorted(names):
        other = first.setdefault(_folded(name), name)
        if other != name:
            yield prefix + name, prefix + other
            yield prefix + other, prefix + name


def _folded(name: bytes) -> str:
    from unicodedata import normalize  # noqa: PLC0415 (rare)

    return normalize("NFD", normalize("NFD", os.fsdecode(name)).casefold())


def _node(members: dict[bytes, tuple[bytes, int]], batch: ObjectBatch) -> tuple[Digest, int]:
    data = b"".join(members[name][0] for name in sorted(members))
    return batch.put(data), sum(size for _, size in members.values())


def mode_of(mode: int) -> bytes:
    """The mode in a node of a file or link, by its own."""
    if stat.S_ISLNK(mode):
        return b"120000"
    return b"100755" if mode & 0o111 else b"100644"
