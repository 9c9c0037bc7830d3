"""Objects in memory, for tests and for trying things out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from xmslurm_repro.errors import MissingObjectError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.ports.store import Updatable
from xmslurm_repro.store.hashing import blake3_digest
from xmslurm_repro.store.object_stream import verified, verified_stream


class MemoryObjectStore:
    """
    An `ObjectStore` that is gone with the process.

    Attributes:
        objects: What it holds. Tests may change it, to see that damage is noticed.
    """

    def __init__(self) -> None:
        self.objects: dict[Digest, bytes] = {}

    def put(self, data: bytes) -> Digest:
        """Keep *data*: see `ObjectStore.put`."""
        digest = blake3_digest(data)
        self.objects.setdefault(digest, bytes(data))
        return digest

    @contextmanager
    def batch(self) -> Iterator[MemoryObjectBatch]:
        """Write many objects: see `ObjectStore.batch`."""
        batch = MemoryObjectBatch()
        yield batch
        for digest, data in batch.objects.items():
            self.objects.setdefault(digest, data)

    def settle_soon(self) -> None:
        """Nothing here outlives the process anyway."""

    def settle(self) -> None:
        """Nothing here outlives the process anyway."""

    def get(self, digest: Digest) -> bytes:
        """The object's bytes, verified: see `ObjectStore.get`."""
        return b"".join(verified(self._find(digest), digest, str(digest)))

    def open(self, digest: Digest) -> BinaryIO:
        """A verified stream of the object's bytes: see `ObjectStore.open`."""
        return verified_stream(self._find(digest), digest, str(digest))

    def has(self, digest: Digest) -> bool:
        """Whether the store holds it."""
        return digest in self.objects

    def places(self, digits: Iterable[str]) -> frozenset[str]:
        """Where objects lie: see `ObjectStore.places`. Each is its own place."""
        places = frozenset(digits)
        for place in places:
            if not self.has_places([place]):
                raise MissingObjectError(f"blake3:{place}")
        return places

    def has_places(self, places: Iterable[str]) -> bool:
        """Whether everything in *places* is still here."""
        return all(Digest.blake3(place) in self.objects for place in places)

    def digests(self) -> Iterator[Digest]:
        """The name of every object, each once."""
        return iter(list(self.objects))

    def _find(self, digest: Digest) -> list[bytes]:
        if digest not in self.objects:
            raise MissingObjectError(str(digest))
        return [self.objects[digest]]


class MemoryObjectBatch:
    """An `ObjectBatch` in memory."""

    def __init__(self) -> None:
        self.objects: dict[Digest, bytes] = {}

    def put(self, data: bytes) -> Digest:
        """Keep *data*; return its BLAKE3."""
        digest = blake3_digest(data)
        self.objects[digest] = bytes(data)
        return digest

    def put_stream(self, source: BinaryIO) -> tuple[Digest, int]:
        """Keep all that *source* yields; its BLAKE3 and size."""
        data = source.read()
        return self.put(data), len(data)

    def put_file(
        self, descriptor: int, size_bytes: int, also: Updatable | None = None
    ) -> tuple[bytes, int]:
        """Keep what is in an open file: see `ObjectBatch.put_file`."""
        data = b""
        while more := os.read(descriptor, size_bytes + 1 - len(data)):
            data += more
        if also is not None:
            also.update(data)
        return bytes.fromhex(self.put(data).hex), len(data)

    def places(self) -> frozenset[str]:
        """Where everything lies that was put."""
        return frozenset(digest.hex for digest in self.objects)
