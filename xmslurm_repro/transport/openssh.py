"""
Commands on a host by way of the system's ``ssh`` program.

For sites where a person logs in by hand, once, and programs have to use that very connection
(``ControlMaster`` in ssh_config(5)); and for whatever asyncssh cannot do and OpenSSH can.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, suppress
from typing import BinaryIO

from xmslurm_repro.errors import ConfigError, ConnectionLostError, HostKeyError, ReproError
from xmslurm_repro.ports.transport import Completed
from xmslurm_repro.transport.local import NotStartedError, started
from xmslurm_repro.transport.ssh import MAX_CHANNELS, SshEndpoint
from xmslurm_repro.transport.words import (
    CHUNK_BYTES,
    AfterMark,
    checked_words,
    chunks_of,
    converse,
    remote_line,
    timed_out,
)

# The command starts only when we have said that we know of its shell: an `ssh` that ends before
# has run nothing, whatever its exit status. The shell stays, to tell the command's status apart
# from that of `ssh`, which is 255 for troubles of its own. `read` takes one line and no byte more
# (POSIX); the subshell makes programs of words that are builtins.
_RUN = 'echo $$;read -r go&&(exec "$@");s=$?;echo xmslurm-repro-end $s>&2;exit $s'
_GO = b"go\n"
_END = re.compile(rb"xmslurm-repro-end (\d+)\n")

_HOST_KEY_WORDS = (
    b"Host key verification failed",
    b"REMOTE HOST IDENTIFICATION HAS CHANGED",
    b"host key is known for",
)

_KILL_SECONDS = 10


class _NoLoginError(ConnectionLostError):
    """An endpoint did not let us in; nothing was sent."""


class OpenSshTransport:
    """
    Runs each command by an ``ssh`` process of its own, as the user's configuration says.

    It never asks anything (``BatchMode``), and host keys have to be known
    (``StrictHostKeyChecking yes``); only a master connection that is already there is taken as
    it is. A command is killed by a second ``ssh``, since OpenSSH's client cannot.

    Args:
        endpoints: Where to, in the order in which to try them: a later one when a login fails,
            and then for as long as it lets us in. A wrong host key ends the search. `prompt` and
            `agent_socket` are not used: ``ssh`` has its own.
        program: The ``ssh`` program.
        env: The environment of ``ssh``; ``None`` lets it inherit ours.
    """

    def __init__(
        self, *endpoints: SshEndpoint, program: str = "ssh", env: Mapping[str, str] | None = None
    ) -> None:
        if not endpoints:
            raise ValueError("an SSH transport has at least one endpoint")
        self._endpoints = endpoints
        self._first = 0
        self._program = program
        self._env = None if env is None else dict(env)
        self._slots: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None

    @property
    def description(self) -> str:
        """The host, for people."""
        return str(self._endpoints[0])

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | AsyncIterable[bytes] = b"",
        timeout_seconds: float | None = None,
    ) -> Completed:
        """Run *argv* and wait for its end; see `ports.transport.Transport`."""
        words = checked_words(argv)
        calls: list[_Call] = []
        search = _Search(self._endpoints, self._first)
        try:
            async with asyncio.timeout(timeout_seconds) as deadline:
                while True:
                    try:
                        done = await self._run(search.endpoint, words, stdin, calls)
                    except _NoLoginError as error:
                        search.go_on(error)
                    else:
                        self._first = search.position
                        return done
        except TimeoutError as error:
            if timeout_seconds is None or not deadline.expired():
                raise
            may_have_run = bool(calls) and calls[-1].was_sent
            raise timed_out(
                self.description, words, timeout_seconds, may_have_run=may_have_run
            ) from error

    async def _run(
        self,
        endpoint: SshEndpoint,
        words: Sequence[str],
        stdin: bytes | AsyncIterable[bytes],
        calls: list[_Call],
    ) -> Completed:
        async with self._called(endpoint, words) as call:
            calls.append(call)
            pieces: list[bytes] = []
            await converse(call.feed(stdin), call.hear(pieces.append))
            return _completed(endpoint, words, call, b"".join(pieces))

    async def stream(self, argv: Sequence[str], *, stdin: bytes = b"") -> AsyncIterator[bytes]:
        """Yield what *argv* prints as it comes; closing the iterator ends it."""
        words = checked_words(argv)
        search = _Search(self._endpoints, self._first)
        while True:
            try:
                # Nothing is yielded where nobody was let in. Closing this one closes that one.
                async with aclosing(self._stream(search.endpoint, words, stdin)) as pieces:
                    async for piece in pieces:
                        self._first = search.position
                        yield piece
            except _NoLoginError as error:
                search.go_on(error)
            else:
                return

    async def _stream(
        self, endpoint: SshEndpoint, words: Sequence[str], stdin: bytes
    ) -> AsyncGenerator[bytes]:
        async with self._called(endpoint, words) as call:
            feeding = asyncio.ensure_future(call.feed(stdin))
            try:
                async for piece in call.printed():
                    yield piece
                _completed(endpoint, words, call, b"")
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)

    async def close(self) -> None:
        """Do nothing: whose connection it is, OpenSSH knows."""

    @asynccontextmanager
    async def _called(self, endpoint: SshEndpoint, words: Sequence[str]) -> AsyncGenerator[_Call]:
        """An ``ssh`` that runs the command; what is left of both when the block ends is killed."""
        argv = (*_ssh_words(self._program, endpoint), remote_line(words, _RUN))
        # A file, not a pipe: a master connection that `ssh` leaves behind holds it open.
        async with self._slot():
            with tempfile.TemporaryFile() as errors:
                async with self._process(argv, errors.fileno()) as process:
                    call = _Call(process, errors)
                    try:
                        yield call
                    finally:
                        if call.is_running:
                            await asyncio.shield(self._kill(endpoint, call.remote_pid))

    @asynccontextmanager
    async def _process(self, argv: Sequence[str], stderr: int) -> AsyncGenerator[Process]:
        try:
            async with started(argv, env=self._env, stdin=PIPE, stderr=stderr) as process:
                yield process
        except NotStartedError as error:
            raise ConfigError(
                f"cannot run `{self._program}`: {error}",
                hint="Install the OpenSSH client, or choose the transport `ssh`.",
            ) from error

    def _slot(self) -> asyncio.Semaphore:
        """
        Room for one more command.

        Without a master connection each logs in by itself, and sshd refuses some of those that
        do so while ten others are at it (``MaxStartups``); with one, MaxSessions holds.
        """
        loop = asyncio.get_running_loop()
        if self._slots is None or self._slots[0] is not loop:
            self._slots = (loop, asyncio.Semaphore(MAX_CHANNELS))
        return self._slots[1]

    async def _kill(self, endpoint: SshEndpoint, remote_pid: str) -> None:
        """Kill the process group of a command. sshd made one for it."""
        line = f"exec /bin/kill -KILL -- -{remote_pid}"
        with suppress(TimeoutError, NotStartedError):
            async with asyncio.timeout(_KILL_SECONDS):
                async with started(
                    (*_ssh_words(self._program, endpoint), line),
                    env=self._env,
                    stdin=DEVNULL,
                    stderr=DEVNULL,
                ) as process:
                    await process.wait()


class _Search:
    """The search of one command for an endpoint that lets us in, from position *first* on."""

    def __init__(self, endpoints: Sequence[SshEndpoint], first: int) -> None:
        self._endpoints = endpoints
        self._failures: list[_NoLoginError] = []
        self.position = first

    @property
    def endpoint(self) -> SshEndpoint:
        """The one to try."""
        return self._endpoints[self.position]

    def go_on(self, error: _NoLoginError) -> None:
        """
        Turn to the next one.

        Raises:
            ConnectionLostError: If all were tried.
        """
        self._failures.append(error)
        if len(self._failures) < len(self._endpoints):
            self.position = (self.position + 1) % len(self._endpoints)
            return
        if len(self._endpoints) == 1:
            raise error
        raise ConnectionLostError(
            "cannot log in: none of its endpoints answers as it should",
            hint="Try `ssh` to each by hand; it must not ask for anything.",
            details=[failure.message for failure in self._failures],
            may_have_run=False,
        )


class _Call:
    """One ``ssh`` process and the command at its end."""

    def __init__(self, process: Process, errors: BinaryIO) -> None:
        self._process = process
        self._errors = errors
        self._after = AfterMark()
        self._begun = asyncio.Event()
        self.remote_pid = ""
        self.was_sent = False

    @property
    def is_running(self) -> bool:
        """Whether the command was begun, and ``ssh`` has not ended."""
        return self.was_sent and self._process.returncode is None

    @property
    def exit_status(self) -> int:
        """That of ``ssh``."""
        assert self._process.returncode is not None  # noqa: S101 - asked for after its end
        return self._process.returncode

    async def feed(self, stdin: bytes | AsyncIterable[bytes]) -> None:
        """When the command's shell waits for it, let it begin; then send the input."""
        await self._begun.wait()
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - it was asked for
        self.was_sent = True
        try:
            pipe.write(_GO)
            async for chunk in chunks_of(stdin):
                pipe.write(chunk)
                await pipe.drain()
        except (BrokenPipeError, ConnectionResetError):
            return
        pipe.close()

    async def hear(self, keep: Callable[[bytes], None]) -> None:
        """Give *keep* what the command prints."""
        async for piece in self.printed():
            keep(piece)

    async def printed(self) -> AsyncIterator[bytes]:
        """What the command prints; ``ssh`` has ended after it."""
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it was asked for
        head = b""
        while piece := await stdout.read(CHUNK_BYTES):
            wanted = self._after.feed(piece)
            if not self._begun.is_set():
                head += wanted
                pid, line_end, wanted = head.partition(b"\n")
                if not line_end:
                    continue
                self.remote_pid = pid.decode()
                self._begun.set()
            if wanted:
                yield wanted
        if not self._begun.is_set() and (rest := self._after.rest()):
            yield rest
        await self._process.wait()

    def said(self) -> tuple[bytes, int | None]:
        """What was said on the standard error, and the command's status if it came."""
        self._errors.seek(0)
        said = self._errors.read()
        ends = list(_END.finditer(said))
        if not ends:
            return said, None
        last = ends[-1]
        return said[: last.start()] + said[last.end() :], int(last[1])


