"""The captured work tree: a Merkle tree of directory nodes over raw file contents.

A directory node is bytes that ``b3sum`` can name and a person can read. Each entry is one
record, sorted by name (as bytes), without separators between records::

    <mode> SP <64 hex digits of BLAKE3> SP <size> SP <name> NUL

``mode`` is one of git's ``100644``, ``100755``, ``120000`` (link: the content is its target)
and ``040000`` (directory: the digest names another node, the size is the sum below it).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from xmslurm_repro.errors import FormatError
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader

DEEPEST = 250
"""How deep folders may be nested in a snapshot: what walks a tree calls itself for each."""


class EntryKind(Enum):
    """What an entry is, by git's mode."""

    FILE = "100644"
    EXECUTABLE = "100755"
    SYMLINK = "120000"
    DIRECTORY = "040000"


_KINDS = {kind.value.encode(): kind for kind in EntryKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntry:
    """
    One name in a directory.

    Attributes:
        name: A single path component, as bytes (names need not be UTF-8).
        kind: File, executable, symbolic link or directory.
        digest: BLAKE3 of the file's raw bytes, of the link's target, or of the node below.
        size_bytes: Of the file or target; for a directory the sum of all files below it.
    """

    name: bytes
    kind: EntryKind
    digest: Digest
    size_bytes: int

    def __post_init__(self) -> None:
        """Refuse names that could leave the directory."""
        if not self.name or self.name in {b".", b".."} or b"/" in self.name or b"\0" in self.name:
            raise ValueError(f"{self.name!r} is no name for a directory entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathEntry:
    """A file or link of a snapshot by its path from the root, with ``/`` between components."""

    path: bytes
    kind: EntryKind
    digest: Digest
    size_bytes: int


def encode_node(entries: Iterable[TreeEntry]) -> bytes:
    """
    Write a directory node, its entries in order of their names.

    Raises:
        ValueError: If two entries have the same name.
    """
    ordered = sorted(entries, key=lambda entry: entry.name)
    for left, right in pairwise(ordered):
        if left.name == right.name:
            raise ValueError(f"two entries are called {left.name!r}")
    return b"".join(
        b"%s %s %d %s\0"
        % (entry.kind.value.encode(), entry.digest.hex.encode(), entry.size_bytes, entry.name)
        for entry in ordered
    )


def decode_node(data: bytes, where: str) -> tuple[TreeEntry, ...]:
    """
    Read a directory node; the inverse of `encode_node`.

    Raises:
        FormatError: If *data* is not exactly what `encode_node` writes.
    """
    entries = []
    records = data.split(b"\0")
    if records.pop() != b"":
        raise FormatError(f"{where}: the last record has no end")
    last = b""
    for number, record in enumerate(records):
        try:
            entry = _decode_record(record)
        except ValueError as error:
            raise FormatError(f"{where}: record {number}: {error}") from error
        if entry.name <= last:
            raise FormatError(f"{where}: record {number}: not in the order of names")
        last = entry.name
        entries.append(entry)
    return tuple(entries)


def _decode_record(record: bytes) -> TreeEntry:
    mode, digits, size_text, name = record.split(b" ", 3)
    kind = _KINDS.get(mode)
    if kind is None:
        raise ValueError(f"{mode!r} is no mode")
    size_bytes = int(size_text)
    if b"%d" % size_bytes != size_text or size_bytes < 0:
        raise ValueError(f"{size_text!r} is no size")
    digest = Digest.blake3(digits.decode("ascii"))
    return TreeEntry(name=name, kind=kind, digest=digest, size_bytes=size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """
    What a snapshot is a change of. Evidence, not identity: the same tree committed on another
    branch is the same snapshot.

    Attributes:
        commit: The commit that HEAD names, or ``None`` while HEAD is unborn or without git.
        branch: The branch that HEAD names, or ``None`` when detached.
        remotes: Remote name to URL, credentials removed.
        changed: Paths whose bytes, mode or presence differ from HEAD, with what happened:
            ``modified``, ``added``, ``deleted``, ``untracked``.
        submodules: Path of each submodule or nested repository to its HEAD commit.
        skipped: Paths left out although they are in the folder, with the reason.
        notable: Captured paths that people should know of, with what: pointers of Git LFS, large
            files, what looks like a secret.
        tree: The id of the tree that git would write of what was captured; ``None`` where nobody
            asked.
        commit_tree: The id of *commit*'s tree, likewise. Where it equals *tree*, the snapshot is
            the commit, byte for byte but for *converted* and what *skipped* says.
        converted: Files that git calls unchanged and whose bytes or exec bits are others than the
            commit's: filters such as Git LFS, ends of lines, ``core.fileMode``.
        on_remote: Whether a remote has *commit*, as far as this repository knows; ``None`` where
            nobody asked.
    """

    commit: str | None = None
    branch: str | None = None
    remotes: tuple[tuple[str, str], ...] = ()
    changed: tuple[tuple[str, str], ...] = ()
    submodules: tuple[tuple[str, str], ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notable: tuple[tuple[str, str], ...] = ()
    tree: str | None = None
    commit_tree: str | None = None
    on_remote: bool | None = None
    converted: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        document: dict[str, Json] = {
            "commit": self.commit,
            "branch": self.branch,
            "remotes": dict(self.remotes),
            "changed": dict(self.changed),
            "submodules": dict(self.submodules),
            "skipped": dict(self.skipped),
        }
        # Only where there is something to say: origins from before these keep their bytes.
        if self.notable:
            document["notable"] = dict(self.notable)
        if self.tree is not None:
            document["tree"] = self.tree
        if self.commit_tree is not None:
            document["commit_tree"] = self.commit_tree
        if self.on_remote is not None:
            document["on_remote"] = self.on_remote
        if self.converted:
            document["converted"] = [*self.converted]
        return document

    @classmethod
    def from_json(cls, reader: Reader) -> Origin:
        """Read what `to_json` wrote."""

        def pairs(name: str) -> tuple[tuple[str, str], ...]:
            return tuple(sorted(reader.field(name).text_map().items()))

        commit, branch = reader.maybe("commit"), reader.maybe("branch")
        tree, commit_tree = reader.maybe("tree"), reader.maybe("commit_tree")
        on_remote, converted = reader.maybe("on_remote"), reader.maybe("converted")
        return cls(
            commit=commit.text() if commit else None,
            branch=branch.text() if branch else None,
            remotes=pairs("remotes"),
            changed=pairs("changed"),
            submodules=pairs("submodules"),
            skipped=pairs("skipped"),
            notable=pairs("notable") if reader.maybe("notable") else (),
            tree=tree.text() if tree else None,
            commit_tree=commit_tree.text() if commit_tree else None,
            on_remote=on_remote.boolean() if on_remote else None,
            converted=converted.texts() if converted else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """
    A captured work tree. Its identity is *root*; the rest can be read again from the store.

    Attributes:
        root: BLAKE3 of the root node.
        file_count: Files and links in it.
        size_bytes: The sum of their sizes.
        origin: What it is a change of.
    """

    root: Digest
    file_count: int
    size_bytes: int
    origin: Origin
