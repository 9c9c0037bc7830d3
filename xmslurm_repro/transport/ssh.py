"""
Commands on a host at the end of an SSH connection.

Importing this costs little: asyncssh is imported when the first connection is made. What is said
to it lies in `ssh_login` (who we are, who the host is) and `ssh_link` (what the host shall do).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from xmslurm_repro.errors import ConnectionLostError
from xmslurm_repro.ports.transport import Completed
from xmslurm_repro.transport.words import (
    AfterMark,
    checked_words,
    chunks_of,
    converse,
    remote_line,
    timed_out,
)

if TYPE_CHECKING:
    from xmslurm_repro.transport.ssh_link import Channel, Link

# sshd serves ten sessions of one connection by default (MaxSessions); from eight at once on, some
# were refused when measured, with four none.
MAX_CHANNELS = 4

# How long a command that was told to end may take to be gone before we stop waiting for it.
_END_SECONDS = 1


class Prompt(Protocol):
    """Asks the person: for a password, a code from their phone, whatever the host wants."""

    async def __call__(self, text: str, *, is_secret: bool) -> str | None:
        """Show *text* and return the answer; ``None`` gives up. A secret is not echoed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SshEndpoint:
    """
    A login node, and how to get in. What is not said here is as ssh_config(5) files say.

    Attributes:
        host: Its name, or an alias in a configuration file.
        user: Who to be.
        port: Where it listens.
        config_files: The ssh_config(5) files to read; none means ``~/.ssh/config``.
        proxy_jump: Hosts to go through, in this order, as ProxyJump names them; none means those
            that the configuration names.
        known_hosts: A file of host keys; ``None`` means those that the configuration names,
            ``~/.ssh/known_hosts`` by default, and ``/etc/ssh/ssh_known_hosts``.
        host_key: The one key that the host must have, as a line of a public key file; then
            *known_hosts* is not asked. Hosts on the way (ProxyJump) are not concerned.
        identity_files: Private keys; none means those that the configuration names, by default
            the usual ones in ``~/.ssh``.
        agent_socket: Where the agent listens (``SSH_AUTH_SOCK``); the configuration's
            ``IdentityAgent`` wins.
        prompt: Asked for passwords and codes; without it the host's questions end the login.
        keepalive_seconds: A host that has said nothing for so long is asked for a sign of life;
            three unanswered questions end the connection.
        connect_timeout_seconds: For the whole login, less the time that a person takes to answer.
    """

    host: str
    user: str | None = None
    port: int | None = None
    config_files: tuple[str, ...] = ()
    proxy_jump: tuple[str, ...] = ()
    known_hosts: str | None = None
    host_key: str | None = None
    identity_files: tuple[str, ...] = ()
    agent_socket: str | None = None
    prompt: Prompt | None = None
    keepalive_seconds: float = 15
    connect_timeout_seconds: float = 30

    def __str__(self) -> str:
        """For people: ``alice@login.example:2222``."""
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port not in (None, 22) else ""
        return f"{user}{self.host}{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """
    The key that a host shows, and whether anything here vouches for it.

    Attributes:
        line: As a public key file has it: kind and key.
        fingerprint: Of the key, as ``ssh-keygen -l`` prints it.
        trust: ``known``; ``unknown``: nothing is known of the host; ``changed``: another key is
            known, or this one was revoked.
    """

    line: str
    fingerprint: str
    trust: str


async def read_host_key(endpoint: SshEndpoint) -> HostKey:
    """
    Ask a host for its key. Nobody logs in, but to the hosts on the way.

    Raises:
        ConnectionLostError: If it cannot be reached.
        HostKeyError: If a host on the way is not who it should be.
        ConfigError: If a configuration file cannot be read.
    """
    from xmslurm_repro.transport.ssh_login import ask_host_key  # noqa: PLC0415

    return await ask_host_key(endpoint)


@dataclass(slots=True)
class _Lanes:
    """The connection of one event loop: asyncio's objects are of no use in another."""

    loop: asyncio.AbstractEventLoop
    slots: asyncio.Semaphore
    connecting: asyncio.Lock = field(default_factory=asyncio.Lock)
    link: Link | None = None