def _completed(
    endpoint: SshEndpoint, words: Sequence[str], call: _Call, printed: bytes
) -> Completed:
    """How the command ended, when ``ssh`` has."""
    said, end = call.said()
    if end is not None:
        return Completed(exit_status=end, stdout=printed, stderr=said)
    if call.was_sent:
        raise ConnectionLostError(
            f"the connection to {endpoint} was lost while `{words[0]}` ran",
            hint="What was begun there may go on. Try again when the host can be reached.",
            may_have_run=True,
            details=_lines(said),
        )
    if call.exit_status != 255:
        # The host let us in and did not run it: an account without a shell, say.
        return Completed(exit_status=call.exit_status, stdout=printed, stderr=said)
    raise _refused(endpoint, said)


def _refused(endpoint: SshEndpoint, said: bytes) -> ReproError:
    lines = _lines(said)
    if any(text in said for text in _HOST_KEY_WORDS):
        return HostKeyError(
            f"the host key of {endpoint} is unknown or not the trusted one",
            hint="Compare it with the one that the site publishes, then accept it by `ssh`.",
            details=lines,
        )
    reason = f": {lines[-1]}" if lines else ""
    return _NoLoginError(
        f"cannot log in to {endpoint}{reason}",
        hint=f"Try `ssh {endpoint.host}` by hand; it must not ask for anything.",
        may_have_run=False,
        details=lines[:-1],
    )


