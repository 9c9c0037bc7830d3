"""Layers of packages, built side by side; what kind of packages does not matter here."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from xmslurm_repro.errors import DigestMismatchError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import Layer
from xmslurm_repro.ports.progress import ProgressTask
from xmslurm_repro.ports.store import BlobStore

_CHUNK_BYTES = 1 << 20

Group = TypeVar("Group")


class StoppedError(Exception):
    """Another layer failed, or the user lost patience: the rest need not be built to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """The building of several layers at once."""

    task: ProgressTask
    stopped: threading.Event = field(default_factory=threading.Event)

    def advance(self, amount: int) -> None:
        """
        Say that *amount* more bytes are in a layer.

        Raises:
            StoppedError: If nobody waits for the layer any more.
        """
        if self.stopped.is_set():
            raise StoppedError
        self.task.advance(amount)


def pack(
    groups: Sequence[Group],
    build: Callable[[Group, Packing], tuple[Layer | None, list[str]]],
    task: ProgressTask,
) -> tuple[tuple[Layer, ...], list[str]]:
    """
    Build a layer of each group, a thread for each: inflating and hashing let go of the
    interpreter's lock. Ends *task*.

    Args:
        groups: What is to be packed.
        build: Makes the layer of a group, or says what is wrong with it.
        task: Is told of the bytes.

    Returns:
        The layers in the order of their groups, and all that is wrong.
    """
    packing = Packing(task=task)
    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    try:
        futures = [pool.submit(build, group, packing) for group in groups]
        results = [future.result() for future in futures]
    finally:
        packing.stopped.set()
        pool.shutdown(cancel_futures=True)
        task.finish()
    layers = tuple(layer for layer, _ in results if layer)
    return layers, [problem for _, problems in results for problem in problems]


def verify_blob(blobs: BlobStore, digest: Digest, name: str) -> None:
    """
    Read a blob in full.

    Raises:
        MissingObjectError: If it is not there.
        DigestMismatchError: If it is damaged; calls it *name*.
    """
    found, size_bytes = hashlib.sha256(), 0
    with blobs.open(digest) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            found.update(chunk)
            size_bytes += len(chunk)
    if found.hexdigest() != digest.hex:
        got = f"sha256:{found.hexdigest()}"
        raise DigestMismatchError(name, want=str(digest), got=got, size_bytes=size_bytes)
