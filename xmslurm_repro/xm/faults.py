"""Errors that launch scripts may meet: ours, and at the same time what XManager's API promises."""

from __future__ import annotations

from xmanager import xm

from xmslurm_repro.errors import NotFoundError, UsageError


class ArgumentError(UsageError, ValueError):
    """A value in a launch script makes no sense."""


class ArgumentTypeError(UsageError, TypeError):
    """A value in a launch script is of the wrong type."""


class ExperimentNotFoundError(NotFoundError, xm.NotFoundError):  # type: ignore[misc]
    """No experiment has that number."""

    def __str__(self) -> str:
        """Say it as it is; a `KeyError` would put it in quotes."""
        return self.message
