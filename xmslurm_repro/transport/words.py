"""What every transport does alike: a command's words, an input's chunks, time running out."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterable, AsyncIterator, Sequence

from xmslurm_repro.errors import ConnectionLostError

# Large enough that a 300 MB input costs few turns of the loop, small enough to be dropped early
# when the command does not want it.
CHUNK_BYTES = 256 * 1024

# What POSIX shells answer (XCU 2.8.2); local commands answer likewise, so that callers need not
# know whether a shell was in between.
NOT_EXECUTABLE_STATUS = 126
NOT_FOUND_STATUS = 127


def checked_words(argv: Sequence[str]) -> tuple[str, ...]:
    """
    The command's words.

    Raises:
        ValueError: If there is none, or a word holds a NUL, which no operating system can pass.
    """
    words = tuple(argv)
    if not words:
        raise ValueError("a command has at least one word")
    for word in words:
        if "\0" in word:
            raise ValueError(f"a command's word cannot hold a NUL: {word!r}")
    return words


def shell_line(argv: Sequence[str]) -> bytes:
    """
    The line that makes a POSIX shell run exactly *argv*.

    Words that are not UTF-8 arrive as Python reads them from the system (``surrogateescape``)
    and leave as the same bytes.
    """
    return shlex.join(checked_words(argv)).encode("utf-8", "surrogateescape")


async def chunks_of(stdin: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes | memoryview]:
    """The input in pieces of at most `CHUNK_BYTES`, whatever the pieces it is given in."""
    if isinstance(stdin, bytes):
        view = memoryview(stdin)
        for start in range(0, len(view), CHUNK_BYTES):
            yield view[start : start + CHUNK_BYTES]
        return
    async for piece in stdin:
        view = memoryview(piece)
        for start in range(0, len(view), CHUNK_BYTES):
            yield view[start : start + CHUNK_BYTES]


def status_of(returncode: int) -> int:
    """The exit status as a shell tells it: 128 + n where `subprocess` says -n."""
    return returncode if returncode >= 0 else 128 - returncode


def timed_out(where: str, argv: Sequence[str], timeout_seconds: float) -> ConnectionLostError:
    """The error for a command that took too long and was told to end."""
    return ConnectionLostError(
        f"`{argv[0]}` on {where} did not end within {timeout_seconds:g} s and was stopped",
        hint="If the host is only slow, try again later; what it did may have taken effect.",
        may_have_run=True,
    )
