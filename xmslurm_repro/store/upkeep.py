"""Looking after a store on disk: reading all of it again, and removing what nobody needs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xmslurm_repro.errors import (
    DigestMismatchError,
    FormatError,
    IntegrityError,
    ReproError,
    StoreError,
)
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.ports.upkeep import Damage, Waste, WasteItem
from xmslurm_repro.store.blocks import BlockCache
from xmslurm_repro.store.checking import extents, pack_damage
from xmslurm_repro.store.files import (
    Temporary,
    make_folder,
    remove_stale,
    store_errors,
    sync_folder,
)
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.object_stream import verified
from xmslurm_repro.store.objects import DiskObjectStore
from xmslurm_repro.store.pack_writer import PackWriter
from xmslurm_repro.store.packs import Pack

_CHUNK_BYTES = 1 << 20
_NANOSECONDS = 1_000_000_000
_WORTH_REPACKING = 0.3
"""Which share of a pack must be garbage to write the rest of it anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUpkeep:
    """An `Upkeep` of the stores in two folders."""

    objects: DiskObjectStore
    objects_root: Path
    blobs: DiskBlobStore

    def damage(self) -> Iterator[Damage]:
        """See `Upkeep`."""
        cache = BlockCache()
        for path in self.objects.pack_files():
            yield from pack_damage(path, cache)
        for digest, place in self.objects.loose_files():
            try:
                with self.objects.open_loose(digest, place) as stream:
                    while stream.read(_CHUNK_BYTES):
                        pass
            except (IntegrityError, StoreError) as error:
                yield Damage(digest=digest, place=str(place), error=error)
        for digest in self.blobs.digests():
            problem = self._blob_error(digest)
            if problem is not None:
                yield Damage(digest=digest, place=str(self.blobs.path(digest)), error=problem)

    def waste(
        self,
        objects: Set[Digest],
        blobs: Set[Digest],
        *,
        kept_refs: Set[str],
        older_than_seconds: int,
    ) -> Waste:
        """See `Upkeep`."""
        limit_ns = self._now_ns() - older_than_seconds * _NANOSECONDS
        items = [
            *self._packs(objects, limit_ns),
            *(
                WasteItem(kind="object", name=str(digest), place=str(place), size_bytes=size)
                for digest, place in self.objects.loose_files()
                if digest not in objects and (size := _old_size(place, limit_ns)) is not None
            ),
            *(
                WasteItem(kind="blob", name=str(digest), place=str(place), size_bytes=size)
                for digest in self.blobs.digests()
                if digest not in blobs
                and (size := _old_size(place := self.blobs.path(digest), limit_ns)) is not None
            ),
        ]
        gone = {item.name for item in items if item.kind == "blob"}
        refs = (
            WasteItem(kind="name", name=name, place=str(found.digest), size_bytes=0)
            for name, found in self.blobs.refs().items()
            if name not in kept_refs and str(found.digest) in gone
        )
        return Waste(items=(*items, *refs))

    def remove(self, waste: Waste, objects: Set[Digest]) -> int:
        """See `Upkeep`."""
        freed = 0
        self.objects.adopt_all()
        names = {item.name for item in waste.items if item.kind == "name"}
        if names:
            self.blobs.remove_refs(names)
        for item in waste.items:
            if item.kind == "repack":
                freed += self._repack(Path(item.place), objects)
            elif item.kind != "name":
                with store_errors("remove", Path(item.place)), suppress(FileNotFoundError):
                    os.unlink(item.place)
                    freed += item.size_bytes
        for folder in (self.objects_root / "incoming", self.objects_root / "packs"):
            remove_stale(folder)
        # What was read of packs that are gone is forgotten.
        next(self.objects.digests(), None)
        return freed

    def _now_ns(self) -> int:
        folder = self.objects_root / "incoming"
        make_folder(folder)
        file = Temporary(folder)
        try:
            return file.path.stat().st_mtime_ns
        finally:
            file.discard()

    def _packs(self, needed: Set[Digest], limit_ns: int) -> Iterator[WasteItem]:
        for path in self.objects.pack_files():
            size = _old_size(path, limit_ns)
            if size is None:
                continue
            try:
                pack = Pack(path)
            except (FormatError, OSError):
                # `verify` speaks of it; what it holds may yet be rescued.
                continue
            raw = kept = 0
            for number, digits in enumerate(pack.digits()):
                _, length = pack.extent(number)
                raw += length
                kept += length if Digest.blake3(digits.decode()) in needed else 0
            is_needed = any(Digest.blake3(digits.decode()) in needed for digits in pack.digits())
            if not is_needed:
                yield WasteItem(kind="pack", name=path.name, place=str(path), size_bytes=size)
            elif raw - kept > raw * _WORTH_REPACKING:
                share = size * (raw - kept) // raw
                yield WasteItem(kind="repack", name=path.name, place=str(path), size_bytes=share)

    def _repack(self, path: Path, needed: Set[Digest]) -> int:
        """Write what is needed of a pack into a new one, then remove it."""
        pack, cache = Pack(path), BlockCache()
        before = path.stat().st_size
        writer = PackWriter(self.objects.publisher.new_file)
        try:
            for start, digest, size in sorted(extents(pack)):
                if digest not in needed:
                    continue
                where = f"{digest} in {path}"
                begin = None
                for chunk in verified(pack.chunks(start, size, cache), digest, where):
                    at = writer.append(chunk)
                    begin = at if begin is None else begin
                begin = writer.position if begin is None else begin
                writer.close_object(bytes.fromhex(digest.hex), begin)
            place = self.objects.publisher.pack(*writer.finish(), is_durable=True)
            made = self.objects_root / place
        except IntegrityError:
            # Damaged: nothing of it is thrown away.
            return 0
        finally:
            writer.discard()
        if made != path:
            with store_errors("remove", path):
                os.unlink(path)
            sync_folder(path.parent)
        return max(0, before - made.stat().st_size)

    def _blob_error(self, digest: Digest) -> ReproError | None:
        hasher, size = hashlib.sha256(), 0
        try:
            with self.blobs.open(digest) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    hasher.update(chunk)
                    size += len(chunk)
        except OSError as error:
            return StoreError(f"cannot read blob {digest}: {error.strerror or error}")
        except ReproError as error:
            return error
        got = f"sha256:{hasher.hexdigest()}"
        if got == str(digest):
            return None
        where = str(self.blobs.path(digest))
        return DigestMismatchError(where, want=str(digest), got=got, size_bytes=size)


def _old_size(path: Path, limit_ns: int) -> int | None:
    """The size of the file *path*, or ``None`` if it is too new to be judged, or gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size if found.st_mtime_ns <= limit_ns else None
