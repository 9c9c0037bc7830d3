"""Commands on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process, SubprocessStreamProtocol
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from xmslurm_repro.ports.transport import Completed
from xmslurm_repro.transport.words import (
    CHUNK_BYTES,
    checked_words,
    chunks_of,
    converse,
    not_started,
    status_of,
    timed_out,
)

# How long a killed process may take to be gone. The kernel may keep one that waits for a disk.
_REAP_SECONDS = 5


class LocalTransport:
    """
    Runs commands as children of this process, each in a process group of its own.

    Args:
        env: The whole environment of the commands; ``None`` lets them inherit ours.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._env = None if env is None else dict(env)

    @property
    def description(self) -> str:
        """The host, for people."""
        return "this machine"

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | AsyncIterable[bytes] = b"",
        timeout_seconds: float | None = None,
    ) -> Completed:
        """
        Run *argv* and wait for its end; see `ports.transport.Transport`.

        A program that cannot be started ends with 127 or 126, as a shell would have it. If the
        time is up, or the caller is cancelled, the whole process group is killed.
        """
        words = checked_words(argv)
        try:
            async with asyncio.timeout(timeout_seconds) as deadline:
                async with started(
                    words, env=self._env, stdin=DEVNULL if stdin == b"" else PIPE, stderr=PIPE
                ) as process:
                    return await converse(_feed(process, stdin), _collect(process))
        except NotStartedError as error:
            return error.completed
        except TimeoutError as error:
            if timeout_seconds is None or not deadline.expired():
                raise
            raise timed_out(self.description, words, timeout_seconds) from error

    async def stream(self, argv: Sequence[str], *, stdin: bytes = b"") -> AsyncIterator[bytes]:
        """Yield what *argv* prints as it comes; closing the iterator kills its process group."""
        pipe = PIPE if stdin else DEVNULL
        with suppress(NotStartedError):
            async with started(
                checked_words(argv), env=self._env, stdin=pipe, stderr=DEVNULL
            ) as process:
                feeding = asyncio.ensure_future(_feed(process, stdin))
                try:
                    while piece := await _output(process).read(CHUNK_BYTES):
                        yield piece
                    await process.wait()
                finally:
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)

    async def close(self) -> None:
        """Do nothing: there is no connection."""


class NotStartedError(Exception):
    """A program could not be started; says what a shell would have answered."""

    def __init__(self, words: Sequence[str], error: OSError) -> None:
        super().__init__(str(error))
        self.completed = not_started(words, error)


@asynccontextmanager
async def started(
    words: Sequence[str], *, env: Mapping[str, str] | None, stdin: int, stderr: int
) -> AsyncGenerator[Process]:
    """
    A process in a session of its own; whatever is left of it when the block ends is killed.

    Raises:
        NotStartedError: If the program cannot be started.
    """
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.subprocess_exec(
            lambda: SubprocessStreamProtocol(limit=CHUNK_BYTES, loop=loop),
            *words,
            stdin=stdin,
            stdout=PIPE,
            stderr=stderr,
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        raise NotStartedError(words, error) from error
    process = Process(transport, protocol, loop)
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        # Before waiting: a child of the command that left its group may hold the pipes open for
        # ever, and asyncio counts a process as ended only when its pipes are.
        transport.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _REAP_SECONDS)


async def _feed(process: Process, stdin: bytes | AsyncIterable[bytes]) -> None:
    """Send the input and close it. That the command does not want it is no error."""
    pipe = process.stdin
    if pipe is None:
        return
    async for piece in chunks_of(stdin):
        try:
            pipe.write(piece)
            await pipe.drain()
        except (BrokenPipeError, ConnectionResetError):
            return
    pipe.close()


async def _collect(process: Process) -> Completed:
    """Read both outputs to their ends, side by side, then the exit status."""
    stdout, stderr = _output(process), process.stderr
    assert stderr is not None  # noqa: S101 - both were asked for
    printed, said = await asyncio.gather(stdout.read(), stderr.read())
    return Completed(exit_status=status_of(await process.wait()), stdout=printed, stderr=said)


def _output(process: Process) -> asyncio.StreamReader:
    """The process's standard output, which is always a pipe."""
    assert process.stdout is not None  # noqa: S101
    return process.stdout
