"""Where bytes are kept under the name of what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    # A capture of an unchanged tree needs none of these, and their import is what it waits for.
    from xmslurm_repro.model.digest import Digest
    from xmslurm_repro.model.image import Descriptor
    from xmslurm_repro.model.snapshot import PathEntry


class Updatable(Protocol):
    """Takes bytes piece by piece, such as a hasher. Keeps none of them."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Append *data*."""
        ...


class ObjectBatch(Protocol):
    """
    Many objects written together.

    Nothing is promised before the batch's block ends; after it, every object is in the store,
    and safe on disk after the store's next `ObjectStore.settle`. If the block raises, or the
    process dies, the store is as it was before.
    """

    def put(self, data: bytes) -> Digest:
        """Keep *data*; return its BLAKE3."""
        ...

    def put_stream(self, source: BinaryIO) -> tuple[Digest, int]:
        """Keep all that *source* yields, without holding it in memory; its BLAKE3 and size."""
        ...

    def put_file(
        self, descriptor: int, size_bytes: int, also: Updatable | None = None
    ) -> tuple[bytes, int]:
        """
        Keep what is in a file that was just opened, without holding a large one in memory.

        Args:
            descriptor: The file.
            size_bytes: How much it should be.
            also: Is given the same bytes.

        Returns:
            The 32 bytes of the BLAKE3, and how much was read: not *size_bytes* where the file
            holds less, or more.

        Raises:
            OSError: If the file cannot be read.
            StoreError: If the store cannot be written.
        """
        ...

    def places(self) -> frozenset[str]:
        """Where all that was put lies, as `ObjectStore.places`, once the block has ended."""
        ...


class ObjectStore(Protocol):
    """Objects by the BLAKE3 of their raw bytes: nodes, files, locks, manifests, receipts."""

    def put(self, data: bytes) -> Digest:
        """
        Keep *data* and return its name.

        Idempotent: afterwards the store holds the bytes, whoever put them there, and after the
        next `settle` they are safe on disk. A reader never sees half an object, even if this
        process is killed.

        Raises:
            StoreError: If the disk is full or may not be written.
        """
        ...

    def batch(self) -> AbstractContextManager[ObjectBatch]:
        """Write many objects at the cost of few files."""
        ...

    def settle_soon(self) -> None:
        """Begin to do what `settle` does, without waiting for it."""
        ...

    def settle(self) -> None:
        """
        Return when everything that was put or found here is safe on disk. What is recorded as
        needed must be.

        Raises:
            StoreError: If that fails.
        """
        ...

    def get(self, digest: Digest) -> bytes:
        """
        The object's bytes, verified.

        Raises:
            MissingObjectError: If the store does not hold it.
            DigestMismatchError: If what it holds is damaged.
        """
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """
        A stream of the object's bytes, verified as they are read: reading past the last byte of
        a damaged object raises `DigestMismatchError` instead of ending.

        Raises:
            MissingObjectError: If the store does not hold it.
        """
        ...

    def has(self, digest: Digest) -> bool:
        """Whether the store holds it. Does not read it."""
        ...

    def places(self, digits: Iterable[str]) -> frozenset[str]:
        """
        Where the objects lie whose names have these digits, for `has_places`.

        Raises:
            MissingObjectError: If the store lacks one of them.
        """
        ...

    def has_places(self, places: Iterable[str]) -> bool:
        """Whether the store still holds every object that lay in any of *places*."""
        ...

    def digests(self) -> Iterator[Digest]:
        """The name of every object, in no particular order, each once."""
        ...


class BlobWriter(Protocol):
    """A blob that is being written. It has no name until it is committed."""

    def write(self, data: bytes | memoryview) -> int:
        """Append *data*."""
        ...

    def commit(self, *, expected: Digest | None = None) -> tuple[Digest, int]:
        """
        Keep what was written; return its SHA-256 and size. At most once.

        Raises:
            DigestMismatchError: If it is not what was *expected*; then nothing is kept.
        """
        ...


class BlobStore(Protocol):
    """Blobs by SHA-256, and names for images: an OCI image layout on disk."""

    def writer(self) -> AbstractContextManager[BlobWriter]:
        """Begin a blob. What is not committed when the block ends is gone without a trace."""
        ...

    def put(self, data: bytes) -> Digest:
        """Keep a small blob. Idempotent."""
        ...

    def has(self, digest: Digest) -> bool:
        """Whether the blob is here. Does not read it."""
        ...

    def get(self, digest: Digest) -> bytes:
        """
        A small blob's bytes, verified.

        Raises:
            MissingObjectError: If it is not here.
            DigestMismatchError: If it is damaged.
        """
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """
        A seekable stream of the blob's bytes, *not* verified: whoever moves it checks it on
        arrival.

        Raises:
            MissingObjectError: If it is not here.
        """
        ...

    def size_bytes(self, digest: Digest) -> int:
        """
        The blob's size.

        Raises:
            MissingObjectError: If it is not here.
        """
        ...

    def digests(self) -> Iterator[Digest]:
        """The name of every blob, each once, in order."""
        ...

    def ref(self, name: str) -> Descriptor | None:
        """The image manifest that *name* names in the layout's index."""
        ...

    def set_ref(self, name: str, descriptor: Descriptor) -> None:
        """Let *name* name an image manifest. Atomic; other names are untouched."""
        ...

    def refs(self) -> dict[str, Descriptor]:
        """All names, sorted."""
        ...


class Tree(Protocol):
    """A captured work tree, read from the store."""

    @property
    def root(self) -> Digest:
        """The snapshot's identity."""
        ...

    def entries(self) -> Iterable[PathEntry]:
        """Every file and link, sorted by path as bytes."""
        ...

    def find(self, path: str) -> PathEntry | None:
        """The file or link at *path* (``/`` between components), or ``None``."""
        ...

    def read(self, path: str) -> bytes | None:
        """The bytes of the file at *path*, or ``None`` when there is no such file."""
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """A verified stream of a file's content, by the digest in its entry."""
        ...
