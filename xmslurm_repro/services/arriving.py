"""Output files on their way here: whole and checked, or not at all, and gone on with later."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xmslurm_repro.errors import ConnectionLostError, DigestMismatchError, StoreError
from xmslurm_repro.model.run import OutputFile, RunId
from xmslurm_repro.ports.clock import Clock
from xmslurm_repro.ports.cluster import Cluster, WantedFile
from xmslurm_repro.ports.progress import Progress, ProgressTask

_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving:
    """An output and where it shall be. Until it is whole it has a name of its own beside it."""

    run_id: RunId
    attempt: str
    file: OutputFile
    target: Path

    @property
    def part(self) -> Path:
        """What came so far."""
        name = f"{self.file.sha256} {self.target.name}".encode("utf-8", "surrogateescape")
        return self.target.with_name(f".{hashlib.sha256(name).hexdigest()[:16]}.xmslurm-part")

    def is_whole(self) -> bool:
        """Whether it is there already, with the right bytes."""
        if self.target.is_symlink() or not self.target.is_file():
            return False
        if self.target.stat().st_size != self.file.size_bytes:
            return False
        return _sha256(self.target).hexdigest() == self.file.sha256.hex


def _sha256(path: Path) -> hashlib._Hash:
    hasher = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher


def refuse_what_is_in_the_way(items: Sequence[Arriving]) -> None:
    """
    Look at every target.

    Raises:
        StoreError: If something else is at one, naming all.
    """
    taken = [item for item in items if item.target.is_symlink() or item.target.exists()]
    in_the_way = sorted(str(item.target) for item in taken if not item.is_whole())
    if in_the_way:
        raise StoreError(
            f"{len(in_the_way)} files with other bytes are there already",
            details=in_the_way[:20],
            hint="Name an empty folder with `--to`.",
        )


async def take(
    cluster: Cluster, items: Sequence[Arriving], clock: Clock, progress: Progress
) -> None:
    """
    Have every item whole at its target. A connection that breaks is made again, and what came is
    kept.

    Raises:
        DigestMismatchError: If the bytes are not those that the run left.
        ConnectionLostError: If the connection is lost, again and again.
    """
    left = [item for item in items if not item.is_whole()]
    total = sum(item.file.size_bytes for item in left)
    task = progress.start("fetching outputs", total=total)
    failures = 0
    try:
        while left:
            try:
                await _stream(cluster, left, task)
            except ConnectionLostError:
                if failures == len(_PAUSES_SECONDS):
                    raise
                await clock.sleep(_PAUSES_SECONDS[failures])
                failures += 1
            left = [item for item in left if not item.target.exists()]
    finally:
        task.finish()


async def _stream(cluster: Cluster, items: Sequence[Arriving], task: ProgressTask) -> None:
    by_wanted = {}
    for item in items:
        item.target.parent.mkdir(parents=True, exist_ok=True)
        offset = item.part.stat().st_size if item.part.exists() else 0
        if offset > item.file.size_bytes:
            item.part.unlink()
            offset = 0
        wanted = WantedFile(
            run_id=item.run_id, attempt=item.attempt, path=item.file.path, offset=offset
        )
        by_wanted[wanted] = item
    current: Arriving | None = None
    async for wanted, piece in cluster.fetch_many(tuple(by_wanted)):
        item = by_wanted[wanted]
        if current is not None and item is not current:
            _finish(current)
        current = item
        with item.part.open("ab") as target:
            target.write(piece)
        task.advance(len(piece))
    if current is not None:
        _finish(current)


def _finish(item: Arriving) -> None:
    """Give a file its name, if it is what the run left."""
    hasher = _sha256(item.part)
    if hasher.hexdigest() != item.file.sha256.hex:
        size_bytes = item.part.stat().st_size
        item.part.unlink()
        raise DigestMismatchError(
            f"output {item.file.path} of run {item.run_id}",
            want=str(item.file.sha256),
            got=f"sha256:{hasher.hexdigest()}",
            size_bytes=size_bytes,
        )
    item.part.replace(item.target)
