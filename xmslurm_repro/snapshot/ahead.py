"""Asking for files before they are read, where a disk or a server has to be waited for."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_THREADS = 4
_MUCH = 128
"""How many blocks of 512 bytes, fetched from one look to the next, are worth the effort."""
_FILES_AHEAD = 1024
_AT_ONCE = 32
_QUIET_LOOKS = 16
"""After so many looks at which little had to be fetched nothing is asked for, until it has."""
_BYTES_AHEAD = 32 * 1024 * 1024
"""Of one file. The system reads on by itself where one goes through a file."""


class Ahead:
    """
    Asks the system to fetch files, a little before it is their turn.

    Nothing happens while all that is read is in memory: then it would only take time. A reader
    that waits gets one file after the other from a disk that could find several at once.

    Args:
        folder: What paths are below, open.
        waiting: What is still to be read: tuples that begin with a path, the next one last.
            Others take from its end meanwhile.
    """

    def __init__(self, folder: int, waiting: Sequence[tuple[Any, ...]]) -> None:
        self._folder = folder
        self._waiting = waiting
        self._fetched = _fetched()
        self._quiet_looks = 0
        self._threads: list[threading.Thread] = []
        self._condition = threading.Condition()
        # Everything from here on was asked for, or was read.
        self._asked = len(waiting)
        self._left = len(waiting)

    def __enter__(self) -> Self:
        """Nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ask for no more."""
        with self._condition:
            self._left = -1
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()

    def look(self, left: int) -> None:
        """Say how many files are left to be read."""
        fetched = _fetched()
        is_much = fetched - self._fetched >= _MUCH
        self._fetched = fetched
        self._quiet_looks = 0 if is_much else self._quiet_looks + 1
        if not self._threads:
            if not is_much or left < _FILES_AHEAD:
                return
            self._asked = left
            self._threads = [threading.Thread(target=self._run) for _ in range(_THREADS)]
            for thread in self._threads:
                thread.start()
        if self._quiet_looks <= _QUIET_LOOKS:
            with self._condition:
                self._left = left
                self._condition.notify_all()

    def _run(self) -> None:
        while paths := self._next():
            for path in paths:
                # Whoever reads it says what is wrong with it.
                with suppress(OSError):
                    descriptor = os.open(path, _FLAGS, dir_fd=self._folder)
                    try:
                        os.posix_fadvise(descriptor, 0, _BYTES_AHEAD, os.POSIX_FADV_WILLNEED)
                    finally:
                        os.close(descriptor)

    def _next(self) -> list[bytes]:
        """Some that nobody has asked for yet; none when it is over."""
        with self._condition:
            while self._left >= 0:
                end = min(self._asked, self._left)
                begin = max(end - _AT_ONCE, self._left - _FILES_AHEAD, 0)
                if begin < end:
                    self._asked = begin
                    # Nearest first. Those that were read meanwhile are not there any more.
                    return [item[0] for item in reversed(self._waiting[begin:end])]
                if end == 0:
                    return []
                self._condition.wait()
        return []


def _fetched() -> int:
    """How much this process has had to fetch from disks and servers."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock
