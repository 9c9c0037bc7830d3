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

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Known to type checkers by its name; `typing` itself takes 2 ms.
    from collections.abc import Callable, Sequence

    Look = Callable[[bytes], os.stat_result]

STAMP = attrgetter("st_mtime_ns", "st_ctime_ns", "st_size", "st_ino", "st_mode")
STAMP_BYTES = 40
"""A stamp as it is kept: five signed numbers of 64 bits."""
NEVER = bytes(STAMP_BYTES)
"""A stamp that nothing has; for what must be looked at again in any case."""

_AT_ONCE = 4096
_ENOUGH_FOR_TWO = 3072
"""From how many paths on a second process finds its half sooner than it is made."""
_PROBE = 256
"""After so many paths it shows whether there is waiting to be done."""
_WAYS_TO_WAIT = 4
"""Into how many processes each of two divides then. More do not make a disk faster."""
_MOST = 512
"""With more changes than this, whoever looks at everything is as quick."""
_DONE = b"."


class _ManyError(Exception):
    """There are more changes than are worth telling apart."""


def find_changed(root: bytes, names: bytes, stamps: memoryview) -> list[int] | None:
    """
    The numbers of the paths that do not have the stamp that they had.

    Args:
        root: The folder that they are below.
        names: The paths, with NULs in between.
        stamps: One for each, of `STAMP_BYTES`.

    Returns:
        In order; ``None`` where there are many, or where that cannot be told.
    """
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    look = partial(os.stat, dir_fd=folder, follow_symlinks=False)
    try:
        may_fork = _may_fork()
        if len(stamps) < _ENOUGH_FOR_TWO * STAMP_BYTES or not may_fork:
            return _part(folder, look, names, stamps, may_fork)
        return _spread(folder, look, names, stamps, 2, may_fork)
    except _ManyError:
        return None
    finally:
        os.close(folder)


def _part(folder: int, look: Look, names: bytes, stamps: memoryview, may_spread: bool) -> list[int]:
    paths = names.split(b"\0")
    if not may_spread or len(paths) <= 2 * _PROBE:
        return _compare(look, paths, stamps)
    before = _waits()
    changed = _compare(look, paths[:_PROBE], stamps)
    if _waits() - before < _PROBE // 16:
        return changed + _later(_compare(look, paths[_PROBE:], stamps[_PROBE * STAMP_BYTES :]))
    rest = b"\0".join(paths[_PROBE:])
    del paths
    more = _spread(folder, look, rest, stamps[_PROBE * STAMP_BYTES :], _WAYS_TO_WAIT, False)
    return changed + _later(more)


def _later(numbers: Sequence[int]) -> list[int]:
    return [number + _PROBE for number in numbers]


def _compare(look: Look, paths: Sequence[bytes], stamps: memoryview) -> list[int]:
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
        changed += [begin + number for number in _differing(look, some, known)]
        if len(changed) > _MOST:
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


def _spread(
    folder: int, look: Look, names: bytes, stamps: memoryview, ways: int, may_spread: bool
) -> list[int]:
    """Let forked processes look at all but the first of *ways* parts."""
    parts = _parts(names, stamps, ways)
    first, children = parts[0], []
    try:
        for begin, some, theirs in parts[1:]:
            children.append((begin, *_child(folder, some, theirs, may_spread)))
        changed = _part(folder, look, first[1], first[2], may_spread)
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
    if len(changed) > _MOST:
        raise _ManyError
    return changed


def _parts(names: bytes, stamps: memoryview, ways: int) -> list[tuple[int, bytes, memoryview]]:
    parts: list[tuple[int, bytes, memoryview]] = []
    at = number = 0
    for left in range(ways, 0, -1):
        cut = names.find(b"\0", at + (len(names) - at) // left) if left > 1 else len(names)
        cut = len(names) if cut < 0 else cut
        count = names.count(b"\0", at, cut) + 1
        some = stamps[number * STAMP_BYTES : (number + count) * STAMP_BYTES]
        parts.append((number, names[at:cut], some))
        number += count
        at = cut + 1
        if cut == len(names):
            break
    return parts


def _child(folder: int, names: bytes, stamps: memoryview, may_spread: bool) -> tuple[int, int]:
    """Begin a process that looks at *names*; where it tells what it found, and its id."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return reading, pid
    status = 1
    try:
        # Nobody else is in this process, so that it may go there: paths are found sooner.
        os.fchdir(folder)
        found = _part(folder, os.lstat, names, stamps, may_spread)
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
