"""One blob at a time: into the local store, or into a repository."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import BinaryIO

from xmslurm_repro.errors import DigestMismatchError, RegistryError
from xmslurm_repro.image.packing import verify_blob
from xmslurm_repro.image.registry_chunks import (
    CHUNKED_FROM_BYTES,
    NoChunksError,
    Notes,
    upload_in_chunks,
)
from xmslurm_repro.image.registry_repository import Repository
from xmslurm_repro.image.registry_upload import HighWater, blob_body
from xmslurm_repro.model.image import Descriptor
from xmslurm_repro.ports.progress import ProgressTask
from xmslurm_repro.ports.store import BlobStore


def pull_blob(
    place: Repository,
    blobs: BlobStore,
    task: ProgressTask,
    blob: Descriptor,
    check: Callable[[], None],
) -> None:
    """Bring *blob* into *blobs*, verified."""

    def write(data: bytes) -> None:
        check()
        writer.write(data)
        task.advance(len(data))

    try:
        with blobs.writer() as writer:
            place.download_blob(blob.digest, write)
            writer.commit(expected=blob.digest)
    except DigestMismatchError as error:
        raise place.trouble(
            f"the registry served a damaged layer of {place.reference}: expected {error.want}, "
            f"read {error.size_bytes} bytes that hash to {error.got}",
            hint="Try again; if it stays so, the registry or a proxy before it is broken.",
        ) from error


def push_blob(
    place: Repository,
    blobs: BlobStore,
    sources: Sequence[str],
    notes: Notes,
    task: ProgressTask,
    blob: Descriptor,
    check: Callable[[], None],
) -> str:
    """Make the repository hold *blob*; say how: ``present``, ``mounted`` or ``sent``."""
    if place.has_blob(blob.digest):
        task.advance(blob.size_bytes)
        return "present"
    location = None
    for source in sources:
        location = place.begin_upload(blob.digest, source)
        if location is None:
            task.advance(blob.size_bytes)
            return "mounted"
    water = HighWater(task)

    def begin_upload() -> str:
        nonlocal location
        place_to, location = location or place.begin_upload(blob.digest, None), None
        if place_to is None:
            host = place.reference.registry
            raise place.trouble(f"the registry {host} names no place to upload to")
        return place_to

    def body(begin: int = 0, end: int | None = None) -> BinaryIO:
        return blob_body(blobs.open(blob.digest), water, check, begin=begin, end=end)

    size_bytes = blobs.size_bytes(blob.digest)
    try:
        if size_bytes >= CHUNKED_FROM_BYTES:
            with suppress(NoChunksError):
                upload_in_chunks(place, blob.digest, size_bytes, body, begin_upload, notes)
                return "sent"
        place.upload_blob(blob.digest, size_bytes, body, begin_upload())
    except RegistryError:
        # Was the refusal our fault?
        verify_blob(blobs, blob.digest, f"blob {blob.digest}")
        raise
    return "sent"
