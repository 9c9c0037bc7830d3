"""
The library's objects and refs of a repository, without its ``Repo``.

That one refuses repositories whose extensions change nothing for a reader (``partialClone``),
and looks for what is found already.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xmslurm_repro.snapshot.repository import Repository

if TYPE_CHECKING:
    from dulwich.object_store import DiskObjectStore
    from dulwich.refs import RefsContainer


def hash_name_of(commit: str) -> str:
    """By which function the repository of *commit*, in hexadecimal, names its objects."""
    return "sha256" if len(commit) == 64 else "sha1"


@contextmanager
def open_objects(repository: Repository, hash_name: str) -> Iterator[DiskObjectStore]:
    """
    All objects of *repository*, those that it borrows from others included.

    The library raises a dozen unrelated types for what is missing or damaged. Nothing is ever
    fetched.

    Args:
        repository: Whose.
        hash_name: ``sha1`` or ``sha256``.
    """
    from dulwich.object_format import get_object_format  # noqa: PLC0415 (costs 40 ms)
    from dulwich.object_store import DiskObjectStore  # noqa: PLC0415

    folder = os.path.join(os.fsdecode(repository.common_dir), "objects")
    store = DiskObjectStore(folder, object_format=get_object_format(hash_name))
    try:
        yield store
    finally:
        store.close()


def open_refs(repository: Repository) -> RefsContainer:
    """The refs of *repository*. No reflog is written."""
    if os.path.isdir(os.path.join(repository.common_dir, b"reftable")):
        from dulwich.reftable import ReftableRefsContainer  # noqa: PLC0415 (costs 40 ms)

        return ReftableRefsContainer(os.fsdecode(repository.common_dir))
    from dulwich.refs import DiskRefsContainer  # noqa: PLC0415 (costs 40 ms)

    return DiskRefsContainer(os.fsdecode(repository.common_dir), os.fsdecode(repository.git_dir))
