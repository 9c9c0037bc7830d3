"""Remembering what a capture saw, for `snapshot.memory` to recall.

What is as new as the capture itself may change without a sign: it is remembered as something to
be looked at again.
"""

from __future__ import annotations

import marshal
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.snapshot import Origin, Snapshot
from xmslurm_repro.snapshot.cache import Known, Stamp, cache_file, save_checked
from xmslurm_repro.snapshot.looking import LISTING_BYTES, NEVER, STAMP_BYTES
from xmslurm_repro.snapshot.memory import KIND, LENGTHS, MAGIC, Memory
from xmslurm_repro.snapshot.repository import Repository
from xmslurm_repro.snapshot.witnesses import Witnesses, is_settled, settled_before

if TYPE_CHECKING:
    from xmslurm_repro.snapshot.memory import Asked

_NEVER = (0, 0, 0, 0, 0)
_MOST_RECENT = 16
_STABLE_FORM = 2
"""The form of `marshal` that every Python reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    What a capture saw, by path from the root of the work tree.

    Attributes:
        folders: Those that were listed, with stamps from before.
        listings: What tells the names in each of them, where that is known.
        rules: Ignore files that were read and not captured.
        files: What was captured.
    """

    folders: Mapping[bytes, Stamp]
    listings: Mapping[bytes, bytes]
    rules: Mapping[bytes, Stamp]
    files: Mapping[bytes, Known]


def snapshot_of(memory: Memory) -> Snapshot:
    """
    The snapshot that is remembered.

    Raises:
        FormatError: If it was written by somebody who knew another `Origin`.
    """
    return Snapshot(
        root=Digest.parse(memory.root),
        file_count=memory.file_count,
        size_bytes=memory.size_bytes,
        origin=Origin.from_json(Reader.of_json(memory.origin, "a remembered origin")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembering:
    """
    Where to remember a capture.

    Attributes:
        root: The work tree.
        cache_dir: The folder.
        asked: What was asked for.
    """

    root: bytes
    cache_dir: Path
    asked: Asked

    def remember(
        self,
        snapshot: Snapshot,
        seen: Seen,
        *,
        repositories: Iterable[Repository],
        witnesses: Witnesses,
        places: Iterable[str],
        before_ns: int,
    ) -> None:
        """
        Remember *snapshot* and what it follows from, if git's own files are old enough.

        Args:
            snapshot: What was captured.
            seen: What it follows from.
            repositories: Of the work tree and those nested in it.
            witnesses: Of files outside the work tree, from before they were read.
            places: Where the store keeps every object of the snapshot.
            before_ns: What the file system's clock said when the capture began.
        """
        limit = settled_before(before_ns)
        if not all(is_settled(text, limit) for text in witnesses.values()):
            return
        all_seen: tuple[Mapping[bytes, Stamp | Known], ...]
        all_seen = (seen.folders, seen.rules, seen.files)
        # Of stamps and of what is known of files; both begin alike.
        found: Iterator[Any] = chain.from_iterable(some.values() for some in all_seen)
        stamps = chain.from_iterable(
            one[:5] if one[0] < limit and one[1] < limit else _NEVER for one in found
        )
        try:
            packed = array("q", stamps)
        except OverflowError:
            # An inode beyond 2**63: look at all each time.
            return
        unknown = bytes(LISTING_BYTES)
        self._save(
            snapshot,
            (
                [(found.root, found.git_dir, found.common_dir) for found in repositories],
                witnesses,
                sorted(places),
            ),
            ((), len(seen.folders), len(seen.rules)),
            (
                b"\0".join(chain(*all_seen)),
                b"".join(seen.listings.get(folder, unknown) for folder in seen.folders),
                packed.tobytes(),
            ),
        )

    def remember_amended(
        self,
        memory: Memory,
        snapshot: Snapshot,
        *,
        stamps: Mapping[int, Stamp],
        places: Iterable[str],
        before_ns: int,
    ) -> None:
        """
        Remember *snapshot*, which differs from what *memory* holds by a few files only.

        Args:
            memory: Of the capture before; all of git's own files are as they were.
            snapshot: What was captured.
            stamps: By number, those that are others now.
            places: Where the store keeps every object of the snapshot.
            before_ns: What the file system's clock said when the capture began.
        """
        limit = settled_before(before_ns)
        packed = bytearray(memory.stamps)
        for number, found in stamps.items():
            is_old = found.mtime_ns < limit and found.ctime_ns < limit
            try:
                one = array("q", found if is_old else _NEVER).tobytes()
            except OverflowError:
                one = NEVER
            packed[number * STAMP_BYTES : (number + 1) * STAMP_BYTES] = one
        self._save(
            snapshot,
            (memory.repositories, memory.witnesses, sorted(places)),
            (self._recent(memory, stamps), memory.folder_count, memory.rule_count),
            (memory.names, memory.listings, packed),
        )

    @staticmethod
    def _recent(memory: Memory, stamps: Iterable[int]) -> list[tuple[bytes, int]]:
        files = sorted(number for number in stamps if number >= memory.folder_count)
        paths = memory.names.split(b"\0") if files else []
        return [(paths[number], number) for number in files[:_MOST_RECENT]]

    def _save(
        self,
        snapshot: Snapshot,
        outside: tuple[Any, ...],
        counts: tuple[Any, ...],
        sections: tuple[bytes, bytes, bytes | bytearray],
    ) -> None:
        try:
            origin = canonical_json(snapshot.origin.to_json())
        except ValueError:
            # A path of git's that is not UTF-8: look at all each time.
            return
        captured = (str(snapshot.root), snapshot.file_count, snapshot.size_bytes, origin)
        header = marshal.dumps((self.asked, *outside, *captured, *counts), _STABLE_FORM)
        body = bytearray(LENGTHS.pack(len(header), len(sections[0])) + header)
        for section in sections:
            body += section
        save_checked(cache_file(self.cache_dir, self.root, KIND), MAGIC, body)
