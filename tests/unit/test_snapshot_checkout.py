"""Restoring a captured tree as a folder, never over anything, and as a branch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.cli import REPOSITORY
from tests.support.git_box import GitBox, fingerprint
from xmslurm_repro.errors import UsageError
from xmslurm_repro.snapshot import StoredTree, capture
from xmslurm_repro.snapshot.branch import make_branch
from xmslurm_repro.snapshot.checkout import checkout
from xmslurm_repro.store.memory import MemoryObjectStore
from xmslurm_repro.store.objects import DiskObjectStore


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    box = GitBox(tmp_path / "box")
    box.write("src/main.py", "print(1)\n")
    box.write("run.sh", "#!/bin/sh\n", mode=0o755)
    box.write("empty")
    (box.root / "link").symlink_to("../outside")
    box.commit()
    box.write("src/new \n'.py", "x = 1\n")
    return box


def tree_of(box: GitBox) -> StoredTree:
    return StoredTree(box.store, box.capture().root)


def again(folder: Path, tmp_path: Path) -> object:
    store = MemoryObjectStore()
    cache = tmp_path / "again"
    return capture(
        folder, store=store, cache_dir=cache, environment={}, allow_no_repository=True
    ).root


def test_a_checkout_captured_again_is_the_same_snapshot(box: GitBox, tmp_path: Path):
    tree = tree_of(box)

    is_new = checkout(tree, tmp_path / "deep" / "out")

    assert is_new
    assert tree.root == again(tmp_path / "deep" / "out", tmp_path)
    assert ["out"] == os.listdir(tmp_path / "deep")


def test_an_empty_folder_is_filled_and_a_filled_one_that_is_the_same_is_left_alone(
    box: GitBox, tmp_path: Path
):
    tree, target = tree_of(box), tmp_path / "out"
    target.mkdir()

    assert checkout(tree, target)
    before = fingerprint(target)
    assert not checkout(tree, target)

    assert before == fingerprint(target)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda out: (out / "mine").write_text("x"), "mine: not in the snapshot"),
        (lambda out: (out / "empty").unlink(), "empty: missing"),
        (lambda out: (out / "src/main.py").write_text("print(2)\n"), "src/main.py: other bytes"),
        (lambda out: (out / "run.sh").chmod(0o644), "run.sh: another kind or mode"),
        (
            lambda out: ((out / "link").unlink(), (out / "link").symlink_to("x")),
            "link: other bytes",
        ),
    ],
)
def test_what_is_there_is_never_overwritten(box: GitBox, tmp_path: Path, change, line):
    tree, target = tree_of(box), tmp_path / "out"
    checkout(tree, target)
    change(target)
    before = fingerprint(target)

    with pytest.raises(UsageError) as caught:
        checkout(tree, target)

    assert (line,) == caught.value.details
    assert before == fingerprint(target)


def test_a_file_in_the_way_is_refused(box: GitBox, tmp_path: Path):
    (tmp_path / "out").write_text("mine")

    with pytest.raises(UsageError):
        checkout(tree_of(box), tmp_path / "out")

    assert "mine" == (tmp_path / "out").read_text()


_SLOW = """
import os, sys, time
from pathlib import Path
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.snapshot import StoredTree
from xmslurm_repro.snapshot.checkout import checkout
from xmslurm_repro.store.objects import DiskObjectStore

class Slow(DiskObjectStore):
    def open(self, digest):
        print("reading", flush=True)
        time.sleep(0.2)
        return super().open(digest)

