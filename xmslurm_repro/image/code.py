"""Code layers: the snapshot below ``/xm/code``, dealt so that an edit moves little."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.cache import LayerCache
from xmslurm_repro.image.carry import carried, remember
from xmslurm_repro.image.dealing import deal
from xmslurm_repro.image.layer import TreeWriter, build_layer
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import CODE_DIR, Layer, LayerKind
from xmslurm_repro.model.snapshot import EntryKind, PathEntry
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore, Tree

Bucket = Sequence[PathEntry]

_WHITEOUT = b".wh."
_HELD_BYTES = 48 << 20
_HELD_FILE_BYTES = 1 << 20
"""Files from this size on are streamed."""


def code_layers(
    tree: Tree, blobs: BlobStore, cache: LayerCache | None, progress: Progress, *, layout: int
) -> tuple[Layer, ...]:
    """
    Build the code layers of *tree*, those that are not there yet.

    Raises:
        ImageError: If a path cannot be in an image.
    """
    entries = tuple(tree.entries())
    _check_names(entries)
    dealt = deal(entries, layout)
    keys = [_bucket_key(bucket) for bucket in dealt]
    found: dict[str, Layer] = {}
    for key in keys if cache else ():
        known = cache.get("code", key) if cache else None
        if known and len(known) == 1:
            found[key] = known[0]
    missing = [(key, bucket) for key, bucket in zip(keys, dealt, strict=True) if key not in found]
    task = progress.start("Packing code", total=len(dealt), unit="layers")
    task.advance(len(found))
    try:
        for turn in _turns(missing):
            for key, layer in _build(turn, tree, blobs, cache):
                found[key] = layer
                task.advance(1)
    finally:
        task.finish()
    return tuple(
        replace(found[key], kind=LayerKind.CODE, title=f"code {number} of {len(dealt)}")
        for number, key in enumerate(keys, start=1)
    )


def _turns(missing: Sequence[tuple[str, Bucket]]) -> Iterator[list[tuple[str, Bucket]]]:
    """Part what is to be built into turns whose small files fit into memory together."""
    turn: list[tuple[str, Bucket]] = []
    held_bytes = 0
    for key, bucket in missing:
        size_bytes = sum(entry.size_bytes for entry in bucket if _is_held(entry))
        if turn and held_bytes + size_bytes > _HELD_BYTES:
            yield turn
            turn, held_bytes = [], 0
        turn.append((key, bucket))
        held_bytes += size_bytes
    if turn:
        yield turn


def _build(
    turn: Sequence[tuple[str, Bucket]], tree: Tree, blobs: BlobStore, cache: LayerCache | None
) -> Iterator[tuple[str, Layer]]:
    held = _read_ahead([bucket for _, bucket in turn], tree, blobs, cache)

    def build(bucket: Bucket) -> Layer:
        begins: dict[Digest, int] = {}
        layer = build_layer(
            blobs,
            LayerKind.CODE,
            "code",
            lambda writer: _fill(writer, bucket, tree, held, begins),
        )
        if cache:
            remember(cache, bucket, layer, begins)
        return layer

    # Hashing and writing let go of the interpreter's lock, and waiting for the disk takes long.
    # Trees are read by one thread only.
    with ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1)) as pool:
        futures = {
            key: pool.submit(build, bucket) for key, bucket in turn if all(map(_is_held, bucket))
        }
        for key, bucket in turn:
            layer = futures[key].result() if key in futures else build(bucket)
            if cache:
                cache.put("code", key, [layer])
            yield key, layer


def _read_ahead(
    buckets: Sequence[Bucket], tree: Tree, blobs: BlobStore, cache: LayerCache | None
) -> Mapping[Digest, bytes]:
    """
    The small files of all *buckets*, by digest.

    The store holds neighbours together, so they are read in order of their paths, each block of
    the store once; and nothing is read there that an earlier layer of ours holds.
    """
    held: dict[Digest, bytes] = {}
    for bucket in buckets if cache else ():
        if cache and all(map(_is_held, bucket)):
            held.update(carried(cache, blobs, bucket))
    entries = (entry for bucket in buckets for entry in bucket if _is_held(entry))
    for entry in sorted(entries, key=lambda entry: entry.path):
        if entry.digest not in held:
            with tree.open(entry.digest) as source:
                held[entry.digest] = source.read()
    return held


def _is_held(entry: PathEntry) -> bool:
    return entry.size_bytes < _HELD_FILE_BYTES


def _fill(
    writer: TreeWriter,
    bucket: Bucket,
    tree: Tree,
    held: Mapping[Digest, bytes],
    begins: dict[Digest, int],
) -> None:
    """Write the files of *bucket*; note in *begins* where in the tar contents begin."""
    root = CODE_DIR.lstrip("/").encode() + b"/"
    for entry in bucket:
        path = root + entry.path
        writer.parents_of(path)
        known = held.get(entry.digest)
        with tree.open(entry.digest) if known is None else BytesIO(known) as source:
            if entry.kind is EntryKind.SYMLINK:
                writer.symlink(path, source.read())
            else:
                executable = entry.kind is EntryKind.EXECUTABLE
                writer.file(path, entry.size_bytes, executable, source)
                # Padded to whole records, the content ends where the layer does by now.
                records = -(-entry.size_bytes // 512)
                begins[entry.digest] = writer.layer.position - 512 * records


def _bucket_key(bucket: Bucket) -> str:
    """Name what a bucket holds: modes, contents and paths decide the layer's bytes."""
    # All layouts write the same bytes for the same files.
    named = hashlib.sha256(b"code layer, layout 1\0")
    for entry in bucket:
        head = f"{entry.kind.value} {entry.digest} {entry.size_bytes} ".encode()
        named.update(head + entry.path + b"\0")
    return named.hexdigest()


def _check_names(entries: Sequence[PathEntry]) -> None:
    # image-spec, layer.md, "Whiteouts": in a layer such a file deletes another one.
    bad = [
        entry.path.decode("utf-8", "backslashreplace")
        for entry in entries
        if any(part.startswith(_WHITEOUT) for part in entry.path.split(b"/"))
    ]
    if bad:
        raise ImageError(
            "files whose names begin with .wh. cannot be in an image, where they mean a deletion",
            hint="Rename them, or leave them out with .gitignore.",
            details=bad,
        )
