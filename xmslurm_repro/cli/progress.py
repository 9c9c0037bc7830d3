"""Progress bars on a terminal."""

from __future__ import annotations

import threading

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from xmslurm_repro.ports.progress import ProgressTask


class TerminalProgress:
    """Bars on standard error that vanish when their step is over."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._running = 0
        self._lock = threading.Lock()

    def start(self, label: str, *, total: int | None = None, unit: str = "bytes") -> ProgressTask:
        """Begin a step."""
        with self._lock:
            if self._bars is None:
                self._bars = _bars(unit)
                self._bars.start()
            self._running += 1
            return _Bar(self, self._bars, self._bars.add_task(label, total=total))

    def end_one(self) -> None:
        """Let the bars vanish with the last of them."""
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._bars is not None:
                self._bars.stop()
                self._bars = None


class _Bar:
    def __init__(self, owner: TerminalProgress, bars: Progress, task: TaskID) -> None:
        self._owner, self._bars, self._task = owner, bars, task
        self._is_over = False

    def advance(self, amount: int) -> None:
        """Say that *amount* more is done."""
        self._bars.advance(self._task, amount)

    def finish(self) -> None:
        """Say that the step is over."""
        if not self._is_over:
            self._is_over = True
            self._bars.remove_task(self._task)
            self._owner.end_one()


def _bars(unit: str) -> Progress:
    amount = DownloadColumn() if unit == "bytes" else TextColumn("{task.completed}/{task.total}")
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        amount,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
