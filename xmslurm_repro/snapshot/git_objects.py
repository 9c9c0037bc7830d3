"""git's names for the files and folders of a captured tree, and writing these as git objects.

Object ids and loose objects by gitformat-loose and git's own documentation ("Git Internals").
The bytes are those of the work tree: no filter and no end-of-line rule applies.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from xmslurm_repro.errors import IntegrityError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.snapshot import EntryKind, TreeEntry
from xmslurm_repro.snapshot.names import may_be_git_s
from xmslurm_repro.snapshot.paths import shown
from xmslurm_repro.snapshot.tree import StoredTree

_CHUNK_BYTES = 1024 * 1024
GIT_MODES = {
    EntryKind.FILE: b"100644",
    EntryKind.EXECUTABLE: b"100755",
    EntryKind.SYMLINK: b"120000",
    EntryKind.DIRECTORY: b"40000",
}
_GITLINK = b"160000"

Keep = Callable[[bytes, int, Callable[[], BinaryIO]], bytes]
"""Takes kind, size and a way to open the bytes of an object; returns its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdNamer:
    """A `Keep` that only names objects."""

    hash_name: str

    def __call__(self, kind: bytes, size_bytes: int, open_body: Callable[[], BinaryIO]) -> bytes:
        """Name an object as git does."""
        hasher, left = hashlib.new(self.hash_name, b"%s %d\0" % (kind, size_bytes)), size_bytes
        with open_body() as body:
            while chunk := body.read(_CHUNK_BYTES):
                hasher.update(chunk)
                left -= len(chunk)
        if left:
            raise IntegrityError(
                f"a file has {size_bytes - left} bytes and should have {size_bytes}: the snapshot"
                " was not made by us"
            )
        return hasher.digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class LooseWriter:
    """
    A `Keep` that writes loose objects into a repository's object folder.

    Each appears whole and synced, under its name; one that the repository has is not written.

    Attributes:
        folder: Such as ``.git/objects``.
        hash_name: ``sha1`` or ``sha256``.
        has: Whether the repository has the object of that id already.
    """

    folder: bytes
    hash_name: str
    has: Callable[[bytes], bool]

    def __call__(self, kind: bytes, size_bytes: int, open_body: Callable[[], BinaryIO]) -> bytes:
        """Name an object, and write it if it is new."""
        name = IdNamer(hash_name=self.hash_name)(kind, size_bytes, open_body)
        digits = name.hex().encode()
        place = os.path.join(self.folder, digits[:2], digits[2:])
        if os.path.exists(place) or self.has(digits):
            return name
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(place))  # noqa: PTH102 (a path of bytes)
        descriptor, temporary = tempfile.mkstemp(prefix=b"tmp_obj_", dir=self.folder)
        try:
            with os.fdopen(descriptor, "wb") as file, open_body() as body:
                packer = zlib.compressobj()
                file.write(packer.compress(b"%s %d\0" % (kind, size_bytes)))
                while chunk := body.read(_CHUNK_BYTES):
                    file.write(packer.compress(chunk))
                file.write(packer.flush())
                file.flush()
                os.fchmod(descriptor, 0o444)
                os.fsync(descriptor)
            os.rename(temporary, place)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        return name


@dataclass(kw_only=True)
class GitTree:
    """
    A captured tree as git would hold it.

    Attributes:
        tree: The captured tree.
        keep: Takes each blob and tree, the deepest first.
        submodules: What stands for a folder instead of its files: by path, the tree that it must
            equal and the commit that is linked then.
        is_checked: Whether it is certain already that these are equal; then none of their files
            is read or kept.
        known: Ids of folders by the digest of their nodes; grows.
        known_blob: The id of what has that digest, where it need not be read for it.
    """

    tree: StoredTree
    keep: Keep
    submodules: Mapping[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    is_checked: bool = False
    known: dict[Digest, bytes] = field(default_factory=dict)
    known_blob: Callable[[Digest], bytes | None] = lambda _: None

    def root_id(self) -> bytes:
        """
        The id of the whole tree.

        Raises:
            IntegrityError: If the store lacks or damaged an object, or git could not hold it.
        """
        return self.folder_named(self.tree.root, b"")

    def folder_id(self, path: bytes) -> bytes | None:
        """The id of the folder at *path*, or ``None`` if there is none."""
        node = self.tree.root
        for name in path.split(b"/"):
            entries = (entry for entry in self.tree.node(node) if entry.name == name)
            entry = next(entries, None)
            if entry is None or entry.kind is not EntryKind.DIRECTORY:
                return None
            node = entry.digest
        return self.folder_named(node, path + b"/")

    def folder_named(self, node: Digest, path: bytes) -> bytes:
        """The id of the folder *path* (with a final slash), whose node is *node*."""
        is_plain = not any(below.startswith(path) for below in self.submodules)
        if is_plain and node in self.known:
            return self.known[node]
        records: list[tuple[bytes, bytes]] = []
        # No comprehension: it would be one more call for each folder above.
        for entry in self.tree.node(node, path):
            records.append(self.record(entry, path))  # noqa: PERF401
        name = self.keep(b"tree", *tree_body(records))
        if is_plain:
            self.known[node] = name
        return name

    def record(self, entry: TreeEntry, folder: bytes) -> tuple[bytes, bytes]:
        """The line of an entry of *folder*, after what it is sorted by."""
        path, mode = folder + entry.name, GIT_MODES[entry.kind]
        if isinstance(self.keep, LooseWriter) and may_be_git_s(entry.name):
            raise IntegrityError(f"the snapshot has an entry {shown(path)!r}, which git refuses")
        if entry.kind is not EntryKind.DIRECTORY:
            digest = entry.digest
            name = self.known_blob(digest) or self.keep(
                b"blob", entry.size_bytes, lambda: self.tree.open(digest)
            )
            return entry.name, b"%s %s\0%s" % (mode, entry.name, name)
        linked = self.submodules.get(path)
        if linked is not None and self.is_checked:
            return entry.name, b"%s %s\0%s" % (_GITLINK, entry.name, linked[1])
        name = self.folder_named(entry.digest, path + b"/")
        if linked is not None and linked[0] == name:
            return entry.name, b"%s %s\0%s" % (_GITLINK, entry.name, linked[1])
        # git sorts folders, but not links to commits, as if their names ended in a slash.
        return entry.name + b"/", b"%s %s\0%s" % (mode, entry.name, name)


def tree_body(records: list[tuple[bytes, bytes]]) -> tuple[int, Callable[[], BinaryIO]]:
    """Size and bytes of a tree object of *records*, each after what it is sorted by."""
    body = b"".join(record for _, record in sorted(records))
    return len(body), lambda: io.BytesIO(body)


def commit_body(
    *, tree: bytes, parent: str | None, identity: str, time_s: int, message: str
) -> bytes:
    """The bytes of a commit object."""

    def lines() -> Iterator[str]:
        yield f"tree {tree.hex()}"
        if parent is not None:
            yield f"parent {parent}"
        yield f"author {identity} {time_s} +0000"
        yield f"committer {identity} {time_s} +0000"
        yield ""
        yield message

    return "\n".join(lines()).encode("utf-8", "replace")
