"""Where the values of secrets come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from xmslurm_repro.errors import MissingSecretError


class SecretSource(Protocol):
    """Knows values that stand in no file of ours."""

    def reveal(self, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """
        The value of each of *names*, in their order.

        Raises:
            MissingSecretError: Naming all that cannot be had.
        """
        ...


class NoSecrets:
    """Knows none."""

    def reveal(self, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Nothing, as long as nothing is asked for."""
        if names:
            raise MissingSecretError(names)
        return ()
