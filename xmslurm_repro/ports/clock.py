"""The time, as an argument."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> datetime:
        """The time now, in UTC and aware of it."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after about *seconds*."""
        ...
