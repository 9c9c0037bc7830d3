"""Looking at many paths at once: which of them do not have the stamps that they had?

A second process takes half of them, and more do where the disk or a server has to be waited for:
a process that waits can look at one path only.
"""

from __future__ import annotations

import os
import sys
from array import array
from functools import partial
from itertools import chain
from operator import attrgetter

from xmslurm_repro.store.blake3_names import blake3_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Known to type checkers by its name; `typing` itself takes 2 ms.
    from collections.abc import Callable, Iterable, Sequence

    Look = Callable[[bytes], os.stat_result]

STAMP = attrgetter("st_mtime_ns", "st_ctime_ns", "st_size", "st_ino", "st_mode")
STAMP_BYTES = 40
"""A stamp as it is kept: five signed numbers of 64 bits."""
NEVER = bytes(STAMP_BYTES)
"""A stamp that nothing has; for what must be looked at again in any case."""

_AT_ONCE = 4096
_ENOUGH_FOR_TWO = 3072
"""From how many paths on a second process finds its half sooner than it is made."""
_ENOUGH_FOR_BUSY = 16384
"""And from how many on where it has to wait for its turn."""
_PROBE = 256
"""After so many paths it shows whether there is waiting to be done."""
_WAYS_TO_WAIT = 4
"""Into how many processes each of two divides then. More do not make a disk faster."""
_DONE = b"."


LISTING_BYTES = 16
"""How much `listing_of` says."""


def listing_of(entries: Iterable[os.DirEntry[bytes]]) -> bytes:
    """What is the same for two listings of a folder with the same names of the same kinds."""
    return bytes.fromhex(blake3_hex(b"\0".join(sorted(map(_named, entries))))[: 2 * LISTING_BYTES])


def _named(entry: os.DirEntry[bytes]) -> bytes:
    if entry.is_file(follow_symlinks=False):
        return entry.name
    if entry.is_dir(follow_symlinks=False):
        return entry.name + b"/"
    return entry.name + (b"/@" if entry.is_symlink() else b"/?")


class _ManyError(Exception):
    """There are more changes than are worth telling apart."""


def find_changed(
    root: bytes, names: bytes, stamps: memoryview, *, most: int = 512, may_go: bool = False
) -> list[int] | None:
    """
    The numbers of the paths that do not have the stamp that they had.

    Args:
        root: The folder that they are below.
        names: The paths, with NULs in between.
        stamps: One for each, of `STAMP_BYTES`.
        most: With more changes than this, whoever looks at everything is as quick.
        may_go: Whether the current folder may be another one meanwhile: paths are found sooner
            from *root*. For those who are alone in their process.

    Returns:
        In order; ``None`` where there are more, or where that cannot be told.
    """
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    may_fork = _may_fork()
    part = _Part(folder, names, stamps, most, may_fork)
    try:
        if may_fork and len(stamps) >= _enough_for_two() * STAMP_BYTES:
            return _spread(part, partial(os.stat, dir_fd=folder, follow_symlinks=False), 2)
        if may_go:
            return _from_within(part)
        return _changed(part, partial(os.stat, dir_fd=folder, follow_symlinks=False))
    except (_ManyError, OSError):
        return None
    finally:
        os.close(folder)


