"""The names of bytes: BLAKE3 for what is ours, SHA-256 for what is OCI's."""

from __future__ import annotations

from typing import Protocol

import blake3

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.store.blake3_names import blake3_hex

__all__ = [
    "Blake3Hasher",
    "Hasher",
    "Sha256Hasher",
    "blake3_digest",
    "blake3_hex",
    "sha256_digest",
]


class Hasher(Protocol):
    """Names bytes that come piece by piece."""

    @property
    def size_bytes(self) -> int:
        """How much has come so far."""
        ...

    def update(self, data: bytes | memoryview) -> None:
        """Append *data*."""
        ...

    def digest(self) -> Digest:
        """The name of all that has come so far. More may follow."""
        ...


def blake3_digest(data: bytes | memoryview) -> Digest:
    """Name *data* by its BLAKE3, as ``b3sum`` does."""
    return Digest.blake3(blake3.blake3(data).hexdigest())


def blake3_bytes(data: bytes | memoryview) -> bytes:
    """The 32 bytes of the BLAKE3 of *data*."""
    return blake3.blake3(data).digest()


def sha256_digest(data: bytes | memoryview) -> Digest:
    """Name *data* by its SHA-256, as ``sha256sum`` does."""
    import hashlib  # noqa: PLC0415 (costs 3 ms, and a capture needs none)

    return Digest.sha256(hashlib.sha256(data).hexdigest())


class Blake3Hasher:
    """A `Hasher` for BLAKE3."""

    __slots__ = ("_state", "size_bytes")

    def __init__(self) -> None:
        self._state = blake3.blake3()
        self.size_bytes = 0

    def update(self, data: bytes | memoryview) -> None:
        """Append *data*."""
        self._state.update(data)
        self.size_bytes += len(data)

    def digest(self) -> Digest:
        """The name of all that has come so far. More may follow."""
        return Digest.blake3(self._state.hexdigest())

    def raw(self) -> bytes:
        """The 32 bytes of that name."""
        return self._state.digest()


class Sha256Hasher:
    """A `Hasher` for SHA-256."""

    __slots__ = ("_state", "size_bytes")

    def __init__(self) -> None:
        import hashlib  # noqa: PLC0415 (costs 3 ms)

        self._state = hashlib.sha256()
        self.size_bytes = 0

    def update(self, data: bytes | memoryview) -> None:
        """Append *data*."""
        self._state.update(data)
        self.size_bytes += len(data)

    def digest(self) -> Digest:
        """The name of all that has come so far. More may follow."""
        return Digest.sha256(self._state.hexdigest())
