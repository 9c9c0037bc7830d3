"""A captured tree as a branch of a git repository: objects and one ref, nothing else."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmslurm_repro.errors import FormatError, StoreError, UsageError
from xmslurm_repro.ports.images import Branch
from xmslurm_repro.snapshot.git_objects import GitTree, IdNamer, LooseWriter, commit_body
from xmslurm_repro.snapshot.git_storage import open_objects, open_refs
from xmslurm_repro.snapshot.head_tree import read_root_tree
from xmslurm_repro.snapshot.repository import Repository, find_repository, repository_at
from xmslurm_repro.snapshot.tree import StoredTree
from xmslurm_repro.snapshot.work_tree import object_format

if TYPE_CHECKING:
    from dulwich.refs import Ref, RefsContainer

_IDENTITY = "xmslurm-repro <xmslurm-repro@localhost>"
_BRANCHES = b"refs/heads/"

Links = dict[bytes, tuple[bytes, bytes]]
"""What may stand for a folder: by path, the tree that it must equal, and the commit."""


def make_branch(
    tree: StoredTree,
    start: Path,
    name: str,
    *,
    base: str | None,
    message: str,
    time_s: int,
    submodules: Sequence[tuple[str, str]] = (),
) -> Branch:
    """
    Make the branch *name* in the repository that holds *start*: a commit of *tree*.

    Work tree, index, HEAD and all other refs stay untouched. The ref is made last, so a killed
    process leaves at most objects that nothing names, for git's own gc. The same arguments give
    the same commit.

    Args:
        tree: What the commit holds, byte for byte: no clean filter applies.
        start: A folder of the repository.
        name: Such as ``experiment-41``.
        base: The commit's parent, in hexadecimal; ``None`` for a commit without one.
        message: Of the commit.
        time_s: When it is said to be made, in seconds since 1970.
        submodules: Path and commit of each. It becomes a link to that commit where its files
            are exactly the commit's; a folder of files otherwise.

    Raises:
        NoRepositoryError: If *start* is in none.
        UsageError: If git would refuse the name, the branch is there, or *base* is not.
        StoreError: If the repository cannot be written.
    """
    from dulwich.objects import ObjectID  # noqa: PLC0415 (costs 40 ms)

    repository = find_repository(start)
    refs = open_refs(repository)
    ref = _free_ref(refs, name)
    hash_name = object_format(repository)
    with open_objects(repository, hash_name) as objects:

        def has(digits: bytes) -> bool:
            try:
                return ObjectID(digits) in objects
            except Exception as error:
                # The library raises a dozen unrelated types for damaged packs.
                raise FormatError(
                    f"cannot read the repository's objects: {error!r}",
                    hint="Run `git fsck` there.",
                ) from error

        if base is not None and not has(base.encode()):
            raise UsageError(
                f"this repository does not have commit {base}, which the snapshot is based on",
                hint="Fetch it first, or restore the files with `checkout` without `--branch`.",
            )
        links, plain = _links(repository, tree, hash_name, submodules)
        text = message if message.endswith("\n") else message + "\n"
        commit = _write(repository, tree, hash_name, has, links, (base, time_s, text), refs, ref)
    return Branch(commit=commit, linked=tuple(sorted(map(os.fsdecode, links))), plain=plain)


def _free_ref(refs: RefsContainer, name: str) -> Ref:
    from dulwich.refs import Ref, check_ref_format  # noqa: PLC0415 (costs 40 ms)

    ref = Ref(_BRANCHES + os.fsencode(name))
    if not check_ref_format(ref) or name.startswith("-") or name == "HEAD":
        raise UsageError(f"{name!r} cannot be the name of a branch")
    if ref in refs:
        raise _exists(name)
    for other in refs.subkeys(Ref(_BRANCHES)):
        taken = os.fsdecode(other)
        # git keeps no branch below another: a file cannot be a folder.
        if taken.startswith(name + "/") or name.startswith(taken + "/"):
            raise UsageError(
                f"there can be no branch {name} beside {taken}", hint="Give another name."
            )
    return ref


def _write(
    repository: Repository,
    tree: StoredTree,
    hash_name: str,
    has: Callable[[bytes], bool],
    links: Links,
    about: tuple[str | None, int, str],
    refs: RefsContainer,
    ref: Ref,
) -> str:
    from dulwich.file import FileLocked  # noqa: PLC0415 (costs 40 ms)
    from dulwich.objects import ObjectID  # noqa: PLC0415

    parent, time_s, message = about
    folder = os.path.join(repository.common_dir, b"objects")
    keep = LooseWriter(folder=folder, hash_name=hash_name, has=has)
    name = os.fsdecode(ref.removeprefix(_BRANCHES))
    try:
        root = GitTree(tree=tree, keep=keep, submodules=links, is_checked=True).root_id()
        body = commit_body(
            tree=root, parent=parent, identity=_IDENTITY, time_s=time_s, message=message
        )
        commit = keep(b"commit", len(body), lambda: io.BytesIO(body)).hex()
        is_new = refs.add_if_new(ref, ObjectID(commit.encode()))
    except FileLocked as error:
        raise StoreError(
            f"cannot write branch {name}: another program is writing it",
            hint="If none is, remove the lock that a killed one left.",
            details=[f"lock: {os.fsdecode(error.lockfilename)}"],
        ) from error
    except OSError as error:
        raise StoreError(
            f"cannot write branch {name}: {error.strerror or error}",
            details=[f"repository: {os.fsdecode(repository.git_dir)}"],
        ) from error
    if not is_new:
        raise _exists(name)
    return commit


def _links(
    outer: Repository, tree: StoredTree, hash_name: str, submodules: Iterable[tuple[str, str]]
) -> tuple[Links, tuple[tuple[str, str], ...]]:
    """Which submodules can be links, and which cannot, with the reason."""
    links: Links = {}
    plain: list[tuple[str, str]] = []
    # The deepest first: an outer one's tree holds the links of those in it.
    for path, commit in sorted(submodules, key=lambda found: -found[0].count("/")):
        inner = repository_at(os.path.join(outer.root, os.fsencode(path)))
        wanted = _tree_of(inner, commit)
        if wanted is None:
            plain.append((path, f"its commit {commit} is not here"))
            continue
        keep = IdNamer(hash_name=hash_name)
        naming = GitTree(tree=tree, keep=keep, submodules=links, is_checked=True)
        if naming.folder_id(os.fsencode(path)) == wanted:
            links[os.fsencode(path)] = wanted, bytes.fromhex(commit)
        else:
            plain.append((path, f"its files are not those of its commit {commit}"))
    return links, tuple(sorted(plain))


def _tree_of(inner: Repository | None, commit: str) -> bytes | None:
    if inner is None or commit == "unborn":
        return None
    try:
        return bytes.fromhex(read_root_tree(inner, commit))
    except FormatError:
        return None


def _exists(name: str) -> UsageError:
    return UsageError(f"there is a branch {name} already", hint="Give another name.")
