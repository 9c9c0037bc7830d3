"""Bring blobs to a cluster: only what is missing, once, checked on arrival."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from xmslurm_repro.cluster.program import compose, readable_lines, run_program
from xmslurm_repro.errors import ClusterError, DigestMismatchError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.image import MEDIA_TYPE_INDEX, Descriptor, Image
from xmslurm_repro.ports.clock import Clock
from xmslurm_repro.ports.progress import Progress, ProgressTask
from xmslurm_repro.ports.store import BlobStore
from xmslurm_repro.ports.transport import Transport

_CHUNK_BYTES = 1 << 20

_STREAMS = 3
"""At once: with the channel for everything else, what a server with `MaxSessions 4` allows."""

_WORTH_A_STREAM_BYTES = 4 << 20

_LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A blob, from where on it is missing."""

    blob: Descriptor
    offset: int

    @property
    def size_bytes(self) -> int:
        return self.blob.size_bytes - self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lack:
    """
    What a cluster lacks.

    Attributes:
        name: What we are called there.
        free_bytes: Of its disk.
        parts: Ours to send.
        busy: How many others somebody else is sending.
    """

    name: str
    free_bytes: int
    parts: tuple[_Part, ...]
    busy: int


async def deliver_blobs(
    transport: Transport,
    state_dir: str,
    image: Image,
    blobs: BlobStore,
    progress: Progress,
    clock: Clock,
) -> int:
    """
    Have the blobs of *image* in the state folder, and an OCI image layout that shows them.

    What came of a delivery that was cut off is not sent again. What somebody else is sending is
    waited for.

    Returns:
        The number of bytes moved.

    Raises:
        DigestMismatchError: If a blob did not arrive whole.
        ClusterError: If there is no room for them.
    """
    moved = 0
    while True:
        lack = await _ask(transport, state_dir, image)
        if lack.parts:
            moved += await _send_all(transport, state_dir, lack, blobs, progress)
        elif lack.busy:
            await clock.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return moved


async def _ask(transport: Transport, state_dir: str, image: Image) -> _Lack:
    wanted = {blob.digest.hex: blob for blob in image.blobs}
    done = await run_program(
        transport,
        compose("common", "have"),
        *(state_dir, image.manifest.digest.hex, _index(image)),
        payload="".join(
            f"{digits} {blob.size_bytes}\n" for digits, blob in wanted.items()
        ).encode(),
    )
    lines = [line.partition(" ") for line in done.stdout.decode("ascii", "replace").splitlines()]
    if done.exit_status != 0 or len(lines) < 2:
        raise ClusterError(
            f"the state folder on {transport.description} cannot be used",
            details=readable_lines(done.stderr),
        )
    (_, _, name), (_, _, free), *rest = lines
    parts = [(wanted[digits], said) for digits, _, said in rest]
    return _Lack(
        name=name,
        free_bytes=int(free or 0),
        parts=tuple(_Part(blob=b, offset=int(said)) for b, said in parts if said != "busy"),
        busy=sum(said == "busy" for _, said in parts),
    )


async def _send_all(
    transport: Transport, state_dir: str, lack: _Lack, blobs: BlobStore, progress: Progress
) -> int:
    total = sum(part.size_bytes for part in lack.parts)
    if total > lack.free_bytes:
        raise ClusterError(
            f"the image does not fit on {transport.description}: {_mib(total)} MiB are to be sent, "
            f"and {_mib(lack.free_bytes)} MiB are free in {state_dir}",
            hint="Make room there, or set `state_dir` of the cluster to a folder on another disk.",
        )
    task = progress.start("sending the image", total=total)
    try:
        # Each brings what it has begun to its end; then the first error counts.
        sends = (
            _send(transport, state_dir, lack.name, share, blobs, task)
            for share in _shares(lack.parts)
        )
        results = await asyncio.gather(*sends, return_exceptions=True)
    finally:
        task.finish()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return sum(result for result in results if isinstance(result, int))


def _shares(parts: Sequence[_Part]) -> list[list[_Part]]:
    """Several streams for what is worth it, each with about as much as the others."""
    total = sum(part.size_bytes for part in parts)
    count = max(1, min(_STREAMS, len(parts), total // _WORTH_A_STREAM_BYTES))
    shares: list[list[_Part]] = [[] for _ in range(count)]
    loads = [0] * count
    for part in sorted(parts, key=lambda part: -part.size_bytes):
        lightest = loads.index(min(loads))
        shares[lightest].append(part)
        loads[lightest] += part.size_bytes
    return shares


async def _send(
    transport: Transport,
    state_dir: str,
    name: str,
    parts: Sequence[_Part],
    blobs: BlobStore,
    task: ProgressTask,
) -> int:
    done = await run_program(
        transport,
        compose("common", "receive"),
        *(state_dir, name, *(part.blob.digest.hex for part in parts)),
        payload=_stream(parts, blobs, task),
        timeout_seconds=None,
    )
    arrived = {}
    for line in done.stdout.decode("ascii", "replace").splitlines():
        digits, *rest = line.split()
        if len(rest) == 2:
            raise DigestMismatchError(
                f"blob sha256:{digits} on {transport.description}",
                want=f"sha256:{digits}",
                got=f"sha256:{rest[1]}",
                size_bytes=int(rest[0]),
            )
        arrived[digits] = rest == ["ok"]
    lacking = [part for part in parts if part.blob.digest.hex not in arrived]
    if lacking or done.exit_status != 0:
        raise ClusterError(
            f"{len(lacking)} of {len(parts)} blobs did not arrive on {transport.description}",
            hint="Launch again: what arrived is kept.",
            details=readable_lines(done.stderr),
        )
    return sum(part.size_bytes for part in parts if arrived[part.blob.digest.hex])


async def _stream(
    parts: Sequence[_Part], blobs: BlobStore, task: ProgressTask
) -> AsyncIterator[bytes]:
    for part in parts:
        yield f"{part.blob.digest.hex} {part.blob.size_bytes} {part.offset}\n".encode()
        with blobs.open(part.blob.digest) as source:
            source.seek(part.offset)
            while chunk := await asyncio.to_thread(source.read, _CHUNK_BYTES):
                task.advance(len(chunk))
                yield chunk


def _mib(size_bytes: int) -> int:
    return -(-size_bytes // (1 << 20))


def _index(image: Image) -> str:
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_INDEX,
            "manifests": [image.manifest.to_json()],
        }
    ).decode("utf-8")