def _ssh_words(program: str, end: SshEndpoint) -> tuple[str, ...]:
    if len(end.config_files) > 1:
        raise ConfigError(
            f"`ssh` takes one configuration file, not {len(end.config_files)}",
            hint="Name one that has `Include` lines for the others.",
        )
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": f"{max(1, round(end.connect_timeout_seconds))}",
        "ServerAliveInterval": f"{max(1, round(end.keepalive_seconds))}",
        "ServerAliveCountMax": "3",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "RequestTTY": "no",
        "RemoteCommand": "none",
        "LogLevel": "ERROR",
    }
    if end.user is not None:
        options["User"] = end.user
    if end.port is not None:
        options["Port"] = str(end.port)
    if end.proxy_jump:
        options["ProxyJump"] = ",".join(end.proxy_jump)
    if end.host_key is not None or end.known_hosts is not None:
        options["UserKnownHostsFile"] = end.known_hosts or "/dev/null"
        options["GlobalKnownHostsFile"] = "/dev/null"
    if end.host_key is not None:
        options["KnownHostsCommand"] = f"/bin/echo * {_key_words(end.host_key)}"
    files = [word for path in end.config_files for word in ("-F", path)]
    keys = [word for path in end.identity_files for word in ("-i", path)]
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return (program, *files, *keys, *given, "--", end.host)


def _key_words(line: str) -> str:
    """Kind and key of a line of a public key file or of known_hosts(5)."""
    found = re.search(r"(?:^|\s)((?:ssh|ecdsa|sk)-\S+ [A-Za-z0-9+/=]+)", line)
    if found is None:
        raise ConfigError(
            f"the pinned host key is no public key: {line!r}",
            hint="It looks like `ssh-ed25519 AAAA…`; `ssh-keyscan` prints it.",
        )
    return found[1]


def _lines(said: bytes) -> list[str]:
    """What ``ssh`` said, as details of an error."""
    return [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
