"""Who uses a store, and who clears it up: never both at once, whichever host they are on."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xmslurm_repro.errors import StoreError
from xmslurm_repro.store.files import make_folder, store_errors

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}


class FileGuard:
    """
    A `StoreGuard` by a lock (flock(2)) on a file, which the system takes back from the dead.

    Where the file system knows no locks, or the folder cannot be written, using goes on without
    and clearing up is refused.
    """

    def __init__(self, path: Path) -> None:
        """Lock the file *path*, which is made when it is first needed."""
        self._path = path
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
        try:
            yield self._try_alone(descriptor)
        finally:
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
        self._users += 1

    def _leave(self) -> None:
        self._users = max(0, self._users - 1)
        if self._users == 0:
            self._unlock()

    def _unlock(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
