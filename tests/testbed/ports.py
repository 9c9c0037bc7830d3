"""Free port ranges on loopback, also when several test beds start at the same moment."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

FIRST, LAST = 23000, 29999
BLOCK = 20


@contextmanager
def port_block() -> Iterator[range]:
    """
    `BLOCK` ports that nobody listens on, claimed until the block of code ends.

    The claim is a file lock, which the kernel drops if we die; it only has to hold until the
    servers listen, since a block is free only when every port of it is.
    """
    folder = os.path.join(tempfile.gettempdir(), "xstestbed-ports")
    os.makedirs(folder, exist_ok=True)
    for base in range(FIRST, LAST + 1 - BLOCK, BLOCK):
        block = range(base, base + BLOCK)
        with open(os.path.join(folder, str(base)), "w") as claim:
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if all(map(is_free, block)):
                yield block
                return
    raise RuntimeError(f"no {BLOCK} free ports in a row between {FIRST} and {LAST}")


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier test bed in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Whether somebody listens there now."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
