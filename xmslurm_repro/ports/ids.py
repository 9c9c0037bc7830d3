"""Fresh names, as an argument."""

from __future__ import annotations

from typing import Protocol


class IdSource(Protocol):
    """Makes names that nobody has used and nobody can guess."""

    def token(self) -> str:
        """A fresh submission token, as `RunId` takes it."""
        ...
