"""Which pack holds an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmslurm_repro.store.packs import Pack

_MOST_SEARCHES = 20_000
"""
Beyond this a table of all names is made: 60 ms and 20 MB for 80,000 objects. To look for the nodes
of 5,000 folders takes no longer without it.
"""


class Packed:
    """
    The objects in a number of packs.

    Whoever asks for a few is answered by a search in each pack's index, which is sorted; a table
    of all names is made for those who ask for many.
    """

    def __init__(self) -> None:
        self._untabled: list[Pack] = []
        self._table: dict[bytes, tuple[Pack, int]] = {}
        self._searches = 0

    def add(self, pack: Pack) -> None:
        """Learn of a pack."""
        self._untabled.append(pack)

    def remove(self, pack: Pack) -> None:
        """Forget a pack."""
        if pack in self._untabled:
            self._untabled.remove(pack)
        else:
            self._table = {k: at for k, at in self._table.items() if at[0] is not pack}

    def find(self, digits: bytes) -> tuple[Pack, int] | None:
        """The pack that holds the object of that name, and its number there."""
        if self._untabled:
            self._searches += len(self._untabled)
            if self._searches <= _MOST_SEARCHES:
                return self._search(digits)
            self._tabulate()
        return self._table.get(digits)

    def names(self) -> set[bytes]:
        """The digits of every object's name."""
        self._tabulate()
        return set(self._table)

    def _search(self, digits: bytes) -> tuple[Pack, int] | None:
        known = self._table.get(digits)
        if known is not None:
            return known
        for pack in self._untabled:
            number = pack.number_of(digits)
            if number is not None:
                return pack, number
        return None

    def _tabulate(self) -> None:
        for pack in self._untabled:
            self._table.update((name, (pack, number)) for number, name in enumerate(pack.digits()))
        self._untabled.clear()
