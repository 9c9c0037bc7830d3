"""Where a repository's work tree is, when its own configuration says so (git-config(1))."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from xmslurm_repro.errors import FormatError, NoRepositoryError
from xmslurm_repro.snapshot.repository import Repository

if TYPE_CHECKING:
    from dulwich.config import ConfigFile

_FALSE = {b"false", b"no", b"off", b"0", b""}


def placed(repository: Repository) -> Repository:
    """
    *repository* with the work tree that ``core.worktree`` names; itself where nothing does.

    As git does, only the repository's own files are asked, without what they include, and for a
    linked work tree only its own.

    Raises:
        NoRepositoryError: If it has no work tree (``core.bare``).
        FormatError: If a file is damaged.
    """
    shared = _read(os.path.join(repository.common_dir, b"config"))
    own = None
    if shared is not None and _is_true(shared, b"extensions", b"worktreeConfig"):
        own = _read(os.path.join(repository.git_dir, b"config.worktree"))
    is_linked = repository.git_dir != repository.common_dir
    files = [file for file in (own, None if is_linked else shared) if file is not None]
    if _value(files, b"bare", b"false").lower() not in _FALSE:
        raise NoRepositoryError(
            f"the repository {os.fsdecode(repository.git_dir)} is bare: it has no work tree",
            hint="Launch from one of its work trees (`git worktree list`), or set `core.bare` to"
            " false.",
        )
    configured = _value(files, b"worktree", b"")
    if not configured:
        return repository
    elsewhere = os.path.realpath(os.path.join(repository.git_dir, configured))
    return replace(repository, root=elsewhere)


def object_format(repository: Repository) -> str:
    """
    By which function objects are named: ``sha1`` or ``sha256``.

    Raises:
        FormatError: If the configuration is damaged.
    """
    shared = _read(os.path.join(repository.common_dir, b"config"))
    try:
        found = shared.get((b"extensions",), b"objectFormat") if shared else b"sha1"
    except KeyError:
        return "sha1"
    return os.fsdecode(found.lower())


def _read(path: bytes) -> ConfigFile | None:
    from dulwich.config import ConfigFile  # noqa: PLC0415 (costs 25 ms)

    try:
        with open(path, "rb") as file:
            return ConfigFile.from_file(file, expand_includes=False)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FormatError(
            f"{os.fsdecode(path)}: cannot be read as a configuration of git: {error}",
            hint="Run `git config --list` to see what git makes of it.",
        ) from error


def _value(files: Sequence[ConfigFile], name: bytes, default: bytes) -> bytes:
    for file in files:
        with suppress(KeyError):
            return file.get((b"core",), name)
    return default


def _is_true(file: ConfigFile, section: bytes, name: bytes) -> bool:
    try:
        return file.get((section,), name).lower() not in _FALSE
    except KeyError:
        return False
