"""Where a git repository is, by gitrepository-layout(5). Imports nothing."""

from __future__ import annotations

import os

Folders = tuple[bytes, bytes, bytes]
"""A work tree's root, its own git folder, and the one that linked work trees share."""


def folders_at(root: bytes) -> Folders | None:
    """The repository whose work tree's root is *root*, or ``None`` if it is no such root."""
    dot_git = os.path.join(root, b".git")
    if os.path.isdir(dot_git):
        git_dir = dot_git
    else:
        content = read_small(dot_git)
        if content is None or not content.startswith(b"gitdir: "):
            return None
        git_dir = os.path.normpath(os.path.join(root, content[8:].rstrip(b"\r\n")))
    common = read_small(os.path.join(git_dir, b"commondir"))
    common_dir = git_dir
    if common is not None:
        common_dir = os.path.normpath(os.path.join(git_dir, common.rstrip(b"\r\n")))
    return (root, git_dir, common_dir) if is_git_dir(git_dir, common_dir) else None


def is_git_dir(git_dir: bytes, common_dir: bytes) -> bool:
    """Whether *git_dir* is a repository's own folder."""
    return (
        os.path.lexists(os.path.join(git_dir, b"HEAD"))
        and os.path.isdir(os.path.join(common_dir, b"objects"))
        and os.path.isdir(os.path.join(common_dir, b"refs"))
    )


def may_be_elsewhere(common_dir: bytes) -> bool:
    """Whether the repository's configuration has to be asked where its work tree is."""
    config = read_small(os.path.join(common_dir, b"config")) or b""
    lowered = config.lower().replace(b"bare = false", b"")
    return b"worktree" in lowered or b"bare" in lowered


def simple_root(start: bytes) -> bytes | None:
    """
    The root of the work tree that holds the folder *start*, or *start* where none does.

    ``None`` where that takes more to tell, or cannot be: `repository.find_repository` does.
    """
    folder = start
    while True:
        found = folders_at(folder)
        if found is not None:
            return None if may_be_elsewhere(found[2]) else folder
        if is_git_dir(folder, folder):
            return None
        above = os.path.dirname(folder)
        if above == folder:
            return start
        folder = above


def read_small(path: bytes) -> bytes | None:
    """The bytes of a file, or ``None`` where there is no such file."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
