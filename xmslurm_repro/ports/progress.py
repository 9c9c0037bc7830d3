"""Saying how far a long step has come."""

from __future__ import annotations

from typing import Protocol


class ProgressTask(Protocol):
    """One long step under way."""

    def advance(self, amount: int) -> None:
        """Say that *amount* more (bytes or items) is done. Callable from any thread."""
        ...

    def finish(self) -> None:
        """Say that the step is over, well or not. Idempotent."""
        ...


class Progress(Protocol):
    """Where long steps report. Never fails, never prints when not on a terminal."""

    def start(self, label: str, *, total: int | None = None, unit: str = "bytes") -> ProgressTask:
        """Begin a step of *total* units; ``None`` when the total is not known."""
        ...


class _SilentTask:
    def advance(self, amount: int) -> None:
        """Say nothing."""

    def finish(self) -> None:
        """Say nothing."""


class SilentProgress:
    """Says nothing. The default of every function that takes a `Progress`."""

    def start(self, label: str, *, total: int | None = None, unit: str = "bytes") -> ProgressTask:
        """Begin a step in silence."""
        del label, total, unit
        return _SilentTask()
