"""Progress bars on a terminal, for steps that take long enough to be worth one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from xmslurm_repro.ports.progress import ProgressTask

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PATIENCE_SECONDS = 0.4
"""A step that is over sooner shows nothing, and costs nothing: rich is not even imported."""


class TerminalProgress:
    """Bars on standard error that vanish when their step is over."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._shown = 0
        self._lock = threading.RLock()

    def start(self, label: str, *, total: int | None = None, unit: str = "bytes") -> ProgressTask:
        """Begin a step."""
        return _Step(self, label, total, unit)

    def show(self, label: str, total: int | None, unit: str, done: int) -> tuple[Progress, TaskID]:
        """Put up a bar for a step of which *done* is done already."""
        with self._lock:
            if self._bars is None:
                self._bars = _make_bars()
                self._bars.start()
            self._shown += 1
            task = self._bars.add_task(label, total=total, completed=done, unit=unit)
            return self._bars, task

    def hide(self, task: TaskID) -> None:
        """Take a bar away; the last one takes the display with it."""
        with self._lock:
            assert self._bars is not None  # noqa: S101 (a bar is shown)
            self._bars.remove_task(task)
            self._shown -= 1
            if self._shown == 0:
                self._bars.stop()
                self._bars = None


class _Step:
    def __init__(self, owner: TerminalProgress, label: str, total: int | None, unit: str) -> None:
        self._owner, self._label, self._total, self._unit = owner, label, total, unit
        self._done = 0
        self._bar: tuple[Progress, TaskID] | None = None
        self._is_over = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(_PATIENCE_SECONDS, self._show)
        self._timer.daemon = True
        self._timer.start()

    def advance(self, amount: int) -> None:
        """Say that *amount* more is done."""
        with self._lock:
            self._done += amount
            if self._bar is not None:
                bars, task = self._bar
                bars.update(task, completed=self._done)

    def finish(self) -> None:
        """Say that the step is over."""
        self._timer.cancel()
        with self._lock:
            if self._bar is not None and not self._is_over:
                self._owner.hide(self._bar[1])
            self._is_over = True

    def _show(self) -> None:
        with self._lock:
            if not self._is_over:
                self._bar = self._owner.show(self._label, self._total, self._unit, self._done)


def _make_bars() -> Progress:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Amount(ProgressColumn):
        """How much is done, and of how much, where that is known."""

        def render(self, task: Task) -> Text:
            says = decimal if task.fields["unit"] == "bytes" else str
            done = says(int(task.completed))
            of = f" of {says(int(task.total))}" if task.total else ""
            return Text(f"{done}{of}" if task.completed or of else "")

    columns = (TextColumn("{task.description}"), BarColumn(), Amount(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
