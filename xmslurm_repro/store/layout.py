"""Blobs and image names on disk, as an OCI image layout that skopeo and podman read without us.

The format is image-spec v1.0, ``image-layout.md``: ``oci-layout``, ``index.json`` (whose
``org.opencontainers.image.ref.name`` annotations are our names) and ``blobs/sha256/<hex>``.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from xmslurm_repro.errors import DigestMismatchError, MissingObjectError, StoreError
from xmslurm_repro.model.canonical import Json, canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import MEDIA_TYPE_INDEX, Descriptor
from xmslurm_repro.model.reader import Reader

REF_ANNOTATION = "org.opencontainers.image.ref.name"
_VERSION = canonical_json({"imageLayoutVersion": "1.0.0"})
_BUFFER = 1 << 20


class DiskBlobStore:
    """
    An OCI image layout in a folder; nothing is made there before something is written.

    Files appear whole or not at all: written under ``ingest``, synced, renamed. What a killed
    process left in ``ingest`` is cleared away by the next one that writes.
    """

    def __init__(self, root: Path) -> None:
        """Use the folder *root*."""
        self._root = root
        self._blobs = root / "blobs" / "sha256"
        self._ingest = root / "ingest"
        self._prepared = False

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        if digest.algorithm != "sha256":
            raise ValueError(f"blobs go by SHA-256, not by {digest}")
        return self._blobs / digest.hex

    @contextmanager
    def writer(self) -> Iterator[DiskBlobWriter]:
        """Begin a blob; see `ports.store.BlobStore`."""
        with _store_errors(self._root):
            self._prepare()
            with self._locked():
                descriptor, name = tempfile.mkstemp(dir=self._ingest)
                # Held until the end, so that nobody takes it for a leftover.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            stream = os.fdopen(descriptor, "wb", buffering=_BUFFER)
        try:
            yield DiskBlobWriter(stream, Path(name), self.path)
        finally:
            with _store_errors(self._root):
                with suppress(FileNotFoundError):
                    os.unlink(name)
                stream.close()

    def put(self, data: bytes) -> Digest:
        """Keep a small blob. Idempotent."""
        digest = Digest.sha256(hashlib.sha256(data).hexdigest())
        if self.has(digest) and self._is_whole(digest):
            return digest
        with self.writer() as writer:
            writer.write(data)
            writer.commit(expected=digest)
        return digest

    def has(self, digest: Digest) -> bool:
        """Whether the blob is here."""
        return self.path(digest).is_file()

    def get(self, digest: Digest) -> bytes:
        """A small blob's bytes, verified."""
        with self.open(digest) as stream:
            data = stream.read()
        got = hashlib.sha256(data).hexdigest()
        if got != digest.hex:
            raise DigestMismatchError(
                str(self.path(digest)), want=str(digest), got=f"sha256:{got}", size_bytes=len(data)
            )
        return data

    def open(self, digest: Digest) -> BinaryIO:
        """A seekable stream of the blob's bytes, not verified."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError as error:
            raise MissingObjectError(str(digest)) from error
        except OSError as error:
            raise _store_error(self._root, error) from error

    def size_bytes(self, digest: Digest) -> int:
        """The blob's size."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as error:
            raise MissingObjectError(str(digest)) from error

    def digests(self) -> Iterator[Digest]:
        """The name of every blob, in order."""
        try:
            names = sorted(entry.name for entry in os.scandir(self._blobs))
        except FileNotFoundError:
            return
        for name in names:
            with suppress(ValueError):
                yield Digest.sha256(name)

    def ref(self, name: str) -> Descriptor | None:
        """The image manifest that *name* names."""
        return self.refs().get(name)

    def set_ref(self, name: str, descriptor: Descriptor) -> None:
        """Let *name* name an image manifest."""
        if not name:
            raise ValueError("the name of an image is empty")
        with _store_errors(self._root):
            self._prepare()
            with self._locked():
                kept = [item for item in self._index() if _ref_name(item) != name]
                entry = descriptor.to_json() | {"annotations": {REF_ANNOTATION: name}}
                manifests = sorted([*kept, Reader(entry, "")], key=_index_order)
                self._replace("index.json", _index_bytes([item.value for item in manifests]))

    def remove_refs(self, names: Set[str]) -> None:
        """Forget *names*. Atomic; other names are untouched."""
        with _store_errors(self._root):
            self._prepare()
            with self._locked():
                kept = [item.value for item in self._index() if _ref_name(item) not in names]
                self._replace("index.json", _index_bytes(kept))

    def refs(self) -> dict[str, Descriptor]:
        """All names, sorted."""
        named = ((_ref_name(item), item) for item in self._index())
        return {
            name: Descriptor.from_json(item)
            for name, item in sorted(named, key=lambda pair: pair[0])
            if name
        }

    def _index(self) -> list[Reader]:
        path = self._root / "index.json"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _store_error(path, error) from error
        return list(Reader.of_json(data, str(path)).field("manifests").items())

    def _is_whole(self, digest: Digest) -> bool:
        try:
            self.get(digest)
        except DigestMismatchError:
            return False
        return True

    def _prepare(self) -> None:
        if self._prepared:
            return
        for folder in (self._blobs, self._ingest):
            folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._sweep()
            if not (self._root / "index.json").exists():
                self._replace("index.json", _index_bytes([]))
            if not (self._root / "oci-layout").exists():
                self._replace("oci-layout", _VERSION)
        self._prepared = True

    def _sweep(self) -> None:
        for leftover in sorted(os.scandir(self._ingest), key=lambda entry: entry.name):
            # Whoever writes it may be at it, or may be done by now, so that it has its place.
            busy_or_gone = suppress(BlockingIOError, FileNotFoundError)
            with busy_or_gone, open(leftover.path, "rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(leftover.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # A file of its own: the files that it guards are replaced while it is held.
        with open(self._root / ".lock", "ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _replace(self, name: str, data: bytes) -> None:
        temporary = self._root / f".{name}.new"
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self._root / name)
        _sync_folder(self._root)


class DiskBlobWriter:
    """A blob that is being written below ``ingest``."""

    def __init__(self, stream: BinaryIO, path: Path, place: Callable[[Digest], Path]) -> None:
        """Write to *stream*, which is the file *path*; *place* says where a blob belongs."""
        self._stream = stream
        self._path = path
        self._place = place
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._committed = False

    def write(self, data: bytes | memoryview) -> int:
        """Append *data*."""
        if self._committed:
            raise ValueError("the blob is committed already")
        self._hash.update(data)
        self._size_bytes += len(data)
        with _store_errors(self._path):
            return self._stream.write(data)

    def commit(self, *, expected: Digest | None = None) -> tuple[Digest, int]:
        """Keep what was written; see `ports.store.BlobWriter`."""
        if self._committed:
            raise ValueError("the blob is committed already")
        digest = Digest.sha256(self._hash.hexdigest())
        if expected is not None and digest != expected:
            raise DigestMismatchError(
                "a blob that was being written",
                want=str(expected),
                got=str(digest),
                size_bytes=self._size_bytes,
            )
        target = self._place(digest)
        with _store_errors(target):
            self._stream.flush()
            os.fchmod(self._stream.fileno(), 0o644)
            os.fsync(self._stream.fileno())
            os.replace(self._path, target)
            _sync_folder(target.parent)
        self._committed = True
        return digest, self._size_bytes


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ref_name(item: Reader) -> str:
    annotations = item.maybe("annotations")
    name = annotations.maybe(REF_ANNOTATION) if annotations else None
    return name.text() if name else ""


def _index_order(item: Reader) -> tuple[str, str]:
    return _ref_name(item), str(item.value.get("digest"))


def _index_bytes(manifests: list[Json]) -> bytes:
    index: Json = {"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": manifests}
    return canonical_json(index)


@contextmanager
def _store_errors(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _store_error(where, error) from error


def _store_error(where: Path, error: OSError) -> StoreError:
    hints = {
        errno.ENOSPC: "Free some space there, or set XMSLURM_REPRO_HOME to another disk.",
        errno.EDQUOT: "Your quota there is used up; set XMSLURM_REPRO_HOME to another disk.",
        errno.EACCES: "Check who may write there, or set XMSLURM_REPRO_HOME to another folder.",
        errno.EROFS: "Set XMSLURM_REPRO_HOME to a folder that can be written.",
    }
    return StoreError(
        f"the image store {where} cannot be used: {error.strerror or error}",
        hint=hints.get(error.errno or 0),
    )
