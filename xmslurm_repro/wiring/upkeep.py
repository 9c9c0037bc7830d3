"""From the data folder to what looks after it. Imported when first used."""

from __future__ import annotations

from collections.abc import Iterator, Set
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.ports.upkeep import Damage, Waste
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.objects import DiskObjectStore

if TYPE_CHECKING:
    from xmslurm_repro.store.upkeep import DiskUpkeep


class LazyUpkeep:
    """An `Upkeep` of the stores in the data folder."""

    def __init__(self, objects: DiskObjectStore, blobs: DiskBlobStore, home: Path) -> None:
        self._objects, self._blobs, self._home = objects, blobs, home

    @cached_property
    def _upkeep(self) -> DiskUpkeep:
        from xmslurm_repro.store.upkeep import DiskUpkeep

        return DiskUpkeep(
            objects=self._objects,
            objects_root=self._home / "objects",
            blobs=self._blobs,
        )

    def damage(self) -> Iterator[Damage]:
        """See `Upkeep`."""
        return self._upkeep.damage()

    def waste(
        self,
        objects: Set[Digest],
        blobs: Set[Digest],
        *,
        kept_refs: Set[str],
        older_than_seconds: int,
    ) -> Waste:
        """See `Upkeep`."""
        return self._upkeep.waste(
            objects, blobs, kept_refs=kept_refs, older_than_seconds=older_than_seconds
        )

    def remove(self, waste: Waste, objects: Set[Digest]) -> int:
        """See `Upkeep`."""
        return self._upkeep.remove(waste, objects)
