"""The real clock and the real source of fresh names."""

from __future__ import annotations

import asyncio
import secrets  # noqa: TID251 (the one place)
from datetime import UTC, datetime

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_LENGTH = 16
"""Eighty bits: nobody guesses it, and Slurm's tables still show it whole."""


class SystemClock:
    """The time of this machine."""

    def now(self) -> datetime:
        """The time now, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 (the one place)

    async def sleep(self, seconds: float) -> None:
        """Let others run for *seconds*."""
        await asyncio.sleep(seconds)


class RandomIds:
    """Names from the system's source of randomness."""

    def token(self) -> str:
        """A fresh submission token."""
        return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
