"""Capturing a work tree: the way in, which is quick where nothing has changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xmslurm_repro import __version__
from xmslurm_repro.snapshot.recall import Recall

if TYPE_CHECKING:
    # Every import here is waited for at every launch.
    from xmslurm_repro.model.canonical import Json
    from xmslurm_repro.model.choice import Choice
    from xmslurm_repro.model.snapshot import Snapshot
    from xmslurm_repro.ports.progress import Progress
    from xmslurm_repro.ports.store import ObjectStore

_OF_GIT = (
    "HOME",
    "XDG_CONFIG_HOME",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
)
"""The variables that `git_settings` reads."""


def capture(
    start: Path,
    *,
    store: ObjectStore,
    cache_dir: Path,
    allow_unborn: bool = False,
    allow_no_repository: bool = False,
    choice: Choice | None = None,
    progress: Progress | None = None,
    environment: Mapping[str, str] | None = None,
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
    asked: Json = [
        __version__,
        allow_unborn,
        allow_no_repository,
        choice.to_json() if choice else None,
        *(environment.get(name) for name in _OF_GIT),
    ]
    recall = Recall(start, cache_dir=cache_dir, asked=asked)
    known = recall.snapshot(store)
    if known is not None:
        return known
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
        recall=recall,
    )
