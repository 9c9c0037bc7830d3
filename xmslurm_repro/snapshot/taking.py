"""Capturing a work tree: the way in, which is quick where nothing has changed."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from xmslurm_repro.errors import FormatError, ReproError
from xmslurm_repro.snapshot.looking import find_changed
from xmslurm_repro.snapshot.memory import Looked, asked_for, recall, work_tree_of
from xmslurm_repro.snapshot.recall import snapshot_of

if TYPE_CHECKING:
    # Every import here is waited for at every launch.
    from collections.abc import Mapping
    from pathlib import Path

    from xmslurm_repro.model.choice import Choice
    from xmslurm_repro.model.snapshot import Snapshot
    from xmslurm_repro.ports.progress import Progress
    from xmslurm_repro.ports.store import ObjectStore
    from xmslurm_repro.snapshot.memory import Asked


def capture(  # noqa: PLR0913 (all that a capture depends on)
    start: Path,
    *,
    store: ObjectStore,
    cache_dir: Path,
    allow_unborn: bool = False,
    allow_no_repository: bool = False,
    choice: Choice | None = None,
    progress: Progress | None = None,
    environment: Mapping[str, str] | None = None,
    with_git_ids: bool = False,
    looked: Looked | None = None,
) -> Snapshot:
    """
    Capture the whole work tree that holds the folder *start*.

    It holds what ``git ls-files --cached --others --exclude-standard`` lists, less what is
    deleted, with the bytes, exec bits and links of the work tree: no filter, no end-of-line
    rule, no attribute applies. Submodules and nested repositories are captured likewise, to any
    depth. Nothing is ever written to the work tree or the repository. Afterwards the store
    holds every file and node.

    Args:
        start: A folder in the work tree.
        store: Where files and nodes go.
        cache_dir: Where to remember what was read, so that an unchanged file is not read again.
        allow_unborn: Whether a repository without a commit will do.
        allow_no_repository: Whether to capture *start* itself where there is no repository;
            ``.gitignore`` files below it count.
        choice: What to let in beyond git's rules, what to leave out, and what to refuse;
            ``None`` for git's rules alone.
        progress: Told of bytes read.
        environment: Where git's own configuration is found (HOME, XDG_CONFIG_HOME,
            GIT_CONFIG_GLOBAL, GIT_CONFIG_SYSTEM); by default this process's.
        with_git_ids: Whether git's ids of files that are read are to be remembered for
            `snapshot.identity`, which would have to read them again.
        looked: What a look at the work tree found a moment ago, with the same asked for and the
            same store; by default it is looked at now.

    Raises:
        UsageError: If *start* is no folder.
        NoRepositoryError: If *start* is in no repository, and that is not allowed.
        UnbornHeadError: If HEAD has no commit, and that is not allowed.
        UnreadableError: If files or folders cannot be read; names all of them.
        DoubtfulFilesError: If *choice* refuses files; names all of them.
        ChangingFileError: If files kept changing while they were read; names all of them.
        FormatError: If the repository's own files are damaged.
        StoreError: If *store* or *cache_dir* cannot be written.
    """
    if environment is None:
        # git is steered by these, and we promise to capture what git would list.
        environment = os.environ  # noqa: TID251 (the one place; callers may give another)
    asked = asked_for(
        environment,
        allow_unborn=allow_unborn,
        allow_no_repository=allow_no_repository,
        choice=choice.to_json() if choice else None,
    )
    if looked is None or not store.has_places(looked.memory.places):
        looked = _look(start, store, cache_dir, asked)
    if looked is not None and looked.changed == []:
        with suppress(FormatError):
            return snapshot_of(looked.memory)
    if looked is not None and looked.changed:
        from xmslurm_repro.snapshot.amending import amend  # noqa: PLC0415 (costs 30 ms)

        access = environment, cache_dir
        amended = amend(looked, store=store, access=access, choice=choice, progress=progress)
        if amended is not None:
            return amended
    # Of a large tree it takes 10 MB, which a look at everything needs itself.
    looked = None
    from xmslurm_repro.snapshot.capturing import capture_anew  # noqa: PLC0415 (costs 30 ms)

    return capture_anew(
        start,
        store=store,
        environment=environment,
        cache_dir=cache_dir,
        allow_unborn=allow_unborn,
        allow_no_repository=allow_no_repository,
        choice=choice,
        progress=progress,
        with_git_ids=with_git_ids,
        asked=asked,
    )


def _look(start: Path, store: ObjectStore, cache_dir: Path, asked: Asked) -> Looked | None:
    root = work_tree_of(start) or _unusual_root(start)
    memory = recall(root, cache_dir=cache_dir, asked=asked)
    if root is None or memory is None or not store.has_places(memory.places):
        return None
    return Looked(root, memory, find_changed(root, memory.names, memory.stamps))


def _unusual_root(start: Path) -> bytes | None:
    from xmslurm_repro.snapshot.repository import find_repository  # noqa: PLC0415 (rare)

    with suppress(ReproError, OSError):
        return find_repository(start).root
    return None
