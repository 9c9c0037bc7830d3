"""Code layers: the snapshot below ``/xm/code``, dealt so that an edit moves little.

The rule looks at paths and sizes only. Text by its suffix (what people edit) is dealt by
folder; other small files by path; files from 1 MiB each by path, so that they seldom share a
layer. The number of layers grows in powers of two with the size, so that it seldom changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.cache import LayerCache
from xmslurm_repro.image.layer import TreeWriter, build_layer
from xmslurm_repro.model.image import CODE_DIR, LAYOUT, Layer, LayerKind
from xmslurm_repro.model.snapshot import EntryKind, PathEntry
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore, Tree

MAX_CODE_LAYERS = 16 + 8 + 16

_LARGE = 1 << 20
_TEXT_LAYER = 1 << 20
_DATA_LAYER = 16 << 20
_TEXT_SUFFIXES = (
    *(b".bash", b".bib", b".c", b".cc", b".cfg", b".cpp", b".cu", b".cuh", b".gin", b".h"),
    *(b".hpp", b".ini", b".ipynb", b".jl", b".js", b".json", b".lock", b".lua", b".md", b".proto"),
    *(b".py", b".pyi", b".pyx", b".r", b".rs", b".rst", b".sh", b".sql", b".tex", b".toml"),
    *(b".ts", b".txt", b".yaml", b".yml"),
)
_WHITEOUT = b".wh."


def deal(entries: Iterable[PathEntry]) -> tuple[tuple[PathEntry, ...], ...]:
    """Part *entries* into the contents of layers; none is empty. At most `MAX_CODE_LAYERS`."""
    text, data, large = [], [], []
    for entry in entries:
        if entry.kind is not EntryKind.SYMLINK and entry.size_bytes >= _LARGE:
            large.append(entry)
        elif _is_text(entry):
            text.append(entry)
        else:
            data.append(entry)
    return (
        *_buckets(text, _layer_count(text, _TEXT_LAYER, most=16), by_folder=True),
        *_buckets(data, _layer_count(data, _DATA_LAYER, most=8), by_folder=False),
        *_buckets(large, 16, by_folder=False),
    )


def code_layers(
    tree: Tree, blobs: BlobStore, cache: LayerCache | None, progress: Progress
) -> tuple[Layer, ...]:
    """
    Build the code layers of *tree*, those that are not there yet.

    Raises:
        ImageError: If a path cannot be in an image.
    """
    entries = tuple(tree.entries())
    _check_names(entries)
    dealt = deal(entries)
    task = progress.start("Packing code", total=len(dealt), unit="layers")
    layers = []
    try:
        for number, bucket in enumerate(dealt, start=1):
            layers.append(_layer(bucket, f"code {number} of {len(dealt)}", tree, blobs, cache))
            task.advance(1)
    finally:
        task.finish()
    return tuple(layers)


def _layer(
    bucket: Sequence[PathEntry], title: str, tree: Tree, blobs: BlobStore, cache: LayerCache | None
) -> Layer:
    key = _bucket_key(bucket)
    known = cache.get("code", key) if cache else None
    if known and len(known) == 1:
        return Layer(kind=LayerKind.CODE, title=title, diff_id=known[0].diff_id, blob=known[0].blob)
    layer = build_layer(blobs, LayerKind.CODE, title, lambda writer: _fill(writer, bucket, tree))
    if cache:
        cache.put("code", key, [layer])
    return layer


def _fill(writer: TreeWriter, bucket: Sequence[PathEntry], tree: Tree) -> None:
    root = CODE_DIR.lstrip("/").encode() + b"/"
    for entry in bucket:
        path = root + entry.path
        writer.parents_of(path)
        with tree.open(entry.digest) as source:
            if entry.kind is EntryKind.SYMLINK:
                writer.symlink(path, source.read())
            else:
                executable = entry.kind is EntryKind.EXECUTABLE
                writer.file(path, entry.size_bytes, executable, source)


def _bucket_key(bucket: Sequence[PathEntry]) -> str:
    """Name what a bucket holds: modes, contents and paths decide the layer's bytes."""
    named = hashlib.sha256(b"code layer, layout %d\0" % LAYOUT)
    for entry in bucket:
        head = f"{entry.kind.value} {entry.digest} {entry.size_bytes} ".encode()
        named.update(head + entry.path + b"\0")
    return named.hexdigest()


def _buckets(
    entries: Sequence[PathEntry], count: int, *, by_folder: bool
) -> Iterable[tuple[PathEntry, ...]]:
    dealt: dict[int, list[PathEntry]] = {}
    for entry in entries:
        name = entry.path.rpartition(b"/")[0] if by_folder else entry.path
        dealt.setdefault(hashlib.sha256(name).digest()[0] % count, []).append(entry)
    return (tuple(sorted(dealt[n], key=lambda entry: entry.path)) for n in sorted(dealt))


def _layer_count(entries: Sequence[PathEntry], layer_size_bytes: int, *, most: int) -> int:
    wanted = sum(entry.size_bytes for entry in entries) // layer_size_bytes
    return min(most, 1 << wanted.bit_length())


def _is_text(entry: PathEntry) -> bool:
    if entry.kind is EntryKind.SYMLINK:
        return True
    name = entry.path.rpartition(b"/")[2]
    return b"." not in name[1:] or name.lower().endswith(_TEXT_SUFFIXES)


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
