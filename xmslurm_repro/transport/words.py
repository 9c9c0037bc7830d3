"""What the transports do alike: a command's words, an input's chunks, a conversation."""

from __future__ import annotations

import asyncio
import base64
import re
import shlex
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Sequence
from typing import TypeVar

from xmslurm_repro.errors import ConnectionLostError, UsageError
from xmslurm_repro.ports.transport import Completed

T = TypeVar("T")

# Large enough that a 300 MB input costs few turns of the loop, small enough to be dropped early
# when the command does not want it.
CHUNK_BYTES = 256 * 1024

# What POSIX shells answer (XCU 2.8.2); local commands answer likewise, so that callers need not
# know whether a shell was in between.
NOT_EXECUTABLE_STATUS = 126
NOT_FOUND_STATUS = 127

# A line on a host's standard output that parts what its login shell prints by itself (from
# .bashrc, say) from what the command prints.
MARK = b"xmslurm-repro-begin\n"

# Linux takes no longer single argument (MAX_ARG_STRLEN), and a remote line is one.
_MAX_LINE_BYTES = 128 * 1024 - 1

# Words that every login shell takes alike between single quotes. Not so: a backslash (fish), an
# exclamation mark or a newline (csh), a byte beyond ASCII (whatever has no locale).
_PLAIN_WORD = re.compile(r"[ -\[\]-~]*")


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


def remote_line(argv: Sequence[str], run: str = 'exec "$@"') -> str:
    """
    The line that makes any login shell (sh, csh, fish) print `MARK` and then run *argv*.

    Words that are not UTF-8 arrive as Python reads them from the system (``surrogateescape``)
    and leave as the same bytes. The line itself is ASCII.

    Args:
        argv: The command.
        run: What a POSIX shell shall do with it; it stands between single quotes.

    Raises:
        UsageError: If it is longer than a host can take.
    """
    words = checked_words(argv)
    script = f"echo {MARK.decode().rstrip()};{run}"
    if all(_PLAIN_WORD.fullmatch(word) and "!" not in word for word in words):
        line = f"exec /bin/sh -c '{script}' sh {shlex.join(words)}"
    else:
        setting = f"set -- {shlex.join(words)};{script}".encode("utf-8", "surrogateescape")
        coded = base64.b64encode(setting).decode()
        line = f"exec /bin/sh -c 'eval \"$(echo {coded}|base64 -d)\"'"
    if len(line) > _MAX_LINE_BYTES:
        raise UsageError(
            f"`{words[0]}` and its arguments take {len(line)} bytes as a remote command",
            hint=f"A host takes {_MAX_LINE_BYTES} bytes at most; pass long values in a file.",
        )
    return line


class AfterMark:
    """Takes what a host prints, and gives what comes after `MARK`."""

    def __init__(self) -> None:
        self._held = b""
        self.was_seen = False

    def feed(self, piece: bytes) -> bytes:
        """The part of *piece* that the command printed, as far as is known yet."""
        if self.was_seen:
            return piece
        self._held += piece
        _, mark, rest = self._held.partition(MARK)
        if not mark:
            return b""
        self._held, self.was_seen = b"", True
        return rest

    def rest(self) -> bytes:
        """At the end: what was printed although the mark never came, such as a refusal."""
        return self._held


async def chunks_of(stdin: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes | memoryview]:
    """The input in pieces of at most `CHUNK_BYTES`, whatever the pieces it is given in."""
    if isinstance(stdin, bytes):
        for chunk in _split(stdin):
            yield chunk
        return
    async for piece in stdin:
        for chunk in _split(piece):
            yield chunk


def _split(piece: bytes) -> Sequence[bytes | memoryview]:
    if len(piece) <= CHUNK_BYTES:
        return (piece,) if piece else ()
    view = memoryview(piece)
    return [view[start : start + CHUNK_BYTES] for start in range(0, len(view), CHUNK_BYTES)]


async def converse(feeding: Coroutine[None, None, None], hearing: Coroutine[None, None, T]) -> T:
    """
    Feed a command while hearing what it says; return what was heard.

    An input that fails ends the conversation; a command that has ended needs no more input.
    """
    feeder, hearer = asyncio.ensure_future(feeding), asyncio.ensure_future(hearing)
    try:
        await asyncio.wait({feeder, hearer}, return_when=asyncio.FIRST_COMPLETED)
        if feeder.done():
            feeder.result()
        return await hearer
    finally:
        feeder.cancel()
        hearer.cancel()
        await asyncio.gather(feeder, hearer, return_exceptions=True)


def status_of(returncode: int) -> int:
    """The exit status as a shell tells it: 128 + n where `subprocess` says -n."""
    return returncode if returncode >= 0 else 128 - returncode


def not_started(words: Sequence[str], error: OSError) -> Completed:
    """What a shell would have answered for a program that cannot be started."""
    is_missing = isinstance(error, FileNotFoundError)
    said = f"{words[0]}: {error.strerror}\n".encode("utf-8", "surrogateescape")
    status = NOT_FOUND_STATUS if is_missing else NOT_EXECUTABLE_STATUS
    return Completed(exit_status=status, stdout=b"", stderr=said)


def timed_out(
    where: str, argv: Sequence[str], timeout_seconds: float, *, may_have_run: bool = True
) -> ConnectionLostError:
    """The error for a command that took too long and was told to end."""
    what = "did not end" if may_have_run else "could not be sent"
    return ConnectionLostError(
        f"`{argv[0]}` on {where} {what} within {timeout_seconds:g} s",
        hint="The host may only be slow: try again later.",
        may_have_run=may_have_run,
    )
