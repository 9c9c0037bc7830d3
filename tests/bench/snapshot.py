"""Capturing a work tree of 5,000 files, beside what people use for it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import base
from tests.bench.bench import Bench
from tests.bench.disk import bytes_below, need, remove
from tests.bench.harness import BenchError, Command, Contender, measure
from tests.bench.report import Fact, Table, say_bytes
from tests.bench.trees import WorkTree, make_work_tree

_REFERENCE = "git add -A, write-tree"

_GIT_ADD = """
[ -e "$GIT_INDEX_FILE" ] || cp .git/index "$GIT_INDEX_FILE"
git add --all && git write-tree
"""
_GIT_ADD_ALL = "git add --all && git write-tree"
_TAR = """
set -o pipefail
git ls-files -z --cached --others --exclude-standard |
  tar --create --null --no-recursion --files-from=- |
  zstd -q -3 -T0 >"$ARCHIVE" && b3sum "$ARCHIVE"
"""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """
    A way of capturing, with the folder in which it keeps what it captured.

    Attributes:
        command: What runs.
        store: Its folder.
        refill: What has to be in the folder for a first run.
        names_tree: A file to which it writes what it captured, to be checked.
    """

    name: str
    command: Command
    store: Path
    refill: Callable[[], None] | None = None
    names_tree: Path | None = None
    grown: list[int] = field(default_factory=list)

    def empty(self) -> None:
        """Forget everything."""
        remove(self.store)
        if self.refill is not None:
            self.refill()
        self.store.mkdir(parents=True, exist_ok=True)


def run(bench: Bench) -> list[Table]:
    """Measure the first capture, one of an unchanged tree, and one after a one-line edit."""
    need("git", "tar", "zstd", "b3sum", "bash")
    env = bench.env("snapshot")
    tree = make_work_tree(bench.folder / "snapshot" / "tree", env)
    peers = _peers(bench, tree, env)
    captured = f"{tree.file_count} files, {say_bytes(tree.size_bytes)}"
    first = _table(bench, peers, f"Snapshot of {captured}: first", setup=lambda peer: peer.empty())
    unchanged = _table(
        bench, peers, "Snapshot: again, unchanged", setup=lambda peer: None, must_change=False
    )
    edited = _edited(bench, peers, tree)
    return [first, unchanged, edited]


def _table(
    bench: Bench,
    peers: Sequence[Peer],
    title: str,
    *,
    setup: Callable[[Peer], None],
    must_change: bool | None = None,
    after: Callable[[Peer], None] = lambda peer: None,
) -> Table:
    contenders = []
    for peer in peers:
        before: list[str] = []

        def prepare(peer: Peer = peer, before: list[str] = before) -> None:
            before[:] = [_named(peer)]
            setup(peer)

        def check(peer: Peer = peer, before: list[str] = before) -> None:
            is_changed = _named(peer) != before[0]
            if peer.names_tree and must_change is not None and is_changed != must_change:
                raise BenchError(f"{peer.name} captured {_named(peer)} after {before[0]}")
            after(peer)

        contenders.append(Contender(name=peer.name, run=peer.command, setup=prepare, after=check))
    rows = measure(contenders, repetitions=bench.repetitions, reference=_REFERENCE)
    return Table(title=title, rows=rows)


def _edited(bench: Bench, peers: Sequence[Peer], tree: WorkTree) -> Table:
    held: dict[str, int] = {}

    def edit(peer: Peer) -> None:
        tree.edit()
        held[peer.name] = bytes_below(peer.store)

    def count(peer: Peer) -> None:
        peer.grown.append(bytes_below(peer.store) - held[peer.name])

    table = _table(
        bench,
        peers,
        "Snapshot: after a one-line edit",
        setup=edit,
        must_change=True,
        after=count,
    )
    facts = [
        Fact(
            name=f"store grows, {peer.name}",
            # An archive is written over the last one; to keep both costs one more of them.
            value=say_bytes(
                held[peer.name] if "tar" in peer.name else statistics.median(peer.grown)
            ),
        )
        for peer in peers
    ]
    return Table(title=table.title, rows=table.rows, facts=tuple(facts))


def _named(peer: Peer) -> str:
    if peer.names_tree is None or not peer.names_tree.exists():
        return ""
    return peer.names_tree.read_text()


def _peers(bench: Bench, tree: WorkTree, env: Mapping[str, str]) -> list[Peer]:
    stores = bench.folder / "snapshot" / "stores"
    return [
        _capture(bench, tree, env, stores / "capture"),
        _dry_run(bench, tree, env, stores / "dry-run"),
        _shell(_REFERENCE, _GIT_ADD, tree, env, stores / "git-add", alternates=True),
        _shell("git add -A, all objects", _GIT_ADD_ALL, tree, env, stores / "git-all"),
        _shell(
            "git stash create", "git stash create", tree, env, stores / "stash", alternates=True
        ),
        _shell("tar, zstd -3, b3sum", _TAR, tree, env, stores / "tar"),
    ]


def _capture(bench: Bench, tree: WorkTree, env: Mapping[str, str], store: Path) -> Peer:
    names_tree = store.with_suffix(".root")
    words = (os.fspath(tree.path), os.fspath(store), os.fspath(names_tree))
    argv = (*bench.program("capture.py"), *words)
    return Peer(
        name="ours, capture",
        command=Command(argv=argv, cwd=tree.path, env=env, has_parts=True),
        store=store,
        names_tree=names_tree,
    )


def _dry_run(bench: Bench, tree: WorkTree, env: Mapping[str, str], store: Path) -> Peer:
    argv = (bench.ours, "launch", "--dry-run", "--", "true")
    return Peer(
        name="ours, launch --dry-run",
        command=Command(
            argv=argv, cwd=tree.path, env={**env, "XMSLURM_REPRO_HOME": os.fspath(store)}
        ),
        store=store,
        refill=lambda: base.copy_home(bench, store),
    )


def _shell(
    name: str,
    script: str,
    tree: WorkTree,
    env: Mapping[str, str],
    store: Path,
    *,
    alternates: bool = False,
) -> Peer:
    """A peer in bash. With *alternates* git sees the repository's objects and adds to its own."""
    more = {"GIT_OBJECT_DIRECTORY": f"{store}/objects", "ARCHIVE": f"{store}/archive"}
    if alternates:
        more["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = f"{tree.path}/.git/objects"
    if "add" in script:
        more["GIT_INDEX_FILE"] = f"{store}/index"
    return Peer(
        name=name,
        command=Command(argv=("bash", "-ec", script), cwd=tree.path, env={**env, **more}),
        store=store,
        refill=lambda: (store / "objects").mkdir(parents=True),
    )
