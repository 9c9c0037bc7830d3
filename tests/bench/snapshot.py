"""Capturing work trees of three sizes, beside what people use for it."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.disk import bytes_below, need, remove
from tests.bench.harness import BenchError, Command, Contender, measure, run_command
from tests.bench.report import Fact, Table, say_bytes
from tests.bench.sized_trees import SUBMODULE, make_large, make_middle, make_small
from tests.bench.trees import WorkTree

SIZES: Mapping[str, Callable[[Path, Mapping[str, str]], WorkTree]] = {
    "small": make_small,
    "middle": make_middle,
    "large": make_large,
}
SCENARIOS = ("first", "unchanged", "edit", "cold", "fifty")

_EDITS = 50
_REFERENCE = "git add -A, write-tree"
_TAR_NAME = "tar, zstd -3, b3sum"
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")

_GIT_ADD = """
[ -e "$GIT_INDEX_FILE" ] || cp .git/index "$GIT_INDEX_FILE"
git add --all && git write-tree
"""
_LIST = f"""{{
  git ls-files -z --cached --others --exclude-standard
  git -C {SUBMODULE} ls-files -z --cached --others --exclude-standard | sed -z 's|^|{SUBMODULE}/|'
}}"""
"""The files that we capture: git lists those of a submodule in the submodule only."""
_TAR = f"""
set -o pipefail
{_LIST} |
  tar --create --null --no-recursion --files-from=- |
  zstd -q -3 -T0 >"$ARCHIVE" && b3sum "$ARCHIVE"
"""
_BORG_INIT = "borg init --encryption=none $STORE/repository"
_BORG = f"""
set -o pipefail
{_LIST} | borg create --compression zstd,3 --paths-from-stdin --paths-delimiter '\\0' \
  "$STORE/repository::$(date +%s%N)"
