"""Snapshots and targets for the tests of locks."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import BinaryIO

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.lock import Target
from xmslurm_repro.model.snapshot import EntryKind, PathEntry
from xmslurm_repro.store.memory import MemoryObjectStore


class FilesTree:
    """A captured tree of plain files, over a store that holds their contents."""

    def __init__(self, store: MemoryObjectStore, files: Mapping[str, bytes | str]) -> None:
        self._store = store
        self._entries: dict[str, PathEntry] = {}
        for path, content in sorted(files.items()):
            data = content.encode() if isinstance(content, str) else content
            self._entries[path] = PathEntry(
                path=path.encode(),
                kind=EntryKind.FILE,
                digest=store.put(data),
                size_bytes=len(data),
            )
        self.reads: list[str] = []

    @property
    def root(self) -> Digest:
        return Digest.blake3("0" * 64)

    def entries(self) -> list[PathEntry]:
        return list(self._entries.values())

    def find(self, path: str) -> PathEntry | None:
        return self._entries.get(path)

    def read(self, path: str) -> bytes | None:
        self.reads.append(path)
        entry = self._entries.get(path)
        return self._store.get(entry.digest) if entry else None

    def open(self, digest: Digest) -> BinaryIO:
        return io.BytesIO(self._store.get(digest))


def target(
    python: str = "3.11.2",
    architecture: str = "amd64",
    libc: tuple[str, int, int] = ("glibc", 2, 36),
) -> Target:
    """A base image's platform; Debian 12 on amd64 unless told otherwise."""
    return Target(
        architecture=architecture,
        libc=libc,
        python=python,
        python_executable="/usr/bin/python3",
        source="a test's base",
    )
