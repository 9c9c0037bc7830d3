"""A way to run commands on a host: this one, or one at the end of an SSH connection."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that ran to its end: exit status (128 + n for signal n) and what it printed."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """
    Runs commands on one host, over one connection that is made when first needed.

    No command is ever sent twice by a transport: whoever calls decides whether it may be.
    """

    @property
    def description(self) -> str:
        """The host, for people: ``this machine`` or ``alice@login.example``."""
        ...

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | AsyncIterable[bytes] = b"",
        timeout_seconds: float | None = None,
    ) -> Completed:
        """
        Run the command *argv*, each word exact to the byte, and wait for its end.

        Raises:
            ConnectionLostError: If the connection cannot be made or breaks, or the time is up;
                ``may_have_run`` says whether the command may have started.
            HostKeyError: If the host is not who it should be; nothing was sent.
        """
        ...

    def stream(self, argv: Sequence[str], *, stdin: bytes = b"") -> AsyncIterator[bytes]:
        """
        Run *argv* with *stdin* as its input; yield what it prints to its standard output as it
        comes.

        Closing the iterator ends the command. A non-zero end raises nothing.

        Raises:
            ConnectionLostError: As `run`.
        """
        ...

    async def close(self) -> None:
        """Close the connection. Idempotent; `run` would open a new one."""
        ...
