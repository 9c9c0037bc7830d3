"""Files of the object store that are whole, but that a loss of power may yet take.

Whoever captures does not wait for the disk; whoever records that something is needed does.
In between a file lies in ``unsynced/<boot>/``, so its place says how far it may be trusted, and
nothing has to be noted that could itself be lost. ``docs/design/0002-objects-and-packs.md``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xmslurm_repro.errors import StoreError
from xmslurm_repro.store.boots import BOOT_ID_DIGITS, UNSYNCED
from xmslurm_repro.store.files import make_folder, store_errors, sync_folder


class Unsynced:
    """
    The folder of a store's unsynced files.

    Files of this boot count as the store's: they are in this machine's memory whatever the
    disk holds. Those of another boot of this host are judged by what they hold. Those of other
    hosts are theirs.
    """

    def __init__(self, root: Path, boot: str) -> None:
        """Look after the unsynced files of the store in *root*, the machine's run being *boot*."""
        self._root = root
        self._top = root / UNSYNCED
        self._boot = boot
        self.folder = self._top / boot
        """Where this boot's files are put."""

    def prepare(self) -> None:
        """Make the folder."""
        make_folder(self.folder, is_durable=False)

    def files(self) -> list[Path]:
        """This boot's files. A container of another host name has the same disk cache."""
        mark = self._boot[:BOOT_ID_DIGITS]
        return [path for name in self._boots() if name.startswith(mark) for path in self._in(name)]

    def holds(self, name: str) -> bool:
        """Whether a file called *name* is there, of this boot and host."""
        return os.path.exists(f"{self.folder}/{name}")

    def place(self, name: str) -> Path:
        """Where a file of that name belongs once it is safe on disk."""
        folder = "packs" if name.endswith(".pack") else name[:2]
        return self._root / folder / name

    def settle(self) -> dict[Path, Path]:
        """
        Let all of this boot's files be safe on disk, in the places where they belong.

        Returns:
            Where each file went, by where it was.

        Raises:
            StoreError: If a file cannot be written to disk; then that file is gone.
        """
        if not os.path.exists(self._top):
            return {}
        with self._alone():
            return self._settle(self.files())

    def adopt(self, is_whole: Callable[[Path], bool], *, everyones: bool = False) -> None:
        """
        Keep what other boots left, if it is whole, and remove it otherwise.

        Args:
            is_whole: Reads a file and tells.
            everyones: Whether other hosts' files are meant too. Then nobody may be writing.
        """
        others = self._others(everyones=everyones)
        if not others:
            return
        with suppress(StoreError), self._alone():
            for name in others:
                for path in self._in(name):
                    if is_whole(path):
                        self._settle([path])
                    else:
                        with suppress(OSError):
                            os.unlink(path)
                with suppress(OSError):
                    (self._top / name).rmdir()

    def _others(self, *, everyones: bool) -> list[str]:
        boot, host = self._boot[:BOOT_ID_DIGITS], self._boot[BOOT_ID_DIGITS:]
        return [
            name
            for name in self._boots()
            if not name.startswith(boot) and (everyones or name[BOOT_ID_DIGITS:] == host)
        ]

    def _boots(self) -> list[str]:
        try:
            with store_errors("read", self._top, but_missing=True), os.scandir(self._top) as found:
                return sorted(entry.name for entry in found if entry.name != ".lock")
        except FileNotFoundError:
            return []

    def _in(self, name: str) -> list[Path]:
        folder = self._top / name
        try:
            with store_errors("read", folder, but_missing=True), os.scandir(folder) as found:
                return sorted(folder / entry.name for entry in found)
        except FileNotFoundError:
            return []

    def _settle(self, files: list[Path]) -> dict[Path, Path]:
        moved = {path: self.place(path.name) for path in files if _is_synced(path)}
        for path, place in moved.items():
            make_folder(place.parent, is_durable=False)
            with store_errors("write", place), suppress(FileNotFoundError):
                os.replace(path, place)
        if moved:
            folders = {place.parent for place in moved.values()}
            for folder in (*sorted(folders), self._root, self._root.parent):
                sync_folder(folder)
        return moved

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """
        Nobody else settles inside the block: who finds nothing to settle must know that what
        others settled is safe.
        """
        with store_errors("lock", self._top):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._top / ".lock", flags, 0o600)
        try:
            # Without locks two may settle the same file, which harms neither.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_synced(path: Path) -> bool:
    """Write a file to disk; whether it is still there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        with store_errors("write", path):
            os.fsync(descriptor)
    except StoreError:
        # The system says so only once, and from then on that all is well.
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return True
