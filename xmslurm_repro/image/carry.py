"""What an earlier code layer holds already, so that an edit reads one file and not its neighbours.

A layer of ours is stored, not compressed, so its files can be read out of it. It is only a
source: every file is checked against its own digest, and what is not right is read elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from xmslurm_repro.errors import FormatError, ReproError
from xmslurm_repro.image.cache import LayerCache
from xmslurm_repro.image.layer import stored_bytes
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import Layer
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.snapshot import PathEntry
from xmslurm_repro.ports.store import BlobStore
from xmslurm_repro.store.hashing import blake3_digest

_KIND = "code-files"
_MAX_LAYER_BYTES = 16 << 20


def remember(
    cache: LayerCache, bucket: Sequence[PathEntry], layer: Layer, begins: Mapping[Digest, int]
) -> None:
    """Note where in the tar of *layer*, which holds *bucket*, the contents of files begin."""
    if layer.blob.size_bytes <= _MAX_LAYER_BYTES:
        files: Json = {str(digest): begin for digest, begin in begins.items()}
        document: Json = {"blob": str(layer.blob.digest), "files": files}
        cache.documents.put(_KIND, _slot(bucket), document)


def carried(
    cache: LayerCache, blobs: BlobStore, bucket: Sequence[PathEntry]
) -> Iterator[tuple[Digest, bytes]]:
    """Those contents of *bucket* that its predecessor, if there is one, holds; each is verified."""
    document = cache.documents.get(_KIND, _slot(bucket))
    if document is None:
        return
    try:
        blob = document.field("blob").digest()
        files = document.field("files")
        if not blobs.has(blob) or blobs.size_bytes(blob) > _MAX_LAYER_BYTES:
            return
        with blobs.open(blob) as source:
            tar = stored_bytes(source.read())
    except (FormatError, ReproError, ValueError):
        return
    for entry in bucket:
        data = _content(tar, files, entry)
        if data is not None:
            yield entry.digest, data


def _content(tar: memoryview, files: Reader, entry: PathEntry) -> bytes | None:
    try:
        begin = files.maybe(str(entry.digest))
        if begin is None:
            return None
        data = bytes(tar[begin.integer() : begin.integer() + entry.size_bytes])
    except FormatError:
        return None
    return data if blake3_digest(data) == entry.digest else None


def _slot(bucket: Sequence[PathEntry]) -> str:
    # Files are dealt by path: the layer after an edit nearly always begins with the same one.
    return hashlib.sha256(b"begins with " + bucket[0].path).hexdigest()
