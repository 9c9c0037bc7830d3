"""The record in the data folder: opening it, and making it again from the store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from xmslurm_repro.config import Settings
from xmslurm_repro.errors import IntegrityError, ReproError, StoreError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.record.keeping import KeepingRecord, PieceList, keep_whole, whole_piece
from xmslurm_repro.record.pieces import FORMAT, Piece, Whole, put_together
from xmslurm_repro.record.sqlite import SqliteRecord
from xmslurm_repro.store.files import store_errors, sync_folder
from xmslurm_repro.store.guard import FileGuard
from xmslurm_repro.store.objects import DiskObjectStore

_DATABASE = "record.db"
_SIDE_FILES = ("", "-wal", "-shm")
_BEGIN = b'{"annotations":['
_MARK = f'"format":"{FORMAT}/'.encode()


def pieces_of(home: Path) -> PieceList:
    """The names of the objects that the record in *home* can be made again from."""
    return PieceList(home / "record.pieces")


def open_record(
    home: Path, store: DiskObjectStore, guard: FileGuard | None = None
) -> KeepingRecord:
    """
    The record in *home*.

    Raises:
        StoreError: If it cannot be opened, is damaged, or was lost though there are pieces of it.
    """
    path, pieces = home / _DATABASE, pieces_of(home)
    # SQLite takes a file of no bytes for a new database.
    if pieces and not (path.exists() and path.stat().st_size):
        raise StoreError(
            f"the record {path} is gone or empty, though there was one",
            hint="Run `xmslurm-repro verify --rebuild-record` to make it again from the store.",
        )
    return KeepingRecord(
        SqliteRecord(path, settle=store.settle),
        store,
        pieces,
        guard.using if guard else nullcontext,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """
    A record that was made again.

    Attributes:
        whole: What is in it.
        pieces: From how many objects.
        faults: What could not be read.
        old: Where the record that was there is now, if one was.
    """

    whole: Whole
    pieces: int
    faults: tuple[str, ...]
    old: Path | None


def rebuild_record(settings: Settings) -> Rebuilt:
    """
    Make the record again from the objects of the store, and from what can be read of the old one,
    which is kept beside it.

    Raises:
        StoreError: If the store is in use, or cannot be written; nothing is changed then.
        IntegrityError: If nothing of a record can be found.
    """
    home = settings.home
    guard = FileGuard(home / "in-use.lock")
    with guard.alone() as is_alone:
        if not is_alone:
            raise StoreError(
                "the store is in use by a launch or a replay",
                hint="Run it again when that is over.",
            )
        return _rebuild(home)


def _rebuild(home: Path) -> Rebuilt:
    store, faults = DiskObjectStore(home / "objects"), list[str]()
    names = pieces_of(home).names() or list(_find_pieces(store))
    old, known = _of_old(home / _DATABASE), list(_read(store, names, faults))
    # What pieces say is right, since they are checked.
    pieces = [*old, *known, *_newer_manifests(old, known)]
    if not pieces:
        raise IntegrityError(
            f"nothing of a record can be found in {home}",
            details=faults,
            hint="Set XMSLURM_REPRO_HOME to the folder that the experiments were launched with.",
        )
    whole = put_together(pieces)
    fresh = home / f"{_DATABASE}.new"
    _remove(fresh)
    record = SqliteRecord(fresh)
    try:
        record.restore(whole)
        # Pieces of old must not speak again of what they gave another number.
        kept = keep_whole(store, [whole_piece(record, row) for row in record.experiments()])
    finally:
        record.close()
    aside = _put_aside(home / _DATABASE)
    with store_errors("write", home / _DATABASE):
        os.replace(fresh, home / _DATABASE)
    sync_folder(home)
    store.settle()
    pieces_of(home).replace(kept)
    return Rebuilt(whole=whole, pieces=len(names), faults=tuple(faults), old=aside)


def _find_pieces(store: DiskObjectStore) -> Iterator[Digest]:
    """Every object that looks like a piece, where nobody knows their names any more."""
    for digest in sorted(store.digests()):
        with suppress(ReproError), store.open(digest) as stream:
            if stream.read(len(_BEGIN)) == _BEGIN and _MARK in stream.read():
                yield digest


def _read(store: DiskObjectStore, names: Iterable[Digest], faults: list[str]) -> Iterator[Piece]:
    for name in names:
        try:
            yield Piece.from_json(Reader.of_json(store.get(name), f"object {name}"))
        except ReproError as error:
            faults.append(error.message)


def _of_old(path: Path) -> list[Piece]:
    """All of the record that is there, if it can be read."""
    if not (path.exists() and path.stat().st_size):
        return []
    try:
        record = SqliteRecord(path)
        try:
            return [whole_piece(record, row) for row in record.experiments()]
        finally:
            record.close()
    except ReproError:
        return []


def _newer_manifests(old: list[Piece], known: list[Piece]) -> Iterator[Piece]:
    """The manifests of the old record, which may be newer than all pieces."""
    rows = {(p.experiment.id, p.experiment.created_at): p.experiment for p in known}
    for piece in old:
        row = piece.experiment
        yield Piece(
            experiment=replace(rows.get((row.id, row.created_at), row), manifest=row.manifest)
        )


def _put_aside(path: Path) -> Path | None:
    if not path.exists():
        return None
    free = (path.with_name(f"{path.name}.old-{number}") for number in count(1))
    place = next(place for place in free if not place.exists())
    with store_errors("rename", path):
        for suffix in _SIDE_FILES:
            with suppress(FileNotFoundError):
                os.rename(f"{path}{suffix}", f"{place}{suffix}")
    return place


def _remove(path: Path) -> None:
    with store_errors("remove", path):
        for suffix in _SIDE_FILES:
            with suppress(FileNotFoundError):
                os.unlink(f"{path}{suffix}")
