"""Reading files that others may be writing."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass

from xmslurm_repro.ports.store import ObjectBatch
from xmslurm_repro.snapshot.cache import NO_ID, Known, Stamp
from xmslurm_repro.snapshot.looking import STAMP
from xmslurm_repro.store.file_pieces import hash_file

# O_NONBLOCK: a FIFO that took a file's place must not make us wait for its writer.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = {errno.ELOOP, errno.ENXIO, errno.ENODEV}
"""What opening says of a link, a socket or a device that took a file's place."""


class MovedError(Exception):
    """A file is not what it was a moment ago. For this package only: it is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentReader:
    """
    Reads files of a work tree into a batch.

    Attributes:
        folder: The work tree, open.
        batch: Where the bytes go.
    """

    folder: int
    batch: ObjectBatch

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
        try:
            if stat.S_ISLNK(expected[4]):
                return self._link(path, expected, hash_name)
            descriptor = self._open(path)
            try:
                return self._file(descriptor, path, expected, hash_name)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MovedError(path) from error

    def is_still(self, path: bytes, known: Known) -> bool:
        """Whether the file, read once more, has the bytes and the stamp that it had."""
        try:
            descriptor = self._open(path)
            try:
                digest = hash_file(descriptor, known.size_bytes)
            finally:
                os.close(descriptor)
            found = os.stat(path, dir_fd=self.folder, follow_symlinks=False)
        except (OSError, MovedError):
            return False
        return STAMP(found) == known[:5] and digest == known.blake3

    def _link(self, path: bytes, expected: Stamp, hash_name: str | None) -> Known:
        try:
            target = os.readlink(path, dir_fd=self.folder)
        except OSError as error:
            # EINVAL: no link any more.
            raise MovedError(path) from error
        found = os.stat(path, dir_fd=self.folder, follow_symlinks=False)
        if len(target) != expected[2] or STAMP(found) != expected:
            raise MovedError(path)
        also = _named_by_git(hash_name, len(target))
        if also is not None:
            also.update(target)
        return Known(*expected, bytes.fromhex(self.batch.put(target).hex), _object_id(also))

    def _file(self, descriptor: int, path: bytes, expected: Stamp, hash_name: str | None) -> Known:
        size_bytes = expected[2]
        also = _named_by_git(hash_name, size_bytes) if hash_name else None
        try:
            digest, count = self.batch.put_file(descriptor, size_bytes, also)
        except BlockingIOError as error:
            # A FIFO took its place.
            raise MovedError(path) from error
        # What was opened is what was found, and it stayed so until all was read: whatever is
        # done to its bytes, its mode or its name changes the stamp.
        if count != size_bytes or STAMP(os.fstat(descriptor)) != expected:
            raise MovedError(path)
        return Known(*expected, digest, _object_id(also) if also else NO_ID)

    def _open(self, path: bytes) -> int:
        try:
            return os.open(path, _FLAGS, dir_fd=self.folder)
        except OSError as error:
            if error.errno in _NO_FILE:
                raise MovedError(path) from error
            raise


def _named_by_git(hash_name: str | None, size_bytes: int) -> hashlib._Hash | None:
    return hashlib.new(hash_name, b"blob %d\0" % size_bytes) if hash_name else None


def _object_id(hasher: hashlib._Hash | None) -> bytes:
    return hasher.digest().ljust(len(NO_ID), b"\0") if hasher else NO_ID
