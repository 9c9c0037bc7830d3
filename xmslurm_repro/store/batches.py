"""Many objects written at once: loose where they are few and small, otherwise as one pack."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.ports.store import Updatable
from xmslurm_repro.store.file_pieces import feed, file_pieces
from xmslurm_repro.store.hashing import Blake3Hasher, blake3_bytes
from xmslurm_repro.store.pack_writer import FULL_BYTES, PackWriter

if TYPE_CHECKING:
    from xmslurm_repro.store.objects import DiskObjectStore

_LOOSE_OBJECTS = 32
_LOOSE_BYTES = 256 * 1024
"""What a batch may hold to be written as loose objects: a file each must stay cheap."""

_CHUNK_BYTES = 1024 * 1024


class ObjectBatchOnDisk:
    """An `ObjectBatch`: in memory while it is small, then a pack that grows."""

    def __init__(self, store: DiskObjectStore) -> None:
        self._store = store
        self._writer = PackWriter(store.publisher.new_file)
        self._seen: set[bytes] = set()
        # A store that holds nothing need not be asked for each of thousands of files.
        self._asks = store.is_anything_held()
        self._places: set[str] = set()

    def put(self, data: bytes) -> Digest:
        """Keep *data*; return its BLAKE3."""
        if len(data) > FULL_BYTES:
            return self.put_stream(io.BytesIO(data))[0]
        digest = blake3_bytes(data)
        if self._is_new(digest):
            self._writer.room(len(data))[:] = data
            self._writer.add(digest, len(data))
        return Digest.blake3(digest.hex())

    def put_stream(self, source: BinaryIO) -> tuple[Digest, int]:
        """
        Keep all that *source* yields, without holding it in memory; its BLAKE3 and size.

        A large source that can be rewound is read twice, since reading is far cheaper than
        compressing what the store already holds.
        """
        head = _read_up_to(source, FULL_BYTES)
        if len(head) < FULL_BYTES:
            return self.put(head), len(head)
        if self._asks and source.seekable():
            begin = source.tell() - len(head)
            hasher = Blake3Hasher()
            hasher.update(head)
            while chunk := source.read(_CHUNK_BYTES):
                hasher.update(chunk)
            if not self._is_new(hasher.raw()):
                return hasher.digest(), hasher.size_bytes
            self._seen.discard(hasher.raw())
            source.seek(begin)
            head = b""
        hasher = self._append(_chunks_of(source, head))
        return hasher.digest(), hasher.size_bytes

    def put_file(
        self, descriptor: int, size_bytes: int, also: Updatable | None = None
    ) -> tuple[bytes, int]:
        """Keep what is in an open file: see `ObjectBatch.put_file`."""
        if size_bytes >= FULL_BYTES:
            return self._put_large(descriptor, size_bytes, also)
        view = self._writer.room(size_bytes + 1)
        size = os.readv(descriptor, (view,))
        while size < size_bytes and (more := os.readv(descriptor, (view[size:],))):
            size += more
        data = view[:size]
        digest = blake3_bytes(data)
        if also is not None:
            also.update(data)
        if self._is_new(digest):
            self._writer.add(digest, size)
        return digest, size

    def places(self) -> frozenset[str]:
        """Where everything lies that was put, once the block has ended."""
        return frozenset(self._places)

    def finish(self) -> None:
        """Let the store hold everything."""
        writer = self._writer
        if writer.object_count == 0 and not writer.position:
            return
        if writer.object_count <= _LOOSE_OBJECTS and writer.position <= _LOOSE_BYTES:
            self._places.update(self._store.publisher.loose(writer.small_objects()))
        else:
            self._places.add(self._store.publisher.pack(*writer.finish()))

    def discard(self) -> None:
        """Let go of everything; forget what was not finished. Idempotent."""
        self._writer.discard()
        # Somebody may still hold the batch: names of a large tree take 10 MB.
        self._seen.clear()

    def _is_new(self, digest: bytes) -> bool:
        """Whether it has to be written; it counts as seen from now on."""
        if digest in self._seen:
            return False
        self._seen.add(digest)
        if self._asks and (place := self._store.place_of(digest.hex())) is not None:
            self._places.add(place)
            return False
        return True

    def _put_large(
        self, descriptor: int, size_bytes: int, also: Updatable | None
    ) -> tuple[bytes, int]:
        if self._asks:
            hasher = Blake3Hasher()
            for piece in file_pieces(descriptor, size_bytes):
                feed(piece, hasher, also)
            if not self._is_new(hasher.raw()):
                return hasher.raw(), hasher.size_bytes
            self._seen.discard(hasher.raw())
            also = None
        hasher = self._append(file_pieces(descriptor, size_bytes), also)
        return hasher.raw(), hasher.size_bytes

    def _append(
        self, pieces: Iterable[bytes | memoryview | int], also: Updatable | None = None
    ) -> Blake3Hasher:
        writer, hasher = self._writer, Blake3Hasher()
        start = writer.position
        for piece in pieces:
            feed(piece, hasher, also)
            if isinstance(piece, int):
                writer.append_zeros(piece)
            else:
                writer.append(piece)
        # Bytes that turn out to be held already stay in the pack without a name; that takes a
        # pipe, or a file that changes between its two readings.
        if self._is_new(hasher.raw()):
            writer.close_object(hasher.raw(), start)
        return hasher


def _chunks_of(source: BinaryIO, head: bytes) -> Iterator[bytes]:
    if head:
        yield head
    while chunk := source.read(_CHUNK_BYTES):
        yield chunk


def _read_up_to(source: BinaryIO, size: int) -> bytes:
    chunks, missing = [], size
    while missing and (chunk := source.read(missing)):
        chunks.append(chunk)
        missing -= len(chunk)
    return b"".join(chunks)