checkout(StoredTree(Slow(Path(sys.argv[1])), Digest.parse(sys.argv[2])), Path(sys.argv[3]))
"""


def test_a_killed_checkout_leaves_nothing_and_the_next_one_clears_up(box: GitBox, tmp_path: Path):
    box.store = DiskObjectStore(tmp_path / "objects")
    tree, folder = tree_of(box), tmp_path / "where"
    words = [sys.executable, "-c", _SLOW, str(tmp_path / "objects"), str(tree.root)]
    process = subprocess.Popen(
        [*words, str(folder / "out")], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    for _ in range(2):
        process.stdout.readline()

    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (folder / "out").exists()
    assert 1 == len(os.listdir(folder))
    checkout(tree, folder / "out")

    assert ["out"] == os.listdir(folder)


def test_a_checkout_under_way_is_not_taken_for_a_leftover(box: GitBox, tmp_path: Path):
    box.store = DiskObjectStore(tmp_path / "objects")
    tree, folder = tree_of(box), tmp_path / "where"
    words = [sys.executable, "-c", _SLOW, str(tmp_path / "objects"), str(tree.root)]
    process = subprocess.Popen(
        [*words, str(folder / "one")], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    process.stdout.readline()

    checkout(tree, folder / "two")
    process.communicate(timeout=60)

    assert 0 == process.returncode
    assert tree.root == again(folder / "one", tmp_path)
    assert tree.root == again(folder / "two", tmp_path)


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_a_branch_holds_the_tree_on_its_base_and_touches_nothing_else(
    tmp_path: Path, hash_name: str
):
    box = GitBox(tmp_path / "box", init=False)
    box.git("init", "-q", "-b", "main", f"--object-format={hash_name}")
    box.write("a", "old\n")
    box.write("d/x", "x\n")
    box.write("d.x", "y\n")
    box.commit()
    base = box.git("rev-parse", "HEAD").decode().strip()
    box.git("gc", "-q")
    box.write("a", "new\n")
    box.write("d/run", "#!", mode=0o755)
    tree = tree_of(box)
    box.git("status")
    before = {
        path: found
        for path, found in fingerprint(box.root).items()
        if b"/.git/objects" not in path and b"/.git/refs/heads" not in path
    }

    made = make_branch(tree, box.root / "d", "experiment-1", base=base, message="m", time_s=1)

    after = fingerprint(box.root)
    assert before == {path: after[path] for path in before}
    assert f"{made.commit}\n{base}\n" == box.git("rev-list", "experiment-1").decode()
    box.git("fsck", "--strict", "--no-dangling")
    box.git("add", "-A")
    assert box.git("write-tree") == box.git("rev-parse", "experiment-1^{tree}")
    assert b"refs/heads/experiment-1\nrefs/heads/main\n" == box.git(
        "for-each-ref", "--format=%(refname)"
    )


def test_a_branch_that_is_there_is_refused_also_when_packed(box: GitBox):
    tree = tree_of(box)
    box.git("branch", "taken")
    box.git("pack-refs", "--all")
    was = box.git("rev-parse", "taken")

    with pytest.raises(UsageError, match="already"):
        make_branch(tree, box.root, "taken", base=None, message="m", time_s=1)

    assert was == box.git("rev-parse", "taken")


@pytest.mark.parametrize("name", ["a..b", "-x", "a b", "x.lock", "/x"])
def test_a_name_that_git_refuses_is_refused(box: GitBox, name: str):
    with pytest.raises(UsageError):
        make_branch(tree_of(box), box.root, name, base=None, message="m", time_s=1)


def test_a_base_that_the_repository_lacks_is_named(box: GitBox):
    with pytest.raises(UsageError, match="0123456789"):
        make_branch(tree_of(box), box.root, "b", base="0123456789" * 4, message="m", time_s=1)

    assert b"main\n" == box.git("for-each-ref", "--format=%(refname:short)")


def test_the_same_branch_made_twice_is_the_same_commit(box: GitBox):
    tree, base = tree_of(box), box.git("rev-parse", "HEAD").decode().strip()

    one = make_branch(tree, box.root, "one", base=base, message="m", time_s=5)
    time.sleep(0.01)
    two = make_branch(tree, box.root, "two", base=base, message="m", time_s=5)

    assert one == two
