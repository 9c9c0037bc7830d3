"""Writing a captured tree back: as a folder, or as an archive for others to keep."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xmslurm_repro.errors import IntegrityError, StoreError, UsageError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.snapshot import EntryKind, TreeEntry
from xmslurm_repro.ports.progress import Progress, SilentProgress
from xmslurm_repro.snapshot.names import may_be_git_s
from xmslurm_repro.snapshot.tree import StoredTree
from xmslurm_repro.store.tar import TarWriter

_CHUNK_BYTES = 1024 * 1024


def restore(tree: StoredTree, target: Path, *, progress: Progress | None = None) -> None:
    """
    Write *tree* into the folder *target*, which is new or empty.

    Afterwards it holds the snapshot's bytes, links, and modes 0644 or 0755, whatever the umask;
    capturing it gives the same root. Each file appears whole. After an error some may be there.

    Raises:
        UsageError: If *target* holds something, or is no folder.
        IntegrityError: If the store lacks or damaged an object, or if a name could do harm.
        StoreError: If it cannot be written.
    """
    shown = os.fsdecode(target)
    with _writing(shown):
        _make_empty(target)
        task = (progress or SilentProgress()).start("restore", total=None)
        try:
            _Restoring(tree, task.advance).folder(tree.root, os.fsencode(target), b"")
        finally:
            task.finish()


def write_archive(tree: StoredTree, out: Callable[[bytes | memoryview], object]) -> None:
    """
    Send *tree* to *out* as a tar archive; one tree gives the same bytes for ever.

    Folders stand before what is in them, everything in order of its path as bytes.

    Raises:
        IntegrityError: If the store lacks or damaged an object.
    """
    writer = TarWriter(out)
    for path, entry in _walk(tree, tree.root, b""):
        if entry.kind is EntryKind.DIRECTORY:
            writer.directory(path)
        elif entry.kind is EntryKind.SYMLINK:
            with tree.open(entry.digest) as source:
                writer.symlink(path, source.read())
        else:
            with tree.open(entry.digest) as source:
                is_executable = entry.kind is EntryKind.EXECUTABLE
                writer.file(path, entry.size_bytes, is_executable, source)
    writer.finish()


def _walk(tree: StoredTree, node: Digest, prefix: bytes) -> Iterator[tuple[bytes, TreeEntry]]:
    for entry in tree.node(node, prefix):
        yield prefix + entry.name, entry
        if entry.kind is EntryKind.DIRECTORY:
            yield from _walk(tree, entry.digest, prefix + entry.name + b"/")


class _Restoring:
    def __init__(self, tree: StoredTree, advance: Callable[[int], None]) -> None:
        self._tree = tree
        self._advance = advance

    def folder(self, node: Digest, target: bytes, path: bytes) -> None:
        # Nodes refuse "..", "/" and NUL in names, and two entries of one name, so nothing is
        # ever written through a link. What is left is a repository that would run hooks.
        for entry in self._tree.node(node, path):
            if entry.name.lower() == b".git":
                raise _refused(path + entry.name)
            place = os.path.join(target, entry.name)
            if os.path.lexists(place):
                raise StoreError(
                    f"cannot restore {os.fsdecode(place)!r}: another name of the snapshot is"
                    " the same to this file system",
                    hint="Restore to a file system that tells upper from lower case.",
                )
            if entry.kind is EntryKind.DIRECTORY:
                os.mkdir(place)  # noqa: PTH102 (a path of bytes)
                os.chmod(place, 0o755)  # noqa: S103 (as git makes them)
                self._demand_harmless(entry, target, path)
                self.folder(entry.digest, place, path + entry.name + b"/")
            else:
                self._entry(entry, target, place)
                self._demand_harmless(entry, target, path)

    def _demand_harmless(self, entry: TreeEntry, folder: bytes, path: bytes) -> None:
        # No name is refused for what another file system would make of it: this one is asked.
        if may_be_git_s(entry.name) and os.path.lexists(os.path.join(folder, b".git")):
            raise _refused(path + entry.name)

    def _entry(self, entry: TreeEntry, folder: bytes, place: bytes) -> None:
        # Whoever only captures does not wait for these 5 ms.
        import tempfile  # noqa: PLC0415
        from shutil import copyfileobj  # noqa: PLC0415

        with self._tree.open(entry.digest) as source:
            if entry.kind is EntryKind.SYMLINK:
                text = source.read()
                _demand_size(entry, len(text))
                if b"\0" in text:
                    raise IntegrityError(f"the link {os.fsdecode(place)!r} leads nowhere: a NUL")
                os.symlink(text, place)
                return
            descriptor, temporary = tempfile.mkstemp(prefix=b".tmp-", dir=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    copyfileobj(source, file, _CHUNK_BYTES)
                    _demand_size(entry, file.tell())
                    os.fchmod(descriptor, 0o755 if entry.kind is EntryKind.EXECUTABLE else 0o644)
                os.rename(temporary, place)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
        self._advance(entry.size_bytes)


def _refused(path: bytes) -> IntegrityError:
    return IntegrityError(
        f"the snapshot has an entry {os.fsdecode(path)!r}, which is a repository's here and may"
        " run commands; nothing more is restored"
    )


def _demand_size(entry: TreeEntry, size_bytes: int) -> None:
    if size_bytes != entry.size_bytes:
        raise IntegrityError(
            f"{os.fsdecode(entry.name)!r} has {size_bytes} bytes and should have"
            f" {entry.size_bytes}: the snapshot was not made by us"
        )


def _make_empty(target: Path) -> None:
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        with suppress(NotADirectoryError), os.scandir(target) as found:
            if next(found, None) is None:
                target.chmod(0o755)
                return
        raise UsageError(
            f"cannot restore into {target}: it is not an empty folder",
            hint="Name a folder that does not exist yet.",
        ) from None
    target.chmod(0o755)


@contextmanager
def _writing(shown: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot restore into {shown}: {error.strerror or error}",
            hint="Name a folder that you may write, on a disk with room for the snapshot.",
            details=[f"at: {error.filename!r}"] if error.filename else [],
        ) from error
