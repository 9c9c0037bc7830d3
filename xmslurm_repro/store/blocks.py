"""The blocks of packs: what whoever only asks what is there has to know of them.

Apart from `store.packs`, which costs 10 ms to import with what it needs.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

from xmslurm_repro.store.files import store_errors

BLOCK_BYTES = 4 * 1024 * 1024
"""How many raw bytes a block holds at most."""

SUFFIX = ".pack"


class BlockCache:
    """The few blocks that were read last, so that neighbours are not decompressed again."""

    def __init__(self, blocks: int = 4) -> None:
        self._room = blocks
        self._blocks: OrderedDict[tuple[Path, int], bytes] = OrderedDict()

    def get(self, path: Path, number: int) -> bytes | None:
        """The block, if it is among the last."""
        return self._blocks.get((path, number))

    def put(self, path: Path, number: int, block: bytes) -> None:
        """Remember the block, in place of the oldest."""
        self._blocks[path, number] = block
        while len(self._blocks) > self._room:
            self._blocks.popitem(last=False)


def list_packs(folder: Path) -> list[Path]:
    """The packs in *folder*, by name; none if it is not there."""
    try:
        with store_errors("read", folder, but_missing=True), os.scandir(folder) as found:
            names = sorted(entry.name for entry in found if entry.name.endswith(SUFFIX))
    except FileNotFoundError:
        return []
    return [folder / name for name in names]
