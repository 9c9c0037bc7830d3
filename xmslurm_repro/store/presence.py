"""Who uses a store, told by files, where the locks of one host do not reach another.

Network file systems may keep locks (flock(2)) to each host: NFS with ``local_lock``, BeeGFS as it
comes, Lustre with ``localflock``. What all of them keep is that a file is created once, and seen
by whoever looks into the folder after having created one there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from xmslurm_repro.store.boots import BOOT_ID_DIGITS
from xmslurm_repro.store.files import make_folder, store_errors

_USER = "user."
_ALONE = "alone."
_LONGEST_SECONDS = {_USER: 24 * 3600.0, _ALONE: 3600.0}
"""For how long a file of another host is believed: its owner may be dead."""
_PAUSE_SECONDS = 0.1
_numbers = count()


class Presence:
    """
    Files in *folder* that say who uses a store, and who clears it up.

    One who wants to be alone creates its file and then looks for users; a user creates its file
    and then looks for somebody alone. So of two at least one sees the other. On one's own host
    locks tell; files of this host only have to be removed when their owners are dead.
    """

    def __init__(self, folder: Path, boot: str) -> None:
        """Use *folder*; *boot* is what `store.boots.this_boot` says."""
        self._folder = folder
        self._boot = boot

    def use(self) -> Path:
        """
        Say that one uses the store; wait while somebody on another host is alone.

        Returns:
            The file that says so, to be removed by `end`.

        Raises:
            StoreError: If it cannot be made.
        """
        path = self._create(_USER)
        while any(self._others(_ALONE, path)):
            time.sleep(_PAUSE_SECONDS)  # noqa: TID251 (as flock(2) waits)
        return path

    def be_alone(self) -> Path | None:
        """
        Say that one wants nobody else to use the store; see `use`.

        Returns:
            ``None`` if somebody does on another host, or wants to be alone as well.
        """
        path = self._create(_ALONE)
        if any(self._others(_USER, path)) or any(self._others(_ALONE, path)):
            self.end(path)
            return None
        return path

    def end(self, path: Path) -> None:
        """Take back what `use` or `be_alone` said. Never raises."""
        with suppress(OSError):
            os.unlink(path)

    def _create(self, kind: str) -> Path:
        make_folder(self._folder, is_durable=False)
        path = self._folder / f"{kind}{self._boot}.{os.getpid()}.{next(_numbers)}"
        with store_errors("write", path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return path

    def _others(self, kind: str, mine: Path) -> Iterator[str]:
        """Files of that kind of other hosts, that are believed. Removes those of the dead here."""
        now_ns = mine.stat().st_mtime_ns
        with store_errors("read", self._folder), os.scandir(self._folder) as found:
            names = [entry.name for entry in found if entry.name.startswith(kind)]
        for name in names:
            path, whose = self._folder / name, name[len(kind) :]
            if self._is_of_this_host(whose):
                if not self._is_alive(whose):
                    self.end(path)
                continue
            with suppress(FileNotFoundError):
                age_seconds = (now_ns - path.stat().st_mtime_ns) / 1e9
                if age_seconds > _LONGEST_SECONDS[kind]:
                    self.end(path)
                else:
                    yield name

    def _is_of_this_host(self, whose: str) -> bool:
        boot, host = self._boot[:BOOT_ID_DIGITS], self._boot[BOOT_ID_DIGITS:]
        # A container of another name is on this host; so is what was here before it was started.
        return whose.startswith(boot) or whose[BOOT_ID_DIGITS:].rsplit(".", 2)[0] == host

    def _is_alive(self, whose: str) -> bool:
        process = whose.rsplit(".", 2)[-2]
        return whose.startswith(self._boot) and os.path.exists(f"/proc/{process}")
