"""Objects on disk, each named by the BLAKE3 of its raw bytes.

Few and small ones lie loose, ``ab/<64 digits>.zst``, one zstd frame each; many or large ones
lie together in a pack (`store.packs`). ``docs/reference/format-objects.md`` says how to read
both with public tools.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from xmslurm_repro.errors import FormatError, IntegrityError, MissingObjectError, StoreError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.store import files
from xmslurm_repro.store.blocks import BLOCK_BYTES, BlockCache, list_packs
from xmslurm_repro.store.hashing import Blake3Hasher, blake3_hex

# Reading and writing is imported where it is done: a capture of an unchanged tree does neither.
if TYPE_CHECKING:
    from xmslurm_repro.store.packs import Pack, PackWriter

_PACKS = "packs"
_LOOSE_OBJECTS = 32
_LOOSE_BYTES = 256 * 1024
"""What a batch may hold to be written as loose objects: a file each must stay cheap."""

_LOOSE_NAME = re.compile(r"[0-9a-f]{64}\.zst")
_CHUNK_BYTES = 1024 * 1024


class DiskObjectStore:
    """
    An `ObjectStore` in a folder, which is made when something is first written.

    Any number of processes may read and write it at once; what others add is seen. Files are
    readable by their owner only, since they may hold private code.

    Args:
        root: The folder, such as ``~/.local/share/xmslurm-repro/objects``.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._packs_folder = root / _PACKS
        self._incoming = root / "incoming"
        self._packs: dict[Path, Pack] = {}
        self._packed: dict[bytes, tuple[Pack, int]] = {}
        self._damaged: dict[Path, FormatError] = {}
        self._cache = BlockCache()
        self._is_read = False
        self._is_ready = False

    def put(self, data: bytes) -> Digest:
        """Keep *data*: see `ObjectStore.put`."""
        with self.batch() as batch:
            return batch.put(data)

    @contextmanager
    def batch(self) -> Iterator[ObjectBatchOnDisk]:
        """
        Write many objects: see `ObjectStore.batch`.

        Up to 32 objects of 256 KiB in all are written loose, more than that as one pack.
        """
        self._is_read = False
        batch = ObjectBatchOnDisk(self)
        try:
            yield batch
            batch.finish()
        finally:
            batch.discard()

    def get(self, digest: Digest) -> bytes:
        """The object's bytes, verified: see `ObjectStore.get`."""
        from xmslurm_repro.store.object_stream import verified  # noqa: PLC0415 (see above)

        chunks, where = self._find(digest)
        return b"".join(verified(chunks, digest, where))

    def open(self, digest: Digest) -> BinaryIO:
        """A verified stream of the object's bytes: see `ObjectStore.open`."""
        from xmslurm_repro.store.object_stream import verified_stream  # noqa: PLC0415 (see above)

        chunks, where = self._find(digest)
        return verified_stream(chunks, digest, where)

    def open_loose(self, digest: Digest) -> BinaryIO:
        """
        A verified stream of the loose object of that name, also where a pack holds it too.

        Raises:
            MissingObjectError: If there is no such file.
        """
        from xmslurm_repro.store.object_stream import verified_stream  # noqa: PLC0415 (see above)

        path = Path(self.loose_path(digest.hex))
        try:
            with files.store_errors("read", path, but_missing=True):
                file = open(path, "rb")  # noqa: SIM115 (closed by the generator)
        except FileNotFoundError as error:
            raise MissingObjectError(str(digest)) from error
        return verified_stream(_loose_chunks(file), digest, str(path))

    def has(self, digest: Digest) -> bool:
        """Whether the store holds it. Does not read it."""
        if self.holds(digest.hex):
            return True
        self._refresh()
        return digest.hex.encode() in self._packed

    def places(self, digits: Iterable[str]) -> frozenset[str]:
        """Where objects lie, as paths from the store's folder: see `ObjectStore.places`."""
        self._refresh()
        packs: set[Pack] = set()
        loose: set[str] = set()
        for name in digits:
            found = self._packed.get(name.encode())
            if found is not None:
                packs.add(found[0])
            elif os.path.exists(self.loose_path(name)):
                loose.add(self.loose_path(name)[len(str(self._root)) + 1 :])
            else:
                raise MissingObjectError(f"blake3:{name}")
        return frozenset(loose.union(f"{_PACKS}/{pack.path.name}" for pack in packs))

    def has_places(self, places: Iterable[str]) -> bool:
        """Whether the files *places* are there: packs and loose objects are never changed."""
        return all(os.path.exists(f"{self._root}/{place}") for place in places)

    def digests(self) -> Iterator[Digest]:
        """The name of every object, in no particular order, each once."""
        self._refresh()
        packed = list(self._packed)
        seen = set(packed)
        yield from (Digest.blake3(digits.decode()) for digits in packed)
        for digits in self.loose():
            if digits.encode() not in seen:
                yield Digest.blake3(digits)

    def holds(self, digits: str) -> bool:
        """Like `has`, but packs that others wrote meanwhile may be missed."""
        if not self._is_read:
            self._refresh()
        return digits.encode() in self._packed or os.path.exists(self.loose_path(digits))

    def loose_path(self, digits: str) -> str:
        """Where the loose object of that name lies, if it does."""
        return f"{self._root}/{digits[:2]}/{digits}.zst"

    def prepare(self) -> Path:
        """Make the folders; clear away what dead writers left. Returns that of unfinished files."""
        if not self._is_ready:
            files.make_folder(self._packs_folder)
            files.make_folder(self._incoming, is_durable=False)
            files.remove_stale(self._incoming)
            self._is_ready = True
        return self._incoming

    def pack_writer(self) -> PackWriter:
        """Begin a pack."""
        from xmslurm_repro.store.packs import PackWriter  # noqa: PLC0415 (see above)

        return PackWriter(self._packs_folder, self.prepare())

    def write_loose(self, objects: dict[str, bytes]) -> None:
        """Write loose objects, each under its name only when all of them are safe on disk."""
        from xmslurm_repro.store.packs import compress  # noqa: PLC0415 (see above)

        incoming = self.prepare()
        written: list[tuple[files.Temporary, Path]] = []
        try:
            for digits, data in objects.items():
                file = files.Temporary(incoming)
                written.append((file, Path(self.loose_path(digits))))
                file.write(compress(data))
            for file, _ in written:
                file.sync()
            for file, path in written:
                files.make_folder(path.parent)
                file.publish(path)
            for folder in sorted({path.parent for _, path in written}):
                files.sync_folder(folder)
        finally:
            for file, _ in written:
                file.discard()

    def _find(self, digest: Digest) -> tuple[Iterator[bytes | memoryview], str]:
        """The raw bytes in chunks, and where they come from, for errors."""
        if digest.algorithm != "blake3":
            raise MissingObjectError(str(digest))
        # The second time after a look at what is there now: others add packs and merge them.
        for attempt in range(2):
            if attempt or not self._is_read:
                self._refresh()
            with suppress(FileNotFoundError):
                return self._find_now(digest)
        if self._damaged:
            raise self._blame(digest)
        raise MissingObjectError(str(digest))

    def _find_now(self, digest: Digest) -> tuple[Iterator[bytes | memoryview], str]:
        found = self._packed.get(digest.hex.encode())
        if found is not None:
            pack, number = found
            start, size = pack.extent(number)
            os.stat(pack.path)
            return pack.chunks(start, size, self._cache), f"{digest} in {pack.path}"
        path = Path(self.loose_path(digest.hex))
        with files.store_errors("read", path, but_missing=True):
            file = open(path, "rb")  # noqa: SIM115 (closed by the generator)
        return _loose_chunks(file), str(path)

    def _blame(self, digest: Digest) -> IntegrityError:
        return IntegrityError(
            f"the store has no object {digest} that can be found: indexes of packs are damaged",
            hint="Restore these files from a copy of the store.",
            details=[str(error) for error in self._damaged.values()],
        )

    def _refresh(self) -> None:
        """Learn of packs that came or went."""
        self._is_read = True
        found = list_packs(self._packs_folder)
        if gone := self._packs.keys() - set(found):
            for path in gone:
                del self._packs[path]
            self._packed = {k: at for k, at in self._packed.items() if at[0].path not in gone}
        for path in found:
            if path not in self._packs:
                self._learn(path)

    def _learn(self, path: Path) -> None:
        from xmslurm_repro.store.packs import Pack  # noqa: PLC0415 (see above)

        try:
            pack = Pack(path)
        except FileNotFoundError:
            return
        except FormatError as error:
            self._damaged[path] = error
            return
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        self._packs[path] = pack
        self._damaged.pop(path, None)
        self._packed.update((digits, (pack, number)) for number, digits in enumerate(pack.digits()))

    def loose(self) -> Iterator[str]:
        """The digits of every loose object's name, in order."""
        for high in range(256):
            folder = self._root / f"{high:02x}"
            try:
                with files.store_errors("read", folder, but_missing=True):
                    names = sorted(entry.name for entry in os.scandir(folder))
            except FileNotFoundError:
                continue
            yield from (name[:-4] for name in names if _LOOSE_NAME.fullmatch(name))


