"""What a sparse checkout has in the work tree all the same (git-sparse-checkout(1))."""

from __future__ import annotations

import os

from xmslurm_repro.errors import FormatError
from xmslurm_repro.snapshot.git_storage import open_objects
from xmslurm_repro.snapshot.index import Index, expanded
from xmslurm_repro.snapshot.repository import Repository


def expand(repository: Repository, index: Index, hash_name: str) -> Index:
    """
    *index* with the files of each folder that it keeps as one entry and that is there anyway.

    Such a folder should not be there; what lies in it is tracked, though rules may ignore it.

    Raises:
        FormatError: If the trees of these folders cannot be read.
    """
    there = {
        path: tree
        for path, tree in index.collapsed.items()
        if os.path.lexists(os.path.join(repository.root, path))
    }
    if not there:
        return index
    from dulwich.objects import ObjectID  # noqa: PLC0415 (costs 40 ms)

    added: dict[bytes, tuple[int, bytes]] = {}
    try:
        with open_objects(repository, hash_name) as objects:
            for folder, tree in there.items():
                name = ObjectID(tree.hex().encode())
                for found in objects.iter_tree_contents(name, max_depth=None):
                    if found.path is not None and found.mode is not None and found.sha is not None:
                        path = folder + b"/" + found.path
                        added[path] = found.mode, bytes.fromhex(found.sha.decode("ascii"))
    except Exception as error:
        raise _unreadable(repository, "a folder of the sparse index", error) from error
    return expanded(index, added, there.keys())


def absent_rules(repository: Repository, index: Index, path: bytes, hash_name: str) -> bytes:
    """
    The rules of the ignore file *path*, which the sparse checkout leaves out: git reads them
    from the index then.

    Raises:
        FormatError: If the repository lacks them.
    """
    from dulwich.objects import ObjectID  # noqa: PLC0415 (costs 40 ms)

    name = ObjectID(index.entries[path].object_id.hex().encode())
    try:
        with open_objects(repository, hash_name) as objects:
            return bytes(objects[name].as_raw_string())
    except Exception as error:
        raise _unreadable(repository, os.fsdecode(path), error) from error


def _unreadable(repository: Repository, what: str, error: Exception) -> FormatError:
    # The library raises a dozen unrelated types here, from KeyError to zlib.error.
    return FormatError(
        f"{os.fsdecode(repository.git_dir)}: cannot read {what}: {error!r}",
        hint="Run `git fsck` in the repository; a partial clone may need `git fetch` first.",
    )
