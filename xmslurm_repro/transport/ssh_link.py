"""
One SSH connection that is logged in, and the commands that run over it, as asyncssh has them.

Only `ssh` imports this, when it needs a connection.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress

import asyncssh

# It tells of every connection and channel, and launch scripts show what is worth telling.
asyncssh.set_log_level("WARNING")

# Waits between attempts to open a channel that the host refused for the moment: MaxSessions may
# be lower than ours, or shared with others over one master connection.
_REFUSED_WAITS_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_MOMENTARY = (asyncssh.OPEN_CONNECT_FAILED, asyncssh.OPEN_RESOURCE_SHORTAGE)

# What may wait to be read before the host is told to wait, and to be sent before we do.
_BUFFER_BYTES = 4 * 1024 * 1024

_CLOSE_SECONDS = 5

# For a signal that has no number here: the status that `signal` names cannot give.
_UNKNOWN_SIGNAL_STATUS = 255


class NotSentError(Exception):
    """The command was not sent: it has not run and will not."""


class SentError(Exception):
    """The connection broke after the command had been sent, before the host agreed to run it."""


class Channel(asyncssh.SSHClientSession[bytes]):
    """
    A command that runs on the host.

    Attributes:
        stderr: What it has said so far, unless *keep_errors* was set to false.
        exit_status: Set when the host told it; 128 + n for signal n.
        loss: Why the channel was closed, if that was not the host's wish.
    """

    def __init__(self) -> None:
        self.stderr = bytearray()
        self.keep_errors = True
        self.exit_status: int | None = None
        self.loss: Exception | None = None
        self.was_opened = False
        self.is_abandoned = False
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._pieces: list[bytes] = []
        self._unread_bytes = 0
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()

    # --- for the transport ---------------------------------------------------------------------

    async def read(self) -> bytes:
        """What it printed since the last time, at least a byte; nothing at its end."""
        while not self._pieces and not self._closed.is_set():
            self._readable.clear()
            await self._readable.wait()
        pieces, self._pieces, self._unread_bytes = self._pieces, [], 0
        if self._channel is not None and not self._closed.is_set():
            self._channel.resume_reading()
        return b"".join(pieces)

    async def write(self, data: bytes | memoryview) -> None:
        """
        Send a part of the input, when there is room for it.

        Raises:
            BrokenPipeError: If the command takes no more.
        """
        await self._writable.wait()
        self._open_channel().write(bytes(data))
        # The loop runs other tasks also where there is always room.
        await asyncio.sleep(0)

    def write_eof(self) -> None:
        """End the input."""
        self._open_channel().write_eof()

    def kill(self) -> None:
        """Kill the command and what it started in its process group, if it still runs."""
        if self._channel is None or self._closed.is_set():
            return
        if self.exit_status is None:
            # sshd before 7.9 does not know the request and ignores it; then the closed channel
            # has to do.
            with suppress(OSError):
                self._channel.kill()
        self._channel.close()

    async def wait_closed(self) -> None:
        """Wait until the channel is no more."""
        await self._closed.wait()

    def _open_channel(self) -> asyncssh.SSHClientChannel[bytes]:
        if self._channel is None or self._closed.is_set():
            raise BrokenPipeError("the channel is closed")
        return self._channel

    # --- for asyncssh --------------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The channel is open; the request to run the command follows at once."""
        self._channel = chan
        chan.set_write_buffer_limits(high=_BUFFER_BYTES)
        if self.is_abandoned:
            chan.close()
            raise NotSentError("nobody waits for it any more")
        self.was_opened = True

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Something was printed."""
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            if self.keep_errors:
                self.stderr += data
            return
        self._pieces.append(data)
        self._unread_bytes += len(data)
        self._readable.set()
        if self._unread_bytes > _BUFFER_BYTES and self._channel is not None:
            self._channel.pause_reading()

    def eof_received(self) -> bool:
        """No more will be printed; our side stays open until the status is known."""
        return True

    def exit_status_received(self, status: int) -> None:
        """It ended by itself."""
        self.exit_status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """It was killed."""
        del core_dumped, msg, lang
        self.exit_status = _status_of_signal(signal)

    def pause_writing(self) -> None:
        """The host takes no more for the moment."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed, for whatever reason."""
        self.loss = exc
        self._closed.set()
        self._readable.set()
        self._writable.set()


def _status_of_signal(name: str) -> int:
    """128 + n for the signal that RFC 4254 (6.10) calls *name*, without ``SIG``."""
    try:
        return 128 + signal.Signals[f"SIG{name}"].value
    except KeyError:
        return _UNKNOWN_SIGNAL_STATUS


class Link:
    """A connection, and the connections through which it goes, outermost first."""

    def __init__(self, connections: Sequence[asyncssh.SSHClientConnection]) -> None:
        self._connections = tuple(connections)
        self._last = connections[-1]

    @property
    def is_alive(self) -> bool:
        """Whether it is open, as far as anybody has noticed."""
        return not self._last.is_closed()

    async def start(self, line: str) -> Channel:
        """
        Let the host's login shell run *line*; a refusal for the moment is waited out.

        Raises:
            NotSentError: If it was not sent.
            SentError: If it may have been.
        """
        for wait_seconds in _REFUSED_WAITS_SECONDS:
            try:
                return await self._open(line)
            except asyncssh.ChannelOpenError as error:
                if error.code not in _MOMENTARY or not self.is_alive:
                    raise NotSentError(error.reason) from error
            await asyncio.sleep(wait_seconds)
        try:
            return await self._open(line)
        except asyncssh.ChannelOpenError as error:
            raise NotSentError(f"the host refuses another session: {error.reason}") from error

    async def _open(self, line: str) -> Channel:
        channel = Channel()
        opening = asyncio.ensure_future(self._create(channel, line))
        try:
            # Shielded: asyncssh would forget a channel that opens after nobody waits for it, and
            # it would count against MaxSessions as long as the connection lives.
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            channel.is_abandoned = True
            channel.kill()
            opening.add_done_callback(_look_at)
            raise
        except asyncssh.ChannelOpenError as error:
            # "The connection was closed" comes in the same clothes as "I will not".
            if channel.was_opened and not self.is_alive:
                raise SentError(error.reason) from error
            raise
        except (asyncssh.Error, OSError) as error:
            kind = SentError if channel.was_opened else NotSentError
            raise kind(str(error)) from error
        return channel

    async def _create(self, channel: Channel, line: str) -> None:
        # Nothing of our own environment, and no terminal, whatever the configuration says.
        await self._last.create_session(
            lambda: channel, line, env={}, send_env=None, request_pty=False, encoding=None
        )
        if channel.is_abandoned:
            channel.kill()

    async def close(self) -> None:
        """Close the connections, innermost first."""
        for connection in reversed(self._connections):
            connection.close()
            try:
                await asyncio.wait_for(connection.wait_closed(), _CLOSE_SECONDS)
            except TimeoutError:
                connection.abort()


def _look_at(opening: asyncio.Future[None]) -> None:
    """Take notice of how it ended, so that asyncio does not complain that nobody did."""
    if not opening.cancelled():
        opening.exception()
