"""Bring blobs to a cluster: only what is missing, checked on arrival."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from xmslurm_repro.cluster.program import compose, readable_lines, run_program
from xmslurm_repro.errors import ClusterError, DigestMismatchError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.image import MEDIA_TYPE_INDEX, Descriptor, Image
from xmslurm_repro.ports.progress import Progress, ProgressTask
from xmslurm_repro.ports.store import BlobStore
from xmslurm_repro.ports.transport import Transport

_CHUNK_BYTES = 1 << 20


async def deliver_blobs(
    transport: Transport, state_dir: str, image: Image, blobs: BlobStore, progress: Progress
) -> int:
    """
    Have the blobs of *image* in the state folder, and an OCI image layout that shows them.

    Returns:
        The number of bytes moved.

    Raises:
        DigestMismatchError: If a blob did not arrive whole.
    """
    wanted = {blob.digest.hex: blob for blob in image.blobs}
    done = await run_program(
        transport,
        compose("common", "have"),
        *(state_dir, image.manifest.digest.hex, _index(image)),
        payload="".join(f"{hex_digits}\n" for hex_digits in wanted).encode(),
    )
    if done.exit_status != 0:
        raise ClusterError(
            f"the state folder on {transport.description} cannot be used",
            details=readable_lines(done.stderr),
        )
    missing = [wanted[hex_digits] for hex_digits in done.stdout.decode("ascii").split()]
    if not missing:
        return 0
    total = sum(blob.size_bytes for blob in missing)
    task = progress.start("sending the image", total=total)
    try:
        await _send(transport, state_dir, missing, blobs, task)
    finally:
        task.finish()
    return total


async def _send(
    transport: Transport,
    state_dir: str,
    missing: Sequence[Descriptor],
    blobs: BlobStore,
    task: ProgressTask,
) -> None:
    done = await run_program(
        transport,
        compose("common", "receive"),
        state_dir,
        payload=_stream(missing, blobs, task),
        timeout_seconds=None,
    )
    arrived = set()
    for line in done.stdout.decode("ascii", "replace").splitlines():
        digits, *rest = line.split()
        if rest == ["ok"]:
            arrived.add(digits)
        elif len(rest) == 2:
            raise DigestMismatchError(
                f"blob sha256:{digits} on {transport.description}",
                want=f"sha256:{digits}",
                got=f"sha256:{rest[1]}",
                size_bytes=int(rest[0]),
            )
    lacking = sorted({blob.digest.hex for blob in missing} - arrived)
    if lacking or done.exit_status != 0:
        raise ClusterError(
            f"{len(lacking)} of {len(missing)} blobs did not arrive on {transport.description}",
            hint="Launch again: what arrived is kept.",
            details=readable_lines(done.stderr),
        )


async def _stream(
    missing: Sequence[Descriptor], blobs: BlobStore, task: ProgressTask
) -> AsyncIterator[bytes]:
    for blob in missing:
        yield f"{blob.digest.hex} {blob.size_bytes}\n".encode()
        with blobs.open(blob.digest) as source:
            while chunk := await asyncio.to_thread(source.read, _CHUNK_BYTES):
                task.advance(len(chunk))
                yield chunk


def _index(image: Image) -> str:
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_INDEX,
            "manifests": [image.manifest.to_json()],
        }
    ).decode("utf-8")
