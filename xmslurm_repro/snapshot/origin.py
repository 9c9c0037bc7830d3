"""What a snapshot is a change of: commit, branch, remotes, and the paths that differ."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from xmslurm_repro.model.snapshot import Origin
from xmslurm_repro.snapshot.cache import Known, Stamp, cache_file
from xmslurm_repro.snapshot.head_tree import HeadTree, head_tree
from xmslurm_repro.snapshot.index import GITLINK, Index, IndexEntry
from xmslurm_repro.snapshot.paths import shown
from xmslurm_repro.snapshot.scan import Part, Scan

_LOW_32 = 0xFFFFFFFF
_NANOSECONDS = 1_000_000_000
_EXEC_BITS = 0o111


def load_head(part: Part, cache_dir: Path) -> HeadTree:
    """
    What the commit of *part*'s HEAD holds; nothing while there is none.

    Raises:
        FormatError: If the repository's objects cannot be read.
    """
    if part.repository is None or part.head.commit is None:
        return {}
    remembered = cache_file(cache_dir, part.repository.root, "x")
    return head_tree(part.repository, part.head.commit, part.index, remembered)


def needs_object_id(part: Part, head: HeadTree, path: bytes, found: Stamp) -> bool:
    """
    Whether only a file's bytes can tell if it differs from HEAD.

    Not so where git's own index vouches for them, as it does for nearly all.
    """
    relative = path[len(part.prefix) :]
    return relative in head and _vouched(part.index, relative, found) is None


def describe(scan: Scan, heads: Mapping[bytes, HeadTree], files: Mapping[bytes, Known]) -> Origin:
    """
    What the snapshot is a change of.

    Args:
        scan: What was found.
        heads: What HEAD holds, by the prefix of each part.
        files: What was read, by path.
    """
    first = scan.parts[0]
    changed: dict[bytes, str] = {}
    submodules: dict[bytes, str] = {}
    skipped = dict(scan.skipped)
    for part in scan.parts:
        head = heads[part.prefix]
        if part.prefix:
            path = part.prefix.rstrip(b"/")
            submodules[path] = part.head.commit or "unborn"
            if not part.is_tracked:
                changed[path] = "untracked"
        if part.repository is not None:
            changed.update(_changes(part, head, files))
            for path in _missing(part, head, scan):
                changed[path] = "deleted"
            for path in _left_out(part):
                skipped[path] = "the sparse checkout leaves it out"
    for part in scan.parts[1:]:
        _judge_submodule(part, scan, heads, changed)
    return Origin(
        commit=first.head.commit,
        branch=first.head.branch,
        remotes=first.settings.remotes,
        changed=_as_text(changed),
        submodules=_as_text(submodules),
        skipped=_as_text(skipped),
    )


def _changes(part: Part, head: HeadTree, files: Mapping[bytes, Known]) -> dict[bytes, str]:
    changed: dict[bytes, str] = {}
    cut, tracked = len(part.prefix), part.index.entries
    for path, found in part.files.items():
        relative = path[cut:]
        base = head.get(relative)
        if base is None:
            changed[path] = "added" if relative in tracked else "untracked"
            continue
        mode, object_id = base
        now = _vouched(part.index, relative, found)
        if now is None:
            now = files[path].object_id[: len(object_id)]
        has_mode = _git_mode(found.mode, mode, trusts_exec_bit=part.settings.file_mode)
        if has_mode != mode or now != object_id:
            changed[path] = "modified"
    return changed


def _missing(part: Part, head: HeadTree, scan: Scan) -> Iterator[bytes]:
    """What HEAD holds and the work tree should, but does not."""
    nested = {other.prefix for other in scan.parts}
    for relative in head:
        path = part.prefix + relative
        is_there = path in part.files or path + b"/" in nested or path in scan.skipped
        if not is_there and not _is_left_out(part.index, relative):
            yield path


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
    part: Part, scan: Scan, heads: Mapping[bytes, HeadTree], changed: dict[bytes, str]
) -> None:
    """A submodule differs from its superproject's HEAD when its own HEAD is another commit."""
    path = part.prefix.rstrip(b"/")
    outer = max(
        (other for other in scan.parts if path.startswith(other.prefix) and other is not part),
        key=lambda other: len(other.prefix),
    )
    if not part.is_tracked or outer.repository is None:
        return
    base = heads[outer.prefix].get(path[len(outer.prefix) :])
    if base is None:
        changed[path] = "added"
    elif base[0] != GITLINK or base[1].hex() != part.head.commit:
        changed[path] = "modified"


def _vouched(index: Index, path: bytes, found: Stamp) -> bytes | None:
    """The object id of a file that has not been touched since git looked at it."""
    entry = index.entries.get(path)
    if entry is None or path in index.unmerged or not _is_same(entry, found):
        return None
    # A file as new as the index may have changed behind git's back ("racy git").
    if found.mtime_ns >= index.mtime_ns:
        return None
    return entry.object_id


def _is_same(entry: IndexEntry, found: Stamp) -> bool:
    mtime_s, mtime_ns = divmod(found.mtime_ns, _NANOSECONDS)
    ctime_s, ctime_ns = divmod(found.ctime_ns, _NANOSECONDS)
    return (
        entry.mtime_ns == mtime_ns
        and entry.mtime_s == mtime_s & _LOW_32
        and entry.ctime_ns == ctime_ns
        and entry.ctime_s == ctime_s & _LOW_32
        and entry.size_bytes == found.size_bytes & _LOW_32
        and entry.ino == found.inode & _LOW_32
        and stat.S_IFMT(entry.mode) == stat.S_IFMT(found.mode)
    )


def _git_mode(mode: int, in_head: int, *, trusts_exec_bit: bool) -> int:
    if stat.S_ISLNK(mode):
        return 0o120000
    if not trusts_exec_bit and stat.S_ISREG(in_head):
        return in_head
    return 0o100755 if mode & _EXEC_BITS else 0o100644


def _as_text(paths: Mapping[bytes, str]) -> tuple[tuple[str, str], ...]:
    # A dict in between: two paths that are not UTF-8 might be written alike.
    return tuple(sorted({shown(path): text for path, text in paths.items()}.items()))
