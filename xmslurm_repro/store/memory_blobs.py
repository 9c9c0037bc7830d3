"""Blobs and image names in memory, with the promises of those on disk; for tests and dry runs."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from xmslurm_repro.errors import DigestMismatchError, MissingObjectError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import Descriptor


class MemoryBlobStore:
    """Keeps blobs in a dictionary."""

    def __init__(self) -> None:
        """Begin empty."""
        self._blobs: dict[Digest, bytes] = {}
        self._refs: dict[str, Descriptor] = {}

    @contextmanager
    def writer(self) -> Iterator[MemoryBlobWriter]:
        """Begin a blob."""
        yield MemoryBlobWriter(self._blobs)

    def put(self, data: bytes) -> Digest:
        """Keep a small blob."""
        digest = _digest(data)
        self._blobs[digest] = bytes(data)
        return digest

    def has(self, digest: Digest) -> bool:
        """Whether the blob is here."""
        _check(digest)
        return digest in self._blobs

    def get(self, digest: Digest) -> bytes:
        """A blob's bytes, verified."""
        data = self._raw(digest)
        got = _digest(data)
        if got != digest:
            raise DigestMismatchError(
                f"blob {digest}", want=str(digest), got=str(got), size_bytes=len(data)
            )
        return data

    def open(self, digest: Digest) -> BinaryIO:
        """A stream of the blob's bytes, not verified."""
        return io.BytesIO(self._raw(digest))

    def size_bytes(self, digest: Digest) -> int:
        """The blob's size."""
        return len(self._raw(digest))

    def digests(self) -> Iterator[Digest]:
        """The name of every blob, in order."""
        yield from sorted(self._blobs)

    def ref(self, name: str) -> Descriptor | None:
        """The image manifest that *name* names."""
        return self._refs.get(name)

    def set_ref(self, name: str, descriptor: Descriptor) -> None:
        """Let *name* name an image manifest."""
        if not name:
            raise ValueError("the name of an image is empty")
        self._refs[name] = descriptor

    def refs(self) -> dict[str, Descriptor]:
        """All names, sorted."""
        return dict(sorted(self._refs.items()))

    def _raw(self, digest: Digest) -> bytes:
        _check(digest)
        try:
            return self._blobs[digest]
        except KeyError as error:
            raise MissingObjectError(str(digest)) from error


class MemoryBlobWriter:
    """A blob that is being written."""

    def __init__(self, blobs: dict[Digest, bytes]) -> None:
        """Put the blob into *blobs* when it is committed."""
        self._blobs = blobs
        self._data = bytearray()
        self._committed = False

    def write(self, data: bytes | memoryview) -> int:
        """Append *data*."""
        if self._committed:
            raise ValueError("the blob is committed already")
        self._data += data
        return len(data)

    def commit(self, *, expected: Digest | None = None) -> tuple[Digest, int]:
        """Keep what was written."""
        if self._committed:
            raise ValueError("the blob is committed already")
        data = bytes(self._data)
        digest = _digest(data)
        if expected is not None and digest != expected:
            raise DigestMismatchError(
                "a blob that was being written",
                want=str(expected),
                got=str(digest),
                size_bytes=len(data),
            )
        self._blobs[digest] = data
        self._committed = True
        return digest, len(data)


def _digest(data: bytes) -> Digest:
    return Digest.sha256(hashlib.sha256(data).hexdigest())


def _check(digest: Digest) -> None:
    if digest.algorithm != "sha256":
        raise ValueError(f"blobs go by SHA-256, not by {digest}")
