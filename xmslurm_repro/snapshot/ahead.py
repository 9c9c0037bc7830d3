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
        if not self._threads:
            fetched = _fetched()
            if fetched - self._fetched < _MUCH or left < _FILES_AHEAD:
                self._fetched = fetched
                return
            self._asked = left
            self._threads = [threading.Thread(target=self._run) for _ in range(_THREADS)]
            for thread in self._threads:
                thread.start()
        with self._condition:
            self._left = left
            self._condition.notify_all()

    def _run(self) -> None:
        while (path := self._next()) is not None:
            # Whoever reads it says what is wrong with it.
            with suppress(OSError):
                descriptor = os.open(path, _FLAGS, dir_fd=self._folder)
                try:
                    os.posix_fadvise(descriptor, 0, _BYTES_AHEAD, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(descriptor)

    def _next(self) -> bytes | None:
        with self._condition:
            while self._left >= 0:
                self._asked = min(self._asked, self._left) - 1
                if self._asked < 0:
                    return None
                if self._asked >= self._left - _FILES_AHEAD:
                    with suppress(IndexError):
                        path: bytes = self._waiting[self._asked][0]
                        return path
                    continue
                self._asked += 1
                self._condition.wait()
        return None


def _fetched() -> int:
    """How much this process has had to fetch from disks and servers."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock
