"""BLAKE3 alone, for those who have no time to import what `store.hashing` needs."""

from __future__ import annotations

import blake3


def blake3_hex(data: bytes | bytearray | memoryview) -> str:
    """The 64 digits of the BLAKE3 of *data*, for loops where a `Digest` each would cost."""
    return blake3.blake3(data).hexdigest()
