"""Who uses a store, and who clears it up: never both at once, whichever host they are on."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xmslurm_repro.errors import StoreError
from xmslurm_repro.store.boots import this_boot
from xmslurm_repro.store.files import make_folder, store_errors
from xmslurm_repro.store.presence import Presence

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}


class FileGuard:
    """
    A `StoreGuard` by a lock (flock(2)) on a file, which the system takes back from the dead.

    Where the file system knows no locks, or the folder cannot be written, using goes on without
    and clearing up is refused. For hosts whose locks do not reach each other files say the same;
    see `store.presence`.

    Args:
        path: The file, which is made when it is first needed. ``<path>.d`` is the folder of the
            files that say it.
        boot: What tells this run of this machine from others, as `this_boot`; ``""`` for nothing.
    """

    def __init__(self, path: Path, *, boot: str | None = None) -> None:
        self._path = path
        boot = this_boot() if boot is None else boot
        self._presence = Presence(path.with_name(f"{path.name}.d"), boot) if boot else None
        self._present: Path | None = None
        self._descriptor: int | None = None
        self._users = 0
        self._keys: set[Hashable] = set()

    @contextmanager
    def using(self) -> Iterator[None]:
        """See `StoreGuard`."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def hold(self, key: Hashable) -> None:
        """See `StoreGuard`."""
        if key not in self._keys:
            self._enter()
            self._keys.add(key)

    def release(self, key: Hashable) -> None:
        """See `StoreGuard`."""
        if key in self._keys:
            self._keys.remove(key)
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """See `StoreGuard`."""
        make_folder(self._path.parent)
        with store_errors("lock", self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        said: Path | None = None
        try:
            is_alone = self._try_alone(descriptor)
            if is_alone and self._presence is not None:
                said = self._presence.be_alone()
                is_alone = said is not None
            yield is_alone
        finally:
            if said is not None and self._presence is not None:
                self._presence.end(said)
            os.close(descriptor)

    def close(self) -> None:
        """Let go of everything."""
        self._keys.clear()
        self._users = 0
        self._unlock()

    def _try_alone(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreError(
                f"cannot lock {self._path}: {error.strerror or error}",
                hint="Nothing can be removed safely from a file system without locks.",
            ) from error
        return True

    def _enter(self) -> None:
        if self._users == 0:
            with suppress(StoreError, OSError):
                make_folder(self._path.parent)
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._descriptor = descriptor
                try:
                    # Waits while somebody clears up, which is short.
                    fcntl.flock(descriptor, fcntl.LOCK_SH)
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
                if self._presence is not None:
                    self._present = self._presence.use()
        self._users += 1

    def _leave(self) -> None:
        self._users = max(0, self._users - 1)
        if self._users == 0:
            self._unlock()

    def _unlock(self) -> None:
        if self._present is not None and self._presence is not None:
            self._presence.end(self._present)
            self._present = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
