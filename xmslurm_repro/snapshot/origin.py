"""What a snapshot is a change of: commit, branch, remotes, and the paths that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from xmslurm_repro.model.snapshot import Origin
from xmslurm_repro.snapshot.cache import Known, Stamp, cache_file
from xmslurm_repro.snapshot.head_tree import HeadTree, head_tree
from xmslurm_repro.snapshot.index import GITLINK, Index, IndexEntry
from xmslurm_repro.snapshot.paths import shown
from xmslurm_repro.snapshot.scan import Part, Scan

_LOW_32 = 0xFFFFFFFF
_NANOSECONDS = 1_000_000_000
_TYPE_BITS = 0o170000
_FILE = 0o100000
_LINK = 0o120000
_EXEC_BITS = 0o111


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """
    What a part of the work tree is compared with.

    Attributes:
        head: What HEAD's commit holds, by path from the repository's root; nothing while there
            is none.
        vouched: What git's index says, and git's id of the bytes in it, of each file that was
            not touched since git looked at it, by path from the work tree's root. That is
            nearly all files.
    """

    head: HeadTree
    vouched: dict[bytes, IndexEntry]

    def needs_object_id(self, path: bytes, prefix: bytes) -> bool:
        """Whether only its bytes can tell if a file differs from HEAD."""
        return path not in self.vouched and path[len(prefix) :] in self.head


def basis_of(part: Part, cache_dir: Path) -> Basis:
    """
    What *part* is compared with.

    Raises:
        FormatError: If the repository's objects cannot be read.
    """
    if part.repository is None or part.head.commit is None:
        return Basis(head={}, vouched={})
    remembered = cache_file(cache_dir, part.repository.root, "x")
    head = head_tree(part.repository, part.head.commit, part.index, remembered)
    return Basis(head=head, vouched=_vouched(part))


def _vouched(part: Part) -> dict[bytes, IndexEntry]:
    index, cut = part.index, len(part.prefix)
    vouched: dict[bytes, IndexEntry] = {}
    for path, found in part.files.items():
        entry = index.entries.get(path[cut:])
        # A file as new as the index may have changed behind git's back ("racy git").
        if entry is not None and found.mtime_ns < index.mtime_ns and _is_same(entry, found):
            vouched[path] = entry
    for relative in index.unmerged:
        vouched.pop(part.prefix + relative, None)
    return vouched


def describe(
    scan: Scan,
    bases: Mapping[bytes, Basis],
    files: Mapping[bytes, Known],
    notes: Mapping[bytes, str],
) -> Origin:
    """
    What the snapshot is a change of.

    Args:
        scan: What was found.
        bases: What each part is compared with, by its prefix.
        files: What was read, by path.
        notes: What people should know of captured files, by path.
    """
    first = scan.parts[0]
    changed: dict[bytes, str] = {}
    submodules: dict[bytes, str] = {}
    skipped = dict(scan.skipped)
    for part in scan.parts:
        base = bases[part.prefix]
        if part.prefix:
            path = part.prefix.rstrip(b"/")
            submodules[path] = part.head.commit or "unborn"
            if not part.is_tracked:
                changed[path] = "untracked"
        if part.repository is not None:
            changed.update(changes_of(part, base, files))
            for path in _missing(part, base.head, scan):
                changed[path] = "deleted"
            for path in _left_out(part):
                skipped[path] = "the sparse checkout leaves it out"
    for part in scan.parts[1:]:
        _judge_submodule(part, scan, bases, changed)
    return Origin(
        commit=first.head.commit,
        branch=first.head.branch,
        remotes=first.settings.remotes,
        changed=_as_text(changed),
        submodules=_as_text(submodules),
        skipped=_as_text(skipped),
        notable=_as_text(notes),
    )


def with_alike(origin: Origin, alike: Mapping[bytes, bytes]) -> Origin:
    """*origin* that also notes which names are the same to some file systems."""
    notes = dict(origin.notable)
    for path, other in alike.items():
        note = f"the same name as {shown(other)} where case or the form of Unicode does not count"
        name = shown(path)
        notes[name] = f"{notes[name]}; {note}" if name in notes else note
    return replace(origin, notable=tuple(sorted(notes.items())))


def changes_of(part: Part, basis: Basis, files: Mapping[bytes, Known]) -> dict[bytes, str]:
    """In what the files of *part* differ from HEAD, by path; *files* is what was read of them."""
    changed: dict[bytes, str] = {}
    cut, tracked = len(part.prefix), part.index.entries
    trusts_exec_bit = part.settings.file_mode
    for path, found in part.files.items():
        relative = path[cut:]
        base = basis.head.get(relative)
        if base is None:
            changed[path] = "added" if relative in tracked else "untracked"
            continue
        mode, object_id = base
        entry = basis.vouched.get(path)
        now = entry.object_id if entry else files[path].object_id[: len(object_id)]
        if now != object_id or mode != _git_mode(found.mode, mode, trusts_exec_bit):
            changed[path] = "modified"
    return changed


def _missing(part: Part, head: HeadTree, scan: Scan) -> Iterator[bytes]:
    """What HEAD holds and the work tree should, but does not."""
    nested = {other.prefix for other in scan.parts}
    for relative in head:
        path = part.prefix + relative
        is_there = path in part.files or path + b"/" in nested or _is_skipped(scan, path)
        if not is_there and not _is_left_out(part.index, relative):
            yield path


def _is_skipped(scan: Scan, path: bytes) -> bool:
    while scan.skipped and path:
        if path in scan.skipped:
            return True
        path = path.rpartition(b"/")[0]
    return False


def _is_left_out(index: Index, path: bytes) -> bool:
    while index.absent and path:
        if path in index.absent:
            return True
        path = path.rpartition(b"/")[0]
    return False


def _left_out(part: Part) -> set[bytes]:
    """What a sparse checkout leaves out: folders as a whole where nothing in them is there."""
    present: set[bytes] = {b""}
    for path in part.files if part.index.absent else ():
        folder = path[len(part.prefix) :].rpartition(b"/")[0]
        while folder not in present:
            present.add(folder)
            folder = folder.rpartition(b"/")[0]
    left_out: set[bytes] = set()
    for absent in part.index.absent:
        path = absent
        while (folder := path.rpartition(b"/")[0]) not in present:
            path = folder
        if part.prefix + path not in part.files:
            left_out.add(part.prefix + path)
    return left_out


def _judge_submodule(
    part: Part, scan: Scan, bases: Mapping[bytes, Basis], changed: dict[bytes, str]
) -> None:
    """A submodule differs from its superproject's HEAD when its own HEAD is another commit."""
    path = part.prefix.rstrip(b"/")
    outer = max(
        (other for other in scan.parts if path.startswith(other.prefix) and other is not part),
        key=lambda other: len(other.prefix),
    )
    if not part.is_tracked or outer.repository is None:
        return
    base = bases[outer.prefix].head.get(path[len(outer.prefix) :])
    if base is None:
        changed[path] = "added"
    elif base[0] != GITLINK or base[1].hex() != part.head.commit:
        changed[path] = "modified"


def _is_same(entry: IndexEntry, found: Stamp) -> bool:
    # Times outside of 1970 to 2106 never match, and such a file is read.
    ctime_s, ctime_ns, mtime_s, mtime_ns, inode, mode, size_bytes = entry.stat()
    return (
        mtime_s * _NANOSECONDS + mtime_ns == found.mtime_ns
        and ctime_s * _NANOSECONDS + ctime_ns == found.ctime_ns
        and size_bytes == found.size_bytes & _LOW_32
        and inode == found.inode & _LOW_32
        and mode & _TYPE_BITS == found.mode & _TYPE_BITS
    )


def _git_mode(mode: int, in_head: int, trusts_exec_bit: bool) -> int:
    if mode & _TYPE_BITS == _LINK:
        return _LINK
    if not trusts_exec_bit and in_head & _TYPE_BITS == _FILE:
        return in_head
    return 0o100755 if mode & _EXEC_BITS else 0o100644


def _as_text(paths: Mapping[bytes, str]) -> tuple[tuple[str, str], ...]:
    # A dict in between: two paths that are not UTF-8 might be written alike.
    return tuple(sorted({shown(path): text for path, text in paths.items()}.items()))
