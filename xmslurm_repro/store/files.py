"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from xmslurm_repro.errors import StoreError

TEMPORARY_PREFIX = ".tmp-"
"""What the names of unfinished files begin with."""

_ELSEWHERE = "or set XMSLURM_REPRO_HOME to a folder that you may write."
_HINTS = {
    errno.ENOSPC: "Free some space on that file system, or set XMSLURM_REPRO_HOME to another one.",
    errno.EDQUOT: "Your quota is used up: free some space, or set XMSLURM_REPRO_HOME elsewhere.",
    errno.EACCES: f"Make the folder yours, {_ELSEWHERE}",
    errno.EPERM: f"Make the folder yours, {_ELSEWHERE}",
    errno.EROFS: f"The file system is read-only: remount it, {_ELSEWHERE}",
    errno.ENOTDIR: f"A file is where a folder should be: move it away, {_ELSEWHERE}",
    errno.EMFILE: "Raise the limit of open files (`ulimit -n`).",
}


_NUMBERS = count()
"""What tells this process's unfinished files apart."""


@contextmanager
def store_errors(what: str, path: Path, *, but_missing: bool = False) -> Iterator[None]:
    """
    Turn the system's errors inside the block into ours.

    Args:
        what: What could not be done, such as ``write``.
        path: To what.
        but_missing: Whether to let `FileNotFoundError` pass, for the caller to deal with.

    Raises:
        StoreError: For every other `OSError`, with a hint where one is known.
    """
    try:
        yield
    except OSError as error:
        if but_missing and isinstance(error, FileNotFoundError):
            raise
        raise StoreError(
            f"cannot {what} {path}: {error.strerror or error}",
            hint=_HINTS.get(error.errno or 0),
        ) from error


class Temporary:
    """
    An unfinished file for its owner only, locked for as long as it is open.

    The lock (flock(2)) tells `remove_stale` that somebody still writes it. On file systems that
    know no locks nothing is ever taken for stale.

    Every method but `discard` may raise `StoreError`.
    """

    def __init__(self, folder: Path) -> None:
        with store_errors("write in", folder):
            self._descriptor, name = _locked_temporary(folder)
        self.path = Path(name)
        self._is_here = True
        self._file = os.fdopen(self._descriptor, "wb", buffering=1024 * 1024)

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*."""
        with store_errors("write", self.path):
            self._file.write(data)

    def flush(self) -> None:
        """Let others see what was written; it is not safe on disk."""
        with store_errors("write", self.path):
            self._file.flush()

    def sync(self) -> None:
        """Return when what was written is safe on disk."""
        with store_errors("write", self.path):
            self._file.flush()
            os.fsync(self._descriptor)

    def publish(self, path: Path) -> None:
        """Let the synced file be called *path*, in place of what was. Its folder is not synced."""
        with store_errors("write", path):
            os.replace(self.path, path)
        self._is_here = False

    def discard(self) -> None:
        """Close it, and remove it unless it was published. Never raises; idempotent."""
        # Closing flushes, which fails again where writing failed: on a full disk.
        with suppress(OSError):
            self._file.close()
        # Once: somebody else may use the name then.
        if self._is_here:
            self._is_here = False
            with suppress(OSError):
                os.unlink(self.path)


def _locked_temporary(folder: Path) -> tuple[int, str]:
    # As `tempfile.mkstemp` does, which costs 5 ms to import; nobody has to be kept from guessing
    # names in a folder of ours.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        name = f"{folder}/{TEMPORARY_PREFIX}{os.getpid()}-{next(_NUMBERS)}"
        try:
            descriptor = os.open(name, flags, 0o600)
        except FileExistsError:
            continue
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between making and locking it, somebody may have taken it for stale.
        if os.fstat(descriptor).st_nlink:
            return descriptor, name
        os.close(descriptor)


@contextmanager
def new_file(path: Path, *, temporary_in: Path | None = None) -> Iterator[Temporary]:
    """
    Write a file that appears under *path*, whole and safe on disk, when the block ends.

    If the block raises, nothing is left; if the process dies, a temporary file may be, for
    `remove_stale`. A file that is called *path* is replaced.

    Args:
        path: The final name. Its folder must be there.
        temporary_in: Where the unfinished file lies, on the same file system; by default
            beside *path*.

    Raises:
        StoreError: If it cannot be written.
    """
    file = Temporary(temporary_in or path.parent)
    try:
        yield file
        file.sync()
        file.publish(path)
        sync_folder(path.parent)
    finally:
        file.discard()


def write_atomic(path: Path, data: bytes) -> None:
    """
    Let *path* hold *data*: afterwards it does, safe on disk; meanwhile it is as it was.

    Raises:
        StoreError: If it cannot be written.
    """
    with new_file(path) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """
    Return when the names in *folder* are safe on disk.

    Raises:
        StoreError: If that fails.
    """
    with store_errors("sync", folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path, *, is_durable: bool = True) -> None:
    """
    Let *folder* and those above it be there; those made are their owner's only.

    Args:
        folder: Which.
        is_durable: Whether it has to be safe on disk afterwards, for which one waits.

    Raises:
        StoreError: If that fails.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent, is_durable=is_durable)
    with store_errors("make the folder", folder), suppress(FileExistsError):
        folder.mkdir(0o700)
    if is_durable:
        sync_folder(folder.parent)


def remove_stale(folder: Path) -> int:
    """
    Remove the temporary files in *folder* whose writers are gone; return how many there were.

    A writer is gone when its lock is. Never raises: what cannot be removed stays.
    """
    try:
        with os.scandir(folder) as found:
            names = sorted(e.name for e in found if e.name.startswith(TEMPORARY_PREFIX))
    except OSError:
        return 0
    return sum(_remove_if_unlocked(folder / name) for name in names)


def _remove_if_unlocked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
