"""Restoring a tree where people name a folder: all of it at once, and never over anything."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xmslurm_repro.errors import StoreError, UsageError
from xmslurm_repro.model.snapshot import EntryKind, TreeEntry
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.snapshot.paths import shown
from xmslurm_repro.snapshot.restoring import restore
from xmslurm_repro.snapshot.tree import StoredTree
from xmslurm_repro.store.hashing import Blake3Hasher

_PREFIX = ".xmslurm-checkout-"
_CHUNK_BYTES = 1024 * 1024
_SHOWN = 20


def checkout(tree: StoredTree, target: Path, *, progress: Progress | None = None) -> bool:
    """
    Let the folder *target* hold *tree*: bytes, links, and modes 0644 or 0755.

    It is written beside *target* and renamed, so a killed process leaves *target* as it was; the
    next checkout into the same folder clears away what is left of it.

    Args:
        tree: What to write.
        target: A folder that is not there, is empty, or holds exactly this tree already.
        progress: Told of bytes written.

    Returns:
        Whether anything was written: not where *target* held the tree already.

    Raises:
        UsageError: If *target* holds anything else; names what. Nothing is written then.
        IntegrityError: If the store lacks or damaged an object, or if a name could do harm.
        StoreError: If it cannot be written.
    """
    target = target.resolve()
    if _is_filled(target):
        faults = list(_differences(tree, target))
        if faults:
            raise _occupied(target, faults)
        return False
    with _staging(target) as staging:
        restore(tree, staging, progress=progress)
        try:
            os.rename(staging, target)
        except OSError as error:
            if _is_filled(target):
                raise _occupied(target, ["it was filled meanwhile"]) from error
            raise StoreError(
                f"cannot restore into {target}: {error.strerror or error}",
                hint="Name a folder that does not exist yet.",
            ) from error
    return True


def _is_filled(target: Path) -> bool:
    try:
        with os.scandir(target) as found:
            return next(found, None) is not None
    except FileNotFoundError:
        return os.path.lexists(target)
    except NotADirectoryError:
        return True
    except OSError as error:
        raise StoreError(f"cannot look into {target}: {error.strerror or error}") from error


def _occupied(target: Path, faults: list[str]) -> UsageError:
    more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return UsageError(
        f"{target} holds something else, which is never overwritten",
        details=[*faults[:_SHOWN], *more],
        hint="Name a folder that does not exist yet.",
    )


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder beside *target* that is gone afterwards, unless it was renamed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_stale(target.parent)
        staging = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=target.parent))
        descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(
            f"cannot restore into {target}: {error.strerror or error}",
            hint="Name a folder that you may write, on a disk with room for the snapshot.",
        ) from error
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield staging
    finally:
        if staging.exists():
            shutil.rmtree(staging, ignore_errors=True)
        os.close(descriptor)


def _clear_stale(folder: Path) -> None:
    """Remove what killed checkouts left in *folder*: what nobody holds a lock on any more."""
    with os.scandir(folder) as found:
        names = sorted(entry.name for entry in found if entry.name.startswith(_PREFIX))
    for name in names:
        try:
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder / name, ignore_errors=True)
        except OSError:
            continue
        finally:
            os.close(descriptor)


def _differences(tree: StoredTree, target: Path) -> Iterator[str]:
    """In what the folder *target* is not *tree*, a line for each path."""
    if not stat.S_ISDIR(os.lstat(target).st_mode):
        yield "it is no folder"
        return
    folders = [(tree.root, b"")]
    while folders:
        node, prefix = folders.pop()
        place = os.path.join(os.fsencode(target), prefix)
        with os.scandir(place) as listed:
            found = {entry.name for entry in listed}
        wanted = {entry.name: entry for entry in tree.node(node, prefix)}
        for name in sorted(found | wanted.keys()):
            entry, path = wanted.get(name), prefix + name
            if entry is None:
                yield f"{shown(path)}: not in the snapshot"
            elif name not in found:
                yield f"{shown(path)}: missing"
            elif not _is_kind(entry, os.path.join(place, name)):
                yield f"{shown(path)}: another kind or mode"
            elif entry.kind is EntryKind.DIRECTORY:
                folders.append((entry.digest, path + b"/"))
            elif not _is_content(entry, os.path.join(place, name)):
                yield f"{shown(path)}: other bytes"


def _is_kind(entry: TreeEntry, place: bytes) -> bool:
    mode = os.lstat(place).st_mode
    if entry.kind is EntryKind.DIRECTORY:
        return stat.S_ISDIR(mode)
    if entry.kind is EntryKind.SYMLINK:
        return stat.S_ISLNK(mode)
    is_executable = entry.kind is EntryKind.EXECUTABLE
    return stat.S_ISREG(mode) and bool(mode & 0o111) == is_executable


def _is_content(entry: TreeEntry, place: bytes) -> bool:
    hasher = Blake3Hasher()
    if entry.kind is EntryKind.SYMLINK:
        hasher.update(os.readlink(place))  # noqa: PTH115 (a path of bytes)
    else:
        try:
            with open(place, "rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    hasher.update(chunk)
        except OSError as error:
            raise StoreError(f"cannot read {shown(place)}: {error.strerror or error}") from error
    return hasher.digest() == entry.digest
