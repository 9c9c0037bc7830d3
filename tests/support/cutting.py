"""A line to a server that breaks where a test wants it to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Line:
    """
    A proxy on loopback. The connections that go through it share one count of bytes, both ways.

    Attributes:
        port: Where it listens.
        carried: How many bytes went through.
        cut_after: When so many have, every connection breaks; then the line is whole again.
    """

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.carried = 0
        self.cut_after: int | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._open += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                allowed = self._count(len(data))
                target.sendall(data[:allowed])
                if allowed < len(data):
                    self.cut()
                    return
            target.shutdown(socket.SHUT_WR)

    def _count(self, size: int) -> int:
        """How many of *size* bytes may pass before the line breaks."""
        with self._lock:
            allowed = size
            if self.cut_after is not None and self.carried + size > self.cut_after:
                allowed, self.cut_after = max(0, self.cut_after - self.carried), None
            self.carried += allowed
            return allowed

    def cut(self) -> None:
        """Break every connection, with a reset as a dead router's neighbour sends it."""
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def close(self) -> None:
        """End it."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


@contextmanager
def line_to(port: int) -> Iterator[Line]:
    """A line to a server on loopback."""
    line = Line(port)
    try:
        yield line
    finally:
        line.close()
