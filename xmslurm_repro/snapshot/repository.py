"""Where a git repository is, and what its HEAD names. Reads a few small files.

By gitrepository-layout(5). What is rare (reftable, a HEAD that is a link) goes to the library.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xmslurm_repro.errors import FormatError, NoRepositoryError
from xmslurm_repro.snapshot.git_folders import (
    folders_at,
    is_git_dir,
    may_be_elsewhere,
    read_small,
)

_MAX_SYMBOLIC_REFS = 5
_BRANCHES = "refs/heads/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """
    A work tree and its git folders, as paths of bytes.

    Attributes:
        root: The folder that holds ``.git``, or that ``core.worktree`` names.
        git_dir: What is this work tree's own: HEAD, index.
        common_dir: What linked work trees share: refs, objects, config. Often the same.
    """

    root: bytes
    git_dir: bytes
    common_dir: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The branch that HEAD names (``None`` when detached) and its commit (``None``: unborn)."""

    branch: str | None
    commit: str | None


def find_work_tree(start: Path) -> Path:
    """
    The root of the git work tree that holds the folder *start*.

    Raises:
        NoRepositoryError: If there is none.
    """
    return Path(os.fsdecode(find_repository(start).root))


def find_repository(start: Path) -> Repository:
    """
    The repository that git finds from the folder *start*, with its work tree.

    Raises:
        NoRepositoryError: If there is none, or it has no work tree.
    """
    folder = start.resolve()
    for candidate in (folder, *folder.parents):
        place = os.fsencode(candidate)
        found = repository_at(place)
        if found is not None:
            return _placed(found)
        if is_git_dir(place, place):
            raise NoRepositoryError(
                f"{candidate} is a repository's own folder, not a work tree",
                hint="Go to the folder that your files are in; a bare repository has none.",
            )
    raise NoRepositoryError(
        f"{folder} is in no git repository",
        hint="Run `git init` and commit once, or pass `--no-git` to capture the folder as it is.",
    )


def repository_at(root: bytes) -> Repository | None:
    """The repository whose work tree's root is *root*, or ``None`` if it is no such root."""
    found = folders_at(root)
    if found is None:
        return None
    return Repository(root=found[0], git_dir=found[1], common_dir=found[2])


def _placed(found: Repository) -> Repository:
    """The repository with its work tree, which is nearly always where it was found."""
    if not may_be_elsewhere(found.common_dir):
        return found
    from xmslurm_repro.snapshot.work_tree import placed  # noqa: PLC0415 (costs 25 ms)

    return placed(found)


def read_head(repository: Repository) -> Head:
    """
    What HEAD names now.

    Raises:
        FormatError: If HEAD or a ref is damaged.
    """
    path = os.path.join(repository.git_dir, b"HEAD")
    is_unusual = os.path.islink(path) or os.path.isdir(
        os.path.join(repository.common_dir, b"reftable")
    )
    if is_unusual:
        return _ask_library(repository)
    content = (read_small(path) or b"").strip()
    if not content.startswith(b"ref:"):
        return Head(branch=None, commit=_commit_id(content, path))
    ref = content[4:].strip()
    return Head(branch=_branch(ref), commit=_resolve(repository, ref))


def head_files(repository: Repository) -> list[str] | None:
    """The files that decide what HEAD names, or ``None`` where these are not all."""
    path = os.path.join(repository.git_dir, b"HEAD")
    if os.path.islink(path) or os.path.isdir(os.path.join(repository.common_dir, b"reftable")):
        return None
    paths = [path, os.path.join(repository.common_dir, b"packed-refs")]
    content = read_small(path)
    while content is not None and content.startswith(b"ref:") and len(paths) < 8:
        paths.append(os.path.join(repository.common_dir, content[4:].strip()))
        content = read_small(paths[-1])
    return [os.fsdecode(path) for path in paths]


def _resolve(repository: Repository, ref: bytes) -> str | None:
    for _ in range(_MAX_SYMBOLIC_REFS):
        path = os.path.join(repository.common_dir, ref)
        content = read_small(path)
        if content is None:
            return _packed(repository, ref)
        content = content.strip()
        if not content.startswith(b"ref:"):
            return _commit_id(content, path)
        ref = content[4:].strip()
    raise FormatError(f"{os.fsdecode(repository.git_dir)}: HEAD leads through too many refs")


def _packed(repository: Repository, ref: bytes) -> str | None:
    path = os.path.join(repository.common_dir, b"packed-refs")
    ending = b" " + ref
    for line in (read_small(path) or b"").splitlines():
        if line.endswith(ending) and not line.startswith((b"#", b"^")):
            return _commit_id(line[: -len(ending)], path)
    return None


def _commit_id(content: bytes, path: bytes) -> str:
    digits = content.decode("ascii", "replace")
    if len(digits) not in {40, 64} or not set(digits) <= set("0123456789abcdef"):
        raise FormatError(
            f"{os.fsdecode(path)}: expected a commit id, found {digits[:80]!r}",
            hint="Run `git fsck` in the repository.",
        )
    return digits


def _branch(ref: bytes) -> str:
    return ref.decode("utf-8", "backslashreplace").removeprefix(_BRANCHES)


def _ask_library(repository: Repository) -> Head:
    from xmslurm_repro.snapshot.git_storage import open_refs  # noqa: PLC0415 (costs 40 ms)

    chain, commit = open_refs(repository).follow(b"HEAD")  # type: ignore[arg-type]
    branch = _branch(chain[-1]) if len(chain) > 1 else None
    return Head(branch=branch, commit=commit.decode("ascii") if commit else None)
