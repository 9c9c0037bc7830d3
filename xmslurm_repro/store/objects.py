"""Objects on disk, each named by the BLAKE3 of its raw bytes.

Few and small ones lie loose, ``ab/<64 digits>.zst``, one zstd frame each; many or large ones
lie together in a pack (`store.packs`). ``docs/reference/format-objects.md`` says how to read
both with public tools.

What was just written is whole, but not safe on disk before `DiskObjectStore.settle`: see
`store.unsynced`.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from xmslurm_repro.errors import FormatError, IntegrityError, MissingObjectError, StoreError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.store import files
from xmslurm_repro.store.blocks import SUFFIX, BlockCache, list_packs
from xmslurm_repro.store.boots import this_boot
from xmslurm_repro.store.packed import Packed
from xmslurm_repro.store.publishing import LOOSE_SUFFIX, PACKS, Publisher
from xmslurm_repro.store.unsynced import Unsynced

# Reading and writing is imported where it is done: a capture of an unchanged tree does neither.
if TYPE_CHECKING:
    from xmslurm_repro.store.batches import ObjectBatchOnDisk
    from xmslurm_repro.store.packs import Pack
    from xmslurm_repro.store.settling import Settling

_FOLDER_DIGITS = 2
_MANY = 500
"""From how many lookups of loose objects on all their names are read at once."""

_LOOSE_NAME = re.compile(r"[0-9a-f]{64}\.zst")


class DiskObjectStore:
    """
    An `ObjectStore` in a folder, which is made when something is first written.

    Any number of processes may read and write it at once; what others add is seen. Files are
    readable by their owner only, since they may hold private code.

    Args:
        root: The folder, such as ``~/.local/share/xmslurm-repro/objects``.
        boot: What tells this run of this machine from others, as `this_boot`. Where nothing
            does (``""``), everything is safe on disk at once.
    """

    def __init__(self, root: Path, *, boot: str | None = None) -> None:
        boot = this_boot() if boot is None else boot
        self._root = root
        self._unsynced = Unsynced(root, boot) if boot else None
        self._unsynced_loose: dict[str, Path] = {}
        self.publisher = Publisher(root, self._unsynced)
        # Names of unsynced files that this process relies on: wrote, or found.
        self._relied = self.publisher.names
        self._settling: Settling | None = None
        self._packs_folder = root / PACKS
        self._packs: dict[Path, Pack] = {}
        self._packed = Packed()
        self._damaged: dict[Path, FormatError] = {}
        self._cache = BlockCache()
        self._loose_names: set[str] | None = None
        self._asked = 0
        self._is_read = False

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
        from xmslurm_repro.store.batches import ObjectBatchOnDisk  # noqa: PLC0415 (see above)

        self._is_read = False
        self._loose_names, self._asked = None, 0
        self._adopt()
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

    def open_loose(self, digest: Digest, path: Path) -> BinaryIO:
        """
        A verified stream of the loose object in *path*, also where a pack holds it too.

        Raises:
            MissingObjectError: If there is no such file.
        """
        from xmslurm_repro.store.object_stream import (  # noqa: PLC0415 (see above)
            loose_chunks,
            verified_stream,
        )

        try:
            with files.store_errors("read", path, but_missing=True):
                file = open(path, "rb")  # noqa: SIM115 (closed by the generator)
        except FileNotFoundError as error:
            raise MissingObjectError(str(digest)) from error
        return verified_stream(loose_chunks(file), digest, str(path))

    def has(self, digest: Digest) -> bool:
        """Whether the store holds it. Does not read it."""
        if self.place_of(digest.hex) is not None:
            return True
        self._refresh()
        return self.place_of(digest.hex) is not None

    def places(self, digits: Iterable[str]) -> frozenset[str]:
        """Where objects lie, as paths from the store's folder: see `ObjectStore.places`."""
        self._refresh()
        places: set[str] = set()
        for name in digits:
            place = self.place_of(name)
            if place is None:
                raise MissingObjectError(f"blake3:{name}")
            places.add(place)
        return frozenset(places)

    def has_places(self, places: Iterable[str]) -> bool:
        """Whether the files *places* are there: packs and loose objects are never changed."""
        for place in places:
            if os.path.exists(f"{self._root}/{place}"):
                continue
            name = place.rpartition("/")[2]
            if self._unsynced is None or not self._unsynced.holds(name):
                return False
            self._relied.add(name)
        return True

    def settle_soon(self) -> None:
        """Begin to `settle` in a thread: see `ObjectStore.settle_soon`."""
        if self._unsynced is not None and self._settling is None:
            from xmslurm_repro.store.settling import Settling  # noqa: PLC0415 (see above)

            self._settling = Settling(self._unsynced.settle)

    def settle(self) -> None:
        """Return when all is safe on disk: see `ObjectStore.settle`."""
        if self._unsynced is None:
            return
        # Before: what others in this process publish meanwhile is for the next time.
        relied = sorted(self._relied)
        settling, self._settling = self._settling, None
        if settling is not None:
            settling.wait()
        self._unsynced.settle()
        lost = [name for name in relied if not self._unsynced.place(name).exists()]
        if lost:
            raise StoreError(
                f"the store lost what was captured: {self._root}",
                hint="Launch again: it is captured anew.",
                details=[f"missing: {self._unsynced.place(name)}" for name in lost],
            )
        self._relied.difference_update(relied)

    def adopt_all(self) -> None:
        """Take over whatever other boots and hosts left unsynced. Nobody may be writing."""
        if self._unsynced is not None:
            self._unsynced.adopt(self._is_whole, everyones=True)

    def digests(self) -> Iterator[Digest]:
        """The name of every object, in no particular order, each once."""
        self._refresh()
        seen = self._packed.names()
        yield from (Digest.blake3(digits.decode()) for digits in seen.copy())
        for digest, _ in self.loose_files():
            if digest.hex.encode() not in seen:
                seen.add(digest.hex.encode())
                yield digest

    def pack_files(self) -> list[Path]:
        """Every pack, synced or not."""
        unsynced = self._unsynced.files() if self._unsynced is not None else []
        packs = [path for path in unsynced if path.suffix == SUFFIX]
        return [*list_packs(self._packs_folder), *packs]

    def loose_files(self) -> Iterator[tuple[Digest, Path]]:
        """Every loose object with its file, synced or not."""
        for digits in self._loose():
            yield Digest.blake3(digits), Path(self.loose_path(digits))
        for path in self._unsynced.files() if self._unsynced is not None else ():
            if _LOOSE_NAME.fullmatch(path.name):
                yield Digest.blake3(path.stem), path

    def place_of(self, digits: str) -> str | None:
        """Where an object lies, for `places`; packs that others wrote meanwhile may be missed."""
        if not self._is_read:
            self._refresh()
        found = self._packed.find(digits.encode())
        if found is not None:
            pack = found[0]
            if pack.is_unsynced:
                self._relied.add(pack.path.name)
            return f"{PACKS}/{pack.path.name}"
        if digits in self._unsynced_loose:
            self._relied.add(f"{digits}{LOOSE_SUFFIX}")
        elif not self._is_loose(digits):
            return None
        return f"{digits[:2]}/{digits}{LOOSE_SUFFIX}"

    def is_anything_held(self) -> bool:
        """Whether the store holds any object."""
        if not self._is_read:
            self._refresh()
        if self._packs or self._unsynced_loose:
            return True
        try:
            with (
                files.store_errors("read", self._root, but_missing=True),
                os.scandir(self._root) as found,
            ):
                return any(len(entry.name) == _FOLDER_DIGITS for entry in found)
        except FileNotFoundError:
            return False

    def loose_path(self, digits: str) -> str:
        """Where the loose object of that name lies, if it does and is synced."""
        return f"{self._root}/{digits[:2]}/{digits}{LOOSE_SUFFIX}"

    def _is_loose(self, digits: str) -> bool:
        if self._loose_names is not None:
            return digits in self._loose_names
        self._asked += 1
        if self._asked > _MANY:
            # All names are found sooner than each of thousands is looked for.
            self._loose_names = set(self._loose())
        return os.path.exists(self.loose_path(digits))

    def _adopt(self) -> None:
        if self._unsynced is not None:
            self._unsynced.adopt(self._is_whole)

    @staticmethod
    def _is_whole(path: Path) -> bool:
        from xmslurm_repro.store.checking import is_whole  # noqa: PLC0415 (see above)

        return is_whole(path)

    def _find(self, digest: Digest) -> tuple[Iterator[bytes | memoryview], str]:
        """The raw bytes in chunks, and where they come from, for errors."""
        if digest.algorithm != "blake3":
            raise MissingObjectError(str(digest))
        # The second time after a look at what is there now: others add packs and merge them.
        for attempt in range(2):
            if attempt:
                self._adopt()
            if attempt or not self._is_read:
                self._refresh()
            with suppress(FileNotFoundError):
                return self._find_now(digest)
        if self._damaged:
            raise self._blame(digest)
        raise MissingObjectError(str(digest))

    def _find_now(self, digest: Digest) -> tuple[Iterator[bytes | memoryview], str]:
        found = self._packed.find(digest.hex.encode())
        if found is not None:
            pack, number = found
            start, size = pack.extent(number)
            if not pack.is_there():
                raise FileNotFoundError(pack.path)
            return pack.chunks(start, size, self._cache), f"{digest} in {pack.path}"
        path = Path(self.loose_path(digest.hex))
        unsynced = self._unsynced_loose.get(digest.hex)
        if unsynced is not None and not path.exists():
            path = unsynced
        with files.store_errors("read", path, but_missing=True):
            file = open(path, "rb")  # noqa: SIM115 (closed by the generator)
        from xmslurm_repro.store.object_stream import loose_chunks  # noqa: PLC0415 (see above)

        return loose_chunks(file), str(path)

    def _blame(self, digest: Digest) -> IntegrityError:
        return IntegrityError(
            f"the store has no object {digest} that can be found: indexes of packs are damaged",
            hint="Restore these files from a copy of the store.",
            details=[str(error) for error in self._damaged.values()],
        )

    def _refresh(self) -> None:
        """Learn of packs that came or went."""
        self._is_read = True
        found: dict[Path, Path | None] = dict.fromkeys(list_packs(self._packs_folder))
        unsynced = self._unsynced.files() if self._unsynced is not None else []
        self._unsynced_loose = {p.stem: p for p in unsynced if p.suffix != SUFFIX}
        found |= {p: self._packs_folder / p.name for p in unsynced if p.suffix == SUFFIX}
        for path in self._packs.keys() - found.keys():
            self._forget(path, found)
        for path, later in found.items():
            if path not in self._packs:
                self._learn(path, later)

    def _forget(self, path: Path, found: dict[Path, Path | None]) -> None:
        pack = self._packs.pop(path)
        if pack.settle() and pack.path in found:
            self._packs[pack.path] = pack
        else:
            self._packed.remove(pack)

    def _learn(self, path: Path, later: Path | None) -> None:
        from xmslurm_repro.store.packs import Pack  # noqa: PLC0415 (see above)

        try:
            pack = Pack(path, later)
        except FileNotFoundError:
            return
        except FormatError as error:
            self._damaged[path] = error
            return
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                raise StoreError(f"cannot read {path}: {error.strerror}") from error
            # The others are whole all the same.
            self._damaged[path] = FormatError(f"{path}: cannot be read: {error.strerror}")
            return
        self._packs[path] = pack
        self._damaged.pop(path, None)
        self._packed.add(pack)

    def _loose(self) -> Iterator[str]:
        """The digits of every synced loose object's name, in order."""
        for high in range(256):
            folder = self._root / f"{high:02x}"
            try:
                with files.store_errors("read", folder, but_missing=True):
                    names = sorted(entry.name for entry in os.scandir(folder))
            except FileNotFoundError:
                continue
            yield from (name[:-4] for name in names if _LOOSE_NAME.fullmatch(name))