class SshTransport:
    """
    Runs commands over one connection to the first of *endpoints* that lets us in.

    The login shell there may be any, and may print what it likes: commands get their words to
    the byte, and only what they print themselves comes back on standard output.

    Args:
        endpoints: Login nodes of one cluster, in the order in which to try them. A later one is
            tried only while nothing has been sent; a wrong host key ends the search.
        max_channels: How many commands may run at once; the others wait.
    """

    def __init__(self, *endpoints: SshEndpoint, max_channels: int = MAX_CHANNELS) -> None:
        if not endpoints:
            raise ValueError("an SSH transport has at least one endpoint")
        self._endpoints = endpoints
        self._max_channels = max_channels
        self._current: _Lanes | None = None

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
        was_sent = False
        try:
            async with asyncio.timeout(timeout_seconds) as deadline:
                async with self._started(words) as channel:
                    was_sent = True
                    return await converse(_feed(channel, stdin), self._hear(words, channel))
        except TimeoutError as error:
            if timeout_seconds is None or not deadline.expired():
                raise
            raise timed_out(
                self.description, words, timeout_seconds, may_have_run=was_sent
            ) from error

    async def stream(self, argv: Sequence[str], *, stdin: bytes = b"") -> AsyncIterator[bytes]:
        """Yield what *argv* prints as it comes; closing the iterator ends it."""
        words = checked_words(argv)
        async with self._started(words) as channel:
            channel.keep_errors = False
            feeding = asyncio.ensure_future(_feed(channel, stdin))
            try:
                async for piece in _printed(channel):
                    yield piece
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            self._status(words, channel)

    async def close(self) -> None:
        """Close the connection. Idempotent; `run` would open a new one."""
        lanes, self._current = self._current, None
        if lanes is not None and lanes.link is not None:
            await lanes.link.close()

    async def _hear(self, words: Sequence[str], channel: Channel) -> Completed:
        printed = b"".join([piece async for piece in _printed(channel)])
        status = self._status(words, channel)
        return Completed(exit_status=status, stdout=printed, stderr=bytes(channel.stderr))

    def _status(self, words: Sequence[str], channel: Channel) -> int:
        """
        The exit status of a command whose channel is closed.

        Raises:
            ConnectionLostError: If the host never told it. asyncssh itself reports a cut
                connection as an ordinary end without a status.
        """
        if channel.exit_status is None:
            raise ConnectionLostError(
                f"the connection to {self.description} was lost while `{words[0]}` ran"
                + (f": {channel.loss}" if channel.loss else ""),
                hint="What was begun there may go on. Try again when the host can be reached.",
                may_have_run=True,
            )
        return channel.exit_status

    @asynccontextmanager
    async def _started(self, words: Sequence[str]) -> AsyncGenerator[Channel]:
        """A channel on which the command was sent; what runs when the block ends is killed."""
        line = remote_line(words)
        lanes = self._lanes()
        async with lanes.slots:
            channel = await self._send(lanes, words, line)
            try:
                yield channel
            finally:
                channel.kill()
                with suppress(TimeoutError):
                    await asyncio.wait_for(channel.wait_closed(), _END_SECONDS)

    async def _send(self, lanes: _Lanes, words: Sequence[str], line: str) -> Channel:
        """
        Send the command: once. Over a new connection, if the old one broke while it was idle.

        Raises:
            ConnectionLostError: `may_have_run` is true only if the request may have left.
        """
        from xmslurm_repro.transport.ssh_link import NotSentError, SentError  # noqa: PLC0415

        for may_reconnect in (True, False):
            link, is_fresh = await self._link(lanes)
            try:
                return await link.start(line)
            except NotSentError as error:
                if may_reconnect and not is_fresh and not link.is_alive:
                    continue
                raise ConnectionLostError(
                    f"`{words[0]}` could not be sent to {self.description}: {error}",
                    may_have_run=False,
                ) from error
            except SentError as error:
                raise ConnectionLostError(
                    f"the connection to {self.description} was lost"
                    f" while `{words[0]}` was sent: {error}",
                    may_have_run=True,
                ) from error
        raise AssertionError("the second round returns or raises")

    async def _link(self, lanes: _Lanes) -> tuple[Link, bool]:
        """The connection, and whether it was made just now."""
        async with lanes.connecting:
            if lanes.link is not None and lanes.link.is_alive:
                return lanes.link, False
            from xmslurm_repro.transport.ssh_login import log_in  # noqa: PLC0415

            lanes.link = await log_in(self._endpoints)
            return lanes.link, True

    def _lanes(self) -> _Lanes:
        loop = asyncio.get_running_loop()
        if self._current is None or self._current.loop is not loop:
            self._current = _Lanes(loop, asyncio.Semaphore(self._max_channels))
        return self._current


async def _feed(channel: Channel, stdin: bytes | AsyncIterable[bytes]) -> None:
    """Send the input and its end. That the command does not want it is no error."""
    try:
        async for chunk in chunks_of(stdin):
            await channel.write(chunk)
        channel.write_eof()
    except BrokenPipeError:
        return


async def _printed(channel: Channel) -> AsyncIterator[bytes]:
    """What the command itself prints, without what its login shell printed before."""
    after = AfterMark()
    while piece := await channel.read():
        if wanted := after.feed(piece):
            yield wanted
    if not after.was_seen and (rest := after.rest()):
        yield rest
