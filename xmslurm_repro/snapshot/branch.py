"""A captured tree as a branch of a git repository: objects and one ref, nothing else."""

from __future__ import annotations

import io
import os
from pathlib import Path

from xmslurm_repro.errors import FormatError, StoreError, UsageError
from xmslurm_repro.snapshot.git_objects import GitTree, LooseWriter, commit_body
from xmslurm_repro.snapshot.repository import find_repository
from xmslurm_repro.snapshot.tree import StoredTree

_IDENTITY = "xmslurm-repro <xmslurm-repro@localhost>"
_HASHES = {40: "sha1", 64: "sha256"}


def make_branch(
    tree: StoredTree, start: Path, name: str, *, base: str | None, message: str, time_s: int
) -> str:
    """
    Make the branch *name* in the repository that holds *start*: a commit of *tree*.

    Work tree, index, HEAD and all other refs stay untouched. The ref is made last, so a killed
    process leaves at most objects that nothing names, for git's own gc. The same arguments give
    the same commit.

    Args:
        tree: What the commit holds, byte for byte: no clean filter applies, and submodules are
            folders of files.
        start: A folder of the repository.
        name: Such as ``experiment-41``.
        base: The commit's parent, in hexadecimal; ``None`` for a commit without one.
        message: Of the commit.
        time_s: When it is said to be made, in seconds since 1970.

    Returns:
        The commit's id.

    Raises:
        NoRepositoryError: If *start* is in none.
        UsageError: If git would refuse the name, the branch is there, or *base* is not.
        StoreError: If the repository cannot be written.
    """
    from dulwich.refs import Ref, check_ref_format  # noqa: PLC0415 (costs 40 ms)
    from dulwich.repo import Repo  # noqa: PLC0415

    ref = Ref(b"refs/heads/" + os.fsencode(name))
    if not check_ref_format(ref) or name.startswith("-"):
        raise UsageError(f"{name!r} cannot be the name of a branch")
    repository = find_repository(start)
    with Repo(os.fsdecode(repository.root)) as repo:
        if ref in repo.refs:
            raise _exists(name)
        hash_name = repo.object_format.name.lower().replace("-", "")
        if base is not None and not _has(repo, base.encode()):
            raise UsageError(
                f"this repository does not have commit {base}, which the snapshot is based on",
                hint="Fetch it first, or restore the files with `checkout` without `--branch`.",
            )
        folder = os.path.join(repository.common_dir, b"objects")
        keep = LooseWriter(folder=folder, hash_name=hash_name, has=lambda oid: _has(repo, oid))
        try:
            root = GitTree(tree=tree, keep=keep).root_id()
            text = message if message.endswith("\n") else message + "\n"
            body = commit_body(
                tree=root, parent=base, identity=_IDENTITY, time_s=time_s, message=text
            )
            commit = keep(b"commit", len(body), lambda: io.BytesIO(body)).hex()
            is_new = repo.refs.add_if_new(ref, commit.encode())  # type: ignore[arg-type]
        except OSError as error:
            raise StoreError(
                f"cannot write branch {name}: {error.strerror or error}",
                details=[f"repository: {os.fsdecode(repository.git_dir)}"],
            ) from error
        if not is_new:
            raise _exists(name)
    return commit


def _exists(name: str) -> UsageError:
    return UsageError(f"there is a branch {name} already", hint="Give another name.")


def _has(repo: object, digits: bytes) -> bool:
    try:
        return digits in repo.object_store  # type: ignore[attr-defined]
    except Exception as error:
        # The library raises a dozen unrelated types for damaged packs.
        raise FormatError(
            f"cannot read the repository's objects: {error!r}", hint="Run `git fsck` there."
        ) from error
