"""Which layers came out of which inputs, so that a warm build reads no package again.

Only a shortcut: an entry that is damaged, of other bytes, or whose blob is gone counts as
absent, and the layer is built again, to the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from xmslurm_repro.errors import FormatError, StoreError
from xmslurm_repro.model.canonical import Json, canonical_json
from xmslurm_repro.model.image import Layer
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.ports.store import BlobStore

_VERSION = 1
"""Of the bytes of package layers, which are the same in every layout so far."""


def cache_key(*parts: Json) -> str:
    """Name inputs by the SHA-256 of their canonical JSON."""
    return hashlib.sha256(canonical_json([_VERSION, *parts])).hexdigest()


class DocumentCache:
    """Small JSON documents in a folder, by kind and key."""

    def __init__(self, folder: Path) -> None:
        """Keep documents below *folder*, which is made when the first one is written."""
        self._folder = folder

    def get(self, kind: str, key: str) -> Reader | None:
        """The document, or ``None`` when there is none that can be read."""
        path = self._path(kind, key)
        try:
            return Reader.of_json(path.read_bytes(), str(path))
        except (OSError, FormatError):
            return None

    def put(self, kind: str, key: str, document: Json) -> None:
        """
        Keep *document*; atomic.

        Raises:
            StoreError: If the folder cannot be written.
        """
        path = self._path(kind, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(canonical_json(document))
                os.replace(name, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as error:
            raise StoreError(f"the cache {path} cannot be written: {error.strerror}") from error

    def remove(self, kind: str, key: str) -> None:
        """Have no such document."""
        with suppress(OSError):
            self._path(kind, key).unlink(missing_ok=True)

    def _path(self, kind: str, key: str) -> Path:
        return self._folder / kind / f"{key}.json"


class LayerCache:
    """Layers by what they were built from."""

    def __init__(self, folder: Path, blobs: BlobStore) -> None:
        """Keep entries below *folder*; the layers' bytes are in *blobs*."""
        self.documents = DocumentCache(folder)
        self._blobs = blobs

    def get(self, kind: str, key: str) -> tuple[Layer, ...] | None:
        """The layers, or ``None`` unless every one of them is there in its full size."""
        document = self.documents.get(kind, key)
        if document is None:
            return None
        try:
            layers = tuple(Layer.from_json(item) for item in document.field("layers").items())
        except FormatError:
            return None
        return layers if all(self._is_here(layer) for layer in layers) else None

    def put(self, kind: str, key: str, layers: Sequence[Layer]) -> None:
        """Remember *layers*."""
        self.documents.put(kind, key, {"layers": [layer.to_json() for layer in layers]})

    def _is_here(self, layer: Layer) -> bool:
        digest, size_bytes = layer.blob.digest, layer.blob.size_bytes
        return self._blobs.has(digest) and self._blobs.size_bytes(digest) == size_bytes
