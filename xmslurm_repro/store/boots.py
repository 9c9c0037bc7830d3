"""Which run of which machine this is, and what of a store can be relied on in it.

Imports next to nothing, for those who have no time for more.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Known to type checkers by its name; `typing` itself takes 2 ms.
    from collections.abc import Iterable

UNSYNCED = "unsynced"
"""The folder of what may not be on disk yet, with a folder for each boot."""
BOOT_ID_DIGITS = 36

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def this_boot() -> str | None:
    """
    What tells this run of this machine from all others: the kernel's boot id and the host's
    name. ``None`` where the system does not say.
    """
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            boot = file.read().strip()
    except (OSError, ValueError):
        return None
    host = "".join(c if c.isalnum() or c in "-_" else "_" for c in os.uname().nodename)
    return f"{boot}.{host}" if len(boot) == BOOT_ID_DIGITS else None


def are_there(root: str, places: Iterable[str]) -> bool:
    """Whether a store's files are in their *places*, or on their way there on this boot."""
    missing = [place for place in places if not os.path.exists(f"{root}/{place}")]
    if not missing:
        return True
    boot = this_boot()
    names = (place.rpartition("/")[2] for place in missing)
    return boot is not None and all(
        os.path.exists(f"{root}/{UNSYNCED}/{boot}/{name}") for name in names
    )
