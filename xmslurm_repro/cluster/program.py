"""Bash programs of ours, and how they reach a cluster and answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from functools import cache
from importlib.resources import files

from xmslurm_repro.errors import ClusterError
from xmslurm_repro.ports.transport import Completed, Transport

_BOOT = 'IFS= read -r -d "" program || exit 74; eval "$program"'
"""The program comes first on standard input, ended by NUL: it needs no quoting for the login
shell, whichever that is, and half a program is never run."""


@cache
def bash_text(name: str) -> str:
    """The text of our bash file *name*."""
    return files("xmslurm_repro.cluster").joinpath("bash", f"{name}.bash").read_text("utf-8")


def compose(*names: str) -> str:
    """One program of several of our bash files, in order."""
    return "\n".join(bash_text(name) for name in names)


def inline_argv(program: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs *program* where standard input is not ours to use."""
    return ("bash", "--norc", "--noprofile", "-c", program, "xmslurm", *arguments)


async def run_program(
    transport: Transport,
    program: str,
    *arguments: str,
    payload: bytes | AsyncIterable[bytes] = b"",
    timeout_seconds: float | None = 120,
) -> Completed:
    """
    Run *program* with *payload* on its standard input.

    Raises:
        ConnectionLostError: As `Transport.run`.
        ClusterError: If there is no bash to run it.
    """
    head = program.encode("utf-8") + b"\0"
    stdin: bytes | AsyncIterable[bytes]
    stdin = head + payload if isinstance(payload, bytes) else _chain(head, payload)
    done = await transport.run(
        ("bash", "--norc", "--noprofile", "-c", _BOOT, "xmslurm", *arguments),
        stdin=stdin,
        timeout_seconds=timeout_seconds,
    )
    if done.exit_status in {126, 127}:
        raise ClusterError(
            f"{transport.description} could not run our program with `bash`",
            hint="Check that `bash` is on the path of those who log in there.",
            details=readable_lines(done.stderr or done.stdout),
        )
    return done


async def stream_program(
    transport: Transport, program: str, *arguments: str, payload: bytes = b""
) -> AsyncGenerator[bytes]:
    """
    Run *program* with *payload* on its standard input; yield what it prints as it comes.

    Closing it is what ends the program.

    Raises:
        ConnectionLostError: As `Transport.stream`.
    """
    stream = transport.stream(
        ("bash", "--norc", "--noprofile", "-c", _BOOT, "xmslurm", *arguments),
        stdin=program.encode("utf-8") + b"\0" + payload,
    )
    try:
        async for piece in stream:
            yield piece
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


async def _chain(head: bytes, rest: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for chunk in rest:
        yield chunk


def readable_lines(output: bytes, *, limit: int = 20) -> tuple[str, ...]:
    """The last lines of *output*, for the details of an error."""
    lines = output.decode("utf-8", "replace").splitlines()
    return tuple(line for line in lines if line.strip())[-limit:]