def _from_within(part: _Part) -> list[int]:
    # Linux needs no right to read a folder in order to come back to it.
    before = os.open(os.curdir, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
    try:
        os.fchdir(part.folder)
        return _changed(part, os.lstat)
    finally:
        os.fchdir(before)
        os.close(before)


def _enough_for_two() -> int:
    try:
        is_free = os.getloadavg()[0] < len(os.sched_getaffinity(0))
    except OSError:
        # Not every container says how busy the machine is.
        is_free = False
    return _ENOUGH_FOR_TWO if is_free else _ENOUGH_FOR_BUSY


class _Part:
    """A part of the paths, for one process to look at."""

    __slots__ = ("folder", "may_spread", "most", "names", "stamps")

    def __init__(
        self, folder: int, names: bytes, stamps: memoryview, most: int, may_spread: bool
    ) -> None:
        self.folder = folder
        self.names = names
        self.stamps = stamps
        self.most = most
        self.may_spread = may_spread


def _changed(part: _Part, look: Look) -> list[int]:
    paths, stamps = part.names.split(b"\0"), part.stamps
    if not part.may_spread or len(paths) <= 2 * _PROBE:
        return _compare(look, paths, stamps, part.most)
    before = _waits()
    changed = _compare(look, paths[:_PROBE], stamps, part.most)
    rest = stamps[_PROBE * STAMP_BYTES :]
    if _waits() - before < _PROBE // 16:
        more = _compare(look, paths[_PROBE:], rest, part.most)
    else:
        names = b"\0".join(paths[_PROBE:])
        del paths
        more = _spread(_Part(part.folder, names, rest, part.most, False), look, _WAYS_TO_WAIT)
    changed += [_PROBE + number for number in more]
    if len(changed) > part.most:
        raise _ManyError
    return changed


def _compare(look: Look, paths: Sequence[bytes], stamps: memoryview, most: int) -> list[int]:
    changed: list[int] = []
    for begin in range(0, len(paths), _AT_ONCE):
        some = paths[begin : begin + _AT_ONCE]
        # As bytes: a view would be compared number by number.
        known = bytes(stamps[begin * STAMP_BYTES : (begin + len(some)) * STAMP_BYTES])
        try:
            # No Python between one file and the next: it would take as long as the system.
            now = array("q", chain.from_iterable(map(STAMP, map(look, some))))
            if now.tobytes() == known:
                continue
        except (OSError, OverflowError):
            pass
        if not most:
            raise _ManyError
        changed += [begin + number for number in _differing(look, some, known)]
        if len(changed) > most:
            raise _ManyError
    return changed


def _differing(look: Look, paths: Sequence[bytes], stamps: bytes) -> list[int]:
    changed = []
    for number, path in enumerate(paths):
        known = stamps[number * STAMP_BYTES : (number + 1) * STAMP_BYTES]
        try:
            is_same = array("q", STAMP(look(path))).tobytes() == known
        except (OSError, OverflowError):
            is_same = False
        if not is_same:
            changed.append(number)
    return changed


def _spread(whole: _Part, look: Look, ways: int) -> list[int]:
    """Let forked processes look at all but the first of *ways* parts."""
    parts = _parts(whole, ways)
    children: list[tuple[int, int, int]] = []
    own = parts[:1]
    try:
        for begin, part in parts[1:]:
            try:
                children.append((begin, *_child(part)))
            except OSError:
                # There may be a limit of processes or of open files.
                own.append((begin, part))
        changed: list[int] = []
        for begin, part in own:
            changed += [begin + number for number in _changed(part, look)]
        for begin, descriptor, _ in children:
            changed += [begin + number for number in _told(descriptor)]
    finally:
        for _, descriptor, pid in children:
            os.close(descriptor)
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                # Somebody in this process waits for every child. What it found we were told.
                continue
    if len(changed) > whole.most:
        raise _ManyError
    return sorted(changed)


def _parts(whole: _Part, ways: int) -> list[tuple[int, _Part]]:
    """The parts, each with the number of its first path."""
    names, parts = whole.names, []
    at = number = 0
    for left in range(ways, 0, -1):
        cut = names.find(b"\0", at + (len(names) - at) // left) if left > 1 else len(names)
        cut = len(names) if cut < 0 else cut
        count = names.count(b"\0", at, cut) + 1
        stamps = whole.stamps[number * STAMP_BYTES : (number + count) * STAMP_BYTES]
        part = _Part(whole.folder, names[at:cut], stamps, whole.most, whole.may_spread)
        parts.append((number, part))
        number += count
        at = cut + 1
        if cut == len(names):
            break
    return parts


def _child(part: _Part) -> tuple[int, int]:
    """Begin a process that looks at *part*; where it tells what it found, and its id."""
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid:
        os.close(writing)
        return reading, pid
    status = 1
    try:
        # Nobody else is in this process, so that it may go there: paths are found sooner.
        os.fchdir(part.folder)
        found = _changed(part, os.lstat)
        os.write(writing, array("I", found).tobytes() + _DONE)
        status = 0
    finally:
        # Nothing of the parent's may run here: no handler, no flush.
        os._exit(status)


def _told(descriptor: int) -> array[int]:
    told = b""
    while more := os.read(descriptor, 65536):
        told += more
    if not told.endswith(_DONE) or len(told) % 4 != 1:
        raise _ManyError
    return array("I", told[:-1])


def _waits() -> int:
    """How often this process has waited for something so far."""
    import resource  # noqa: PLC0415 (not everybody looks at so much)

    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def _may_fork() -> bool:
    # A fork of a process with threads may deadlock, and Python warns of it since 3.12.
    threading = sys.modules.get("threading")
    is_alone = threading is None or threading.active_count() == 1
    return sys.platform == "linux" and is_alone and len(os.sched_getaffinity(0)) > 1
