"""What git would call a captured tree, and whether others have its commit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING

from xmslurm_repro.errors import FormatError, NoRepositoryError, ReproError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.snapshot import Origin, Snapshot
from xmslurm_repro.ports.store import ObjectStore
from xmslurm_repro.snapshot.cache import cache_file, known_git_ids, save_checked
from xmslurm_repro.snapshot.git_objects import GitTree, IdNamer
from xmslurm_repro.snapshot.git_storage import hash_name_of, open_objects, open_refs
from xmslurm_repro.snapshot.head_tree import root_tree
from xmslurm_repro.snapshot.repository import Repository, find_repository, repository_at
from xmslurm_repro.snapshot.tree import StoredTree
from xmslurm_repro.snapshot.witnesses import load_checked, refs_digest

if TYPE_CHECKING:
    from dulwich.object_store import DiskObjectStore

_TREES_MAGIC = b"xmslurm-git-trees/1\n"
_REMOTE_MAGIC = b"xmslurm-on-remote/1\n"
_FEW_FILES = 32
_MOST_FOLDERS = 200_000
_MOST_COMMITS = 50_000
_SKEW_S = 7 * 24 * 3600
"""Clocks of committers differ; a commit may be dated before its parent."""


def identify(
    start: Path,
    snapshot: Snapshot,
    *,
    store: ObjectStore,
    cache_dir: Path,
    environment: Mapping[str, str],
) -> Snapshot:
    """
    Say what git would call *snapshot*, and whether a remote has its commit.

    The tree's id is computed from the captured bytes, so where it is that of the commit's tree
    the snapshot is the commit. Where git converts files, it is what git would write: a file that
    the capture did not call changed counts as the commit's. A submodule counts as its commit
    where its files are exactly that commit's.

    Args:
        start: The folder that was captured.
        snapshot: What was captured of it just now.
        store: Where it is.
        cache_dir: Where to remember ids of folders.
        environment: As for `capture`.

    Returns:
        The snapshot, its origin completed; unchanged where there is no commit.

    Raises:
        FormatError: If the repository's objects cannot be read.
        IntegrityError: If the store lacks an object.
    """
    try:
        repository = find_repository(start)
    except NoRepositoryError:
        return snapshot
    origin = snapshot.origin
    if origin.commit is None:
        return snapshot
    commit_tree = _tree_of(repository, origin.commit, cache_dir)
    hash_name = hash_name_of(origin.commit)
    tree = GitTree(
        tree=StoredTree(store, snapshot.root),
        keep=IdNamer(hash_name=hash_name),
        submodules=dict(_submodules(repository, origin, cache_dir)),
        known_blob=_BlobIds(cache_file(cache_dir, repository.root, "stat"), hash_name).of,
    )
    remembered = cache_file(cache_dir, repository.root, "trees")
    size = _load(tree, remembered, hash_name)
    name = tree.root_id().hex()
    if len(tree.known) != size:
        _save(tree, remembered, hash_name)
    converted: tuple[str, ...] = ()
    if name != commit_tree:
        place = cache_file(cache_dir, repository.root, "git")
        name, converted = _written(repository, tree, origin, environment, place) or (name, ())
    completed = replace(
        origin,
        tree=name,
        commit_tree=commit_tree,
        converted=converted,
        on_remote=_is_on_remote(repository, origin.commit, cache_dir),
    )
    return replace(snapshot, origin=completed)


class _BlobIds:
    """Ids of files that the capture took down when it read them."""

    def __init__(self, remembered: Path, hash_name: str) -> None:
        self._remembered = remembered
        self._width = 32 if hash_name == "sha256" else 20
        self._known: dict[bytes, bytes] | None = None
        self._asked = 0

    def of(self, digest: Digest) -> bytes | None:
        self._asked += 1
        if self._known is None:
            # After an edit a few files are read sooner than what is known of all.
            if self._asked <= _FEW_FILES:
                return None
            self._known = known_git_ids(self._remembered, self._width)
        return self._known.get(bytes.fromhex(digest.hex))


def _written(
    repository: Repository,
    tree: GitTree,
    origin: Origin,
    environment: Mapping[str, str],
    remembered: Path,
) -> tuple[str, tuple[str, ...]] | None:
    """What git would write, if not the bytes, and what it would convert for that."""
    # Whoever waits for a clean tree does not wait for these.
    from xmslurm_repro.snapshot.git_settings import read_settings  # noqa: PLC0415
    from xmslurm_repro.snapshot.paths import shown  # noqa: PLC0415
    from xmslurm_repro.snapshot.written import WrittenTree, may_differ  # noqa: PLC0415

    settings, _ = read_settings(repository, environment, remembered)
    commit_tree = root_tree(repository, str(origin.commit), remembered.with_suffix(".head"))
    place = os.path.join(repository.common_dir, b"info", b"attributes")
    own = Path(os.fsdecode(place)).read_bytes() if os.path.isfile(place) else b""
    converts = settings.auto_crlf or not settings.file_mode
    if not may_differ(tree.tree, origin, converts=converts, own_attributes=own):
        return None
    try:
        with open_objects(repository, settings.hash_name) as objects:
            written = WrittenTree.of(tree, objects, origin)
            name = written.root_id(bytes.fromhex(commit_tree)).hex()
            return name, tuple(sorted(map(shown, written.converted)))
    except ReproError:
        raise
    except Exception as error:
        # The library raises a dozen unrelated types here, from KeyError to zlib.error.
        raise FormatError(
            f"{os.fsdecode(repository.git_dir)}: cannot read tree {commit_tree}: {error!r}",
            hint="Run `git fsck` in the repository.",
        ) from error


def _tree_of(repository: Repository, commit: str, cache_dir: Path) -> str:
    return root_tree(repository, commit, cache_file(cache_dir, repository.root, "head"))


def _submodules(
    outer: Repository, origin: Origin, cache_dir: Path
) -> Iterator[tuple[bytes, tuple[bytes, bytes]]]:
    untracked = {path for path, what in origin.changed if what == "untracked"}
    for path, commit in origin.submodules:
        inner = repository_at(os.path.join(outer.root, os.fsencode(path)))
        if path in untracked or commit == "unborn" or inner is None:
            continue
        tree = _tree_of(inner, commit, cache_dir)
        yield os.fsencode(path), (bytes.fromhex(tree), bytes.fromhex(commit))


def _load(tree: GitTree, remembered: Path, hash_name: str) -> int:
    body = load_checked(remembered, _TREES_MAGIC)
    if body is not None and body.startswith(hash_name.encode() + b"\n"):
        records = body.partition(b"\n")[2]
        step = 32 + (32 if hash_name == "sha256" else 20)
        for at in range(0, len(records), step):
            node = Digest.blake3(records[at : at + 32].hex())
            tree.known[node] = records[at + 32 : at + step]
    return len(tree.known)


def _save(tree: GitTree, remembered: Path, hash_name: str) -> None:
    newest = list(tree.known.items())[-_MOST_FOLDERS:]
    records = b"".join(bytes.fromhex(node.hex) + name for node, name in newest)
    save_checked(remembered, _TREES_MAGIC, hash_name.encode() + b"\n" + records)


def _is_on_remote(repository: Repository, commit: str, cache_dir: Path) -> bool | None:
    """Whether a branch of a remote holds *commit*; ``None`` if that would take too long to say."""
    remembered = cache_file(cache_dir, repository.root, "remote")
    key = f"{commit} {refs_digest(repository.common_dir)} ".encode()
    body = load_checked(remembered, _REMOTE_MAGIC)
    if body is not None and body.startswith(key):
        return body == key + b"yes"
    try:
        tips = open_refs(repository).as_dict(b"refs/remotes").values()  # type: ignore[arg-type]
        with open_objects(repository, hash_name_of(commit)) as objects:
            found = _walk(objects, {bytes(tip) for tip in tips}, commit.encode())
    except Exception as error:
        # The library raises a dozen unrelated types here, from KeyError to zlib.error.
        raise FormatError(
            f"{os.fsdecode(repository.git_dir)}: cannot read its history: {error!r}",
            hint="Run `git fsck` in the repository.",
        ) from error
    if found is not None:
        save_checked(remembered, _REMOTE_MAGIC, key + (b"yes" if found else b"no"))
    return found


def _walk(store: DiskObjectStore, tips: set[bytes], wanted: bytes) -> bool | None:
    """Go back from the remotes' branches, the newest commit first, until older than *wanted*."""
    from dulwich.objects import Commit  # noqa: PLC0415 (costs 40 ms)

    if wanted in tips:
        return True
    target = store[wanted]  # type: ignore[index]
    assert isinstance(target, Commit)  # noqa: S101 (HEAD's, read before)
    heap: list[tuple[int, bytes]] = []
    seen = set(tips)

    def push(name: bytes) -> None:
        # A shallow clone lacks parents.
        with suppress(KeyError):
            found = store[name]  # type: ignore[index]
            if isinstance(found, Commit):
                heappush(heap, (-found.commit_time, name))

    for tip in tips:
        push(tip)
    while heap:
        if len(seen) > _MOST_COMMITS:
            return None
        negative_time, name = heappop(heap)
        if -negative_time < target.commit_time - _SKEW_S:
            return False
        commit = store[name]  # type: ignore[index]
        assert isinstance(commit, Commit)  # noqa: S101 (pushed as one)
        for parent in commit.parents:
            if parent == wanted:
                return True
            if parent not in seen:
                seen.add(parent)
                push(parent)
    return False