"""
_RESTIC_INIT = "restic init"
_RESTIC = f"set -o pipefail; {_LIST} >$STORE/list; restic backup --files-from-raw $STORE/list"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """
    A way of capturing, with the folder in which it keeps what it captured.

    Attributes:
        command: What runs.
        store: Its folder.
        init: A script that makes the store in the empty folder.
        names_tree: A file to which it writes what it captured, to be checked.
        scenarios: Those in which it takes part.
    """

    name: str
    command: Command
    store: Path
    init: str = ""
    names_tree: Path | None = None
    scenarios: Sequence[str] = SCENARIOS
    grown: list[int] = field(default_factory=list)

    def empty(self) -> None:
        """Forget everything."""
        remove(self.store)
        self.store.mkdir(parents=True)
        if self.init:
            words = ["bash", "-ec", self.init]
            subprocess.run(words, env=dict(self.command.env), check=True, capture_output=True)


def run(bench: Bench) -> Iterator[Table]:
    """Measure the chosen scenarios on trees of the chosen sizes."""
    need("git", "tar", "zstd", "b3sum", "bash", "borg", "restic")
    for size in bench.sizes or SIZES:
        yield from _of_size(bench, size)


def _of_size(bench: Bench, size: str) -> Iterator[Table]:
    env = bench.env("snapshot")
    folder = bench.folder / "snapshot"
    bench.log(f"making the {size} tree …")
    tree = SIZES[size](folder / "trees" / size, env)
    peers = _peers(bench, tree, env, folder / "stores" / size)
    for peer in peers:
        peer.empty()
    what = f"Snapshot, {size}, {tree.file_count} files, {say_bytes(tree.size_bytes)}"
    repetitions = bench.repetitions * (3 if size == "small" else 1)
    measures = {
        "first": lambda: _table(
            peers, f"{what}: first", repetitions, "first", setup=lambda peer: peer.empty()
        ),
        "unchanged": lambda: _table(peers, f"{what}: unchanged", repetitions, "unchanged"),
        "edit": lambda: _edited(peers, tree, f"{what}: after a one-line edit", repetitions),
        "cold": lambda: _table(
            peers, f"{what}: unchanged, cold cache", min(3, repetitions), "cold", setup=_drop_caches
        ),
        "fifty": lambda: _fifty(peers, tree, f"{what}: {_EDITS} edits, one after the other"),
    }
    for scenario in SCENARIOS:
        if scenario in (bench.scenarios or SCENARIOS):
            yield measures[scenario]()
    remove(folder / "stores" / size)


def _drop_caches(_: Peer) -> None:
    """Let nothing of any file be in memory. Needs root; slows down whatever else runs."""
    os.sync()
    _DROP_CACHES.write_text("3\n")


def _table(
    peers: Sequence[Peer],
    title: str,
    repetitions: int,
    scenario: str,
    *,
    setup: Callable[[Peer], None] = lambda peer: None,
    after: Callable[[Peer], None] = lambda peer: None,
) -> Table:
    contenders = []
    for peer in peers:
        if scenario not in peer.scenarios:
            continue
        before: list[str] = []
        is_again: list[bool] = []

        def prepare(peer: Peer = peer, before: list[str] = before) -> None:
            before[:] = [_named(peer)]
            setup(peer)

        def check(
            peer: Peer = peer, before: list[str] = before, is_again: list[bool] = is_again
        ) -> None:
            is_changed = _named(peer) != before[0]
            # Before the warm-up there may have been an edit, or nothing.
            if peer.names_tree and is_again and is_changed != (scenario == "edit"):
                raise BenchError(f"{peer.name} captured {_named(peer)} after {before[0]}")
            is_again.append(True)
            after(peer)

        contenders.append(Contender(name=peer.name, run=peer.command, setup=prepare, after=check))
    rows = measure(contenders, repetitions=repetitions, reference=_REFERENCE)
    return Table(title=title, rows=rows)


def _edited(peers: Sequence[Peer], tree: WorkTree, title: str, repetitions: int) -> Table:
    held: dict[str, int] = {}

    def edit(peer: Peer) -> None:
        tree.edit()
        held[peer.name] = bytes_below(peer.store)

    def count(peer: Peer) -> None:
        peer.grown.append(bytes_below(peer.store) - held[peer.name])

    table = _table(peers, title, repetitions, "edit", setup=edit, after=count)
    facts = [
        Fact(
            name=f"store grows, {peer.name}",
            # An archive is written over the last one; to keep both costs one more of them.
            value=say_bytes(
                held[peer.name] if peer.name == _TAR_NAME else statistics.median(peer.grown)
            ),
        )
        for peer in peers
        if peer.grown
    ]
    return Table(title=table.title, rows=table.rows, facts=tuple(facts))


def _fifty(peers: Sequence[Peer], tree: WorkTree, title: str) -> Table:
    facts = []
    for peer in peers:
        if "fifty" in peer.scenarios:
            run_command(peer.command, peer.name)
            before = bytes_below(peer.store)
            for _ in range(_EDITS):
                tree.edit()
                run_command(peer.command, peer.name)
            after = bytes_below(peer.store)
            value = f"{say_bytes(before)} become {say_bytes(after)}"
            facts.append(Fact(name=f"store, {peer.name}", value=value))
    return Table(title=title, facts=tuple(facts))


def _named(peer: Peer) -> str:
    if peer.names_tree is None or not peer.names_tree.exists():
        return ""
    return peer.names_tree.read_text()


def _peers(bench: Bench, tree: WorkTree, env: Mapping[str, str], stores: Path) -> list[Peer]:
    remove(stores)

    def shell(name: str, script: str, **options: object) -> Peer:
        return _shell(name, script, tree, env, stores / str(len(made)), **options)

    made: list[Peer] = []
    made.append(_capture(bench, tree, env, stores / "capture"))
    if _has_command(bench, env):
        made.append(_command(bench, tree, env, stores / "command"))
    made.append(shell(_REFERENCE, _GIT_ADD, alternates=True))
    made.append(
        shell("git stash create", "git stash create", alternates=True, scenarios=_MANY_TIMES)
    )
    made.append(shell(_TAR_NAME, _TAR, scenarios=("first", *_MANY_TIMES, "cold")))
    made.append(shell("borg", _BORG, init=_BORG_INIT))
    made.append(shell("restic", _RESTIC, init=_RESTIC_INIT, scenarios=("first", *_MANY_TIMES)))
    made.append(
        Peer(
            name="python -c pass",
            command=Command(argv=(*bench.program("nothing.py"),), cwd=tree.path, env=env),
            store=stores / "nothing",
            scenarios=("unchanged",),
        )
    )
    return made


_MANY_TIMES = ("unchanged", "edit")


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


def _has_command(bench: Bench, env: Mapping[str, str]) -> bool:
    words = [bench.ours, "snapshot", "--help"]
    return subprocess.run(words, env=dict(env), capture_output=True, check=False).returncode == 0


def _command(bench: Bench, tree: WorkTree, env: Mapping[str, str], store: Path) -> Peer:
    return Peer(
        name="ours, the command",
        command=Command(
            argv=(bench.ours, "snapshot"),
            cwd=tree.path,
            env={**env, "XMSLURM_REPRO_HOME": os.fspath(store)},
        ),
        store=store,
    )


def _shell(
    name: str,
    script: str,
    tree: WorkTree,
    env: Mapping[str, str],
    store: Path,
    *,
    alternates: bool = False,
    init: str = "",
    scenarios: Sequence[str] = SCENARIOS,
) -> Peer:
    """A peer in bash. With *alternates* git sees the repository's objects and adds to its own."""
    more = {
        "STORE": os.fspath(store),
        "ARCHIVE": f"{store}/archive",
        "BORG_BASE_DIR": f"{store}/borg",
        "RESTIC_REPOSITORY": f"{store}/repository",
        "RESTIC_CACHE_DIR": f"{store}/cache",
        "RESTIC_PASSWORD": "bench",
    }
    if alternates:
        more["GIT_OBJECT_DIRECTORY"] = f"{store}/objects"
        more["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = f"{tree.path}/.git/objects"
        init = "mkdir $STORE/objects"
    if "add" in script:
        more["GIT_INDEX_FILE"] = f"{store}/index"
    command = Command(argv=("bash", "-ec", script), cwd=tree.path, env={**env, **more})
    return Peer(name=name, command=command, store=store, init=init, scenarios=scenarios)