def _loose_chunks(file: BinaryIO) -> Iterator[bytes | memoryview]:
    import zstandard  # noqa: PLC0415 (costs 8 ms)

    with file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
        while chunk := reader.read(_CHUNK_BYTES):
            yield chunk


class ObjectBatchOnDisk:
    """An `ObjectBatch`: in memory while it is small, then a pack that grows."""

    def __init__(self, store: DiskObjectStore) -> None:
        self._store = store
        self._small: dict[str, bytes] = {}
        self._small_bytes = 0
        self._writer: PackWriter | None = None
        self._seen: set[str] = set()

    def put(self, data: bytes) -> Digest:
        """Keep *data*; return its BLAKE3."""
        digits = blake3_hex(data)
        if self._is_new(digits):
            if len(data) > BLOCK_BYTES:
                return self._append(io.BytesIO(data))[0]
            self._add(digits, data)
        return Digest.blake3(digits)

    def put_stream(self, source: BinaryIO) -> tuple[Digest, int]:
        """
        Keep all that *source* yields, without holding it in memory; its BLAKE3 and size.

        A large source that can be rewound is read twice, since reading is far cheaper than
        compressing what the store already holds.
        """
        head = _read_up_to(source, BLOCK_BYTES)
        if len(head) < BLOCK_BYTES:
            return self.put(head), len(head)
        if source.seekable():
            begin = source.tell() - len(head)
            hasher = Blake3Hasher()
            hasher.update(head)
            while chunk := source.read(_CHUNK_BYTES):
                hasher.update(chunk)
            if not self._is_new(hasher.digest().hex):
                return hasher.digest(), hasher.size_bytes
            source.seek(begin)
            head = b""
        return self._append(source, head)

    def finish(self) -> None:
        """Let the store hold everything, safe on disk."""
        if self._writer is not None:
            self._writer.finish()
        elif self._small:
            self._store.write_loose(self._small)

    def discard(self) -> None:
        """Let go of everything; forget what was not finished. Idempotent."""
        if self._writer is not None:
            self._writer.discard()
        # Somebody may still hold the batch: names of a large tree take 30 MB.
        self._writer = None
        self._small.clear()
        self._seen.clear()

    def _is_new(self, digits: str) -> bool:
        return digits not in self._seen and not self._store.holds(digits)

    def _add(self, digits: str, data: bytes) -> None:
        self._seen.add(digits)
        if self._writer is None:
            self._small[digits] = data
            self._small_bytes += len(data)
            if len(self._small) > _LOOSE_OBJECTS or self._small_bytes > _LOOSE_BYTES:
                self._pack()
        else:
            self._writer.add(digits, data)

    def _append(self, source: BinaryIO, head: bytes = b"") -> tuple[Digest, int]:
        writer, hasher = self._pack(), Blake3Hasher()
        hasher.update(head)
        start = writer.append(head)
        while chunk := source.read(_CHUNK_BYTES):
            hasher.update(chunk)
            writer.append(chunk)
        digest = hasher.digest()
        # Bytes that turn out to be held already stay in the pack without a name; that takes a
        # pipe, or a file that changes between its two readings.
        if self._is_new(digest.hex):
            writer.close_object(digest.hex, start)
            self._seen.add(digest.hex)
        return digest, hasher.size_bytes

    def _pack(self) -> PackWriter:
        if self._writer is None:
            self._writer = self._store.pack_writer()
            for digits, data in self._small.items():
                self._writer.add(digits, data)
            self._small.clear()
        return self._writer


def _read_up_to(source: BinaryIO, size: int) -> bytes:
    chunks, missing = [], size
    while missing and (chunk := source.read(missing)):
        chunks.append(chunk)
        missing -= len(chunk)
    return b"".join(chunks)
