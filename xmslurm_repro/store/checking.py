"""Reading files of the store again, to see whether they are what their names say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xmslurm_repro.errors import FormatError, IntegrityError, StoreError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.ports.upkeep import Damage
from xmslurm_repro.store.blocks import SUFFIX, BlockCache
from xmslurm_repro.store.object_stream import loose_chunks, verified
from xmslurm_repro.store.packs import Pack


def pack_damage(path: Path, cache: BlockCache) -> Iterator[Damage]:
    """What is wrong with a pack: as a whole, or with each object in it."""
    try:
        pack = Pack(path)
    except FormatError as error:
        yield Damage(digest=None, place=str(path), error=error)
        return
    except OSError as error:
        unread = StoreError(f"{path} cannot be read: {error.strerror or error}")
        yield Damage(digest=None, place=str(path), error=unread)
        return
    # In the order in which they lie, so that each block is decompressed once.
    for start, digest, size in sorted(extents(pack)):
        try:
            for _ in verified(pack.chunks(start, size, cache), digest, f"{digest} in {path}"):
                pass
        except (IntegrityError, StoreError) as error:
            yield Damage(digest=digest, place=str(path), error=error)


def extents(pack: Pack) -> Iterator[tuple[int, Digest, int]]:
    """Where each object of a pack begins in its raw bytes, its name and its size."""
    for number, digits in enumerate(pack.digits()):
        start, size = pack.extent(number)
        yield start, Digest.blake3(digits.decode()), size


def is_whole(path: Path) -> bool:
    """Whether a pack or a loose object, wherever it lies, is what its name says."""
    try:
        if path.suffix == SUFFIX:
            return next(pack_damage(path, BlockCache()), None) is None
        digest = Digest.blake3(path.stem)
        with open(path, "rb") as file:
            for _ in verified(loose_chunks(file), digest, str(path)):
                pass
    except (OSError, ValueError, IntegrityError, StoreError):
        return False
    return True
