"""Reading files that others may be writing."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.ports.store import ObjectBatch
from xmslurm_repro.snapshot.cache import NO_ID, Known, Stamp, stamp
from xmslurm_repro.store.hashing import Blake3Hasher

_WHOLE_BYTES = 4 * 1024 * 1024
"""Up to this size a file is read at once; larger ones are streamed."""
_CHUNK_BYTES = 1024 * 1024
# O_NONBLOCK: a FIFO that took a file's place must not make us wait for its writer.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class MovedError(Exception):
    """A file is not what it was a moment ago. For this package only: it is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentReader:
    """
    Reads files of a work tree into a batch.

    Attributes:
        root: Absolute path of the work tree.
        batch: Where the bytes go.
        advance: Told how many bytes were read.
    """

    root: bytes
    batch: ObjectBatch
    advance: Callable[[int], None]

    def read(self, path: bytes, expected: Stamp, *, hash_name: str | None) -> Known:
        """
        Keep the bytes of a file, or the text of a link.

        Args:
            path: From the root.
            expected: Its stamp when it was found.
            hash_name: ``sha1`` or ``sha256`` where git's id of the bytes is wanted.

        Raises:
            MovedError: If it changed, was replaced or went away before it was read whole.
            OSError: If it cannot be read.
        """
        place = os.path.join(self.root, path)
        try:
            if stat.S_ISLNK(expected.mode):
                digest, object_id = self._link(place, expected, hash_name)
            else:
                digest, object_id = self._file(place, expected, hash_name)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MovedError(path) from error
        self.advance(expected.size_bytes)
        return Known(*expected, bytes.fromhex(digest.hex), object_id)

    def is_still(self, path: bytes, known: Known) -> bool:
        """Whether the file, read once more, has the bytes and the stamp that it had."""
        place, hasher = os.path.join(self.root, path), Blake3Hasher()
        try:
            descriptor = self._open(place)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    hasher.update(chunk)
            is_same_file = stamp(os.lstat(place)) == known[:5]
        except (OSError, MovedError):
            return False
        return is_same_file and bytes.fromhex(hasher.digest().hex) == known.blake3

    def _link(self, place: bytes, expected: Stamp, hash_name: str | None) -> tuple[Digest, bytes]:
        try:
            target = os.readlink(place)  # noqa: PTH115 (a path of bytes)
        except OSError as error:
            # EINVAL: no link any more.
            raise MovedError(place) from error
        digest = self.batch.put(target)
        _check(place, expected, len(target))
        return digest, _object_id(hash_name, target)

    def _file(self, place: bytes, expected: Stamp, hash_name: str | None) -> tuple[Digest, bytes]:
        descriptor = self._open(place)
        try:
            # What was opened is what was found; that it still is when all is read, `_check` sees.
            if stamp(os.fstat(descriptor)) != expected:
                raise MovedError(place)
            if expected.size_bytes > _WHOLE_BYTES:
                digest, object_id, size = self._stream(descriptor, expected, hash_name)
                _check(place, expected, size)
                return digest, object_id
            data = _read_whole(descriptor, expected.size_bytes)
        finally:
            os.close(descriptor)
        digest = self.batch.put(data)
        _check(place, expected, len(data))
        return digest, _object_id(hash_name, data)

    def _open(self, place: bytes) -> int:
        try:
            return os.open(place, _FLAGS)
        except OSError as error:
            # ELOOP: a link took the file's place. ENXIO: a socket did.
            if not stat.S_ISREG(os.lstat(place).st_mode):
                raise MovedError(place) from error
            raise

    def _stream(
        self, descriptor: int, expected: Stamp, hash_name: str | None
    ) -> tuple[Digest, bytes, int]:
        with io.FileIO(descriptor, closefd=False) as raw, io.BufferedReader(raw) as file:
            digest, size = self.batch.put_stream(file)
            if hash_name is None:
                return digest, NO_ID, size
            file.seek(0)
            hasher = hashlib.new(hash_name, b"blob %d\0" % expected.size_bytes)
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
            return digest, hasher.digest().ljust(32, b"\0"), size


def _check(place: bytes, expected: Stamp, size: int) -> None:
    """What was read is what was found, if it is of that size and the stamp is still the same."""
    if size != expected.size_bytes or stamp(os.lstat(place)) != expected:
        raise MovedError(place)


def _read_whole(descriptor: int, size: int) -> bytes:
    """All that is there, and one byte more than expected where the file has grown."""
    data = os.read(descriptor, size + 1)
    while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
        data += more
    return data


def _object_id(hash_name: str | None, data: bytes) -> bytes:
    if hash_name is None:
        return NO_ID
    return hashlib.new(hash_name, b"blob %d\0%s" % (len(data), data)).digest().ljust(32, b"\0")
