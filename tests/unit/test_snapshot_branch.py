"""Branches made of captured trees: submodules as links, and what a killed process leaves."""

from __future__ import annotations

import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.cli import REPOSITORY
from tests.support.git_box import GitBox, fingerprint, with_submodule
from xmslurm_repro.errors import StoreError, UsageError
from xmslurm_repro.ports.images import Branch
from xmslurm_repro.snapshot import StoredTree
from xmslurm_repro.snapshot.branch import make_branch
from xmslurm_repro.store.objects import DiskObjectStore


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    return GitBox(tmp_path / "box")


def branch_of(box: GitBox, name: str = "b") -> Branch:
    snapshot = box.capture()
    return make_branch(
        StoredTree(box.store, snapshot.root),
        box.root,
        name,
        base=snapshot.origin.commit,
        message="m",
        time_s=1,
        submodules=snapshot.origin.submodules,
    )


def listing(box: GitBox, name: str = "b") -> list[str]:
    return box.git("ls-tree", "-r", name).decode().splitlines()


def test_a_clean_submodule_is_a_link_and_its_files_are_not_copied(box: GitBox):
    with_submodule(box)
    box.write("top", "edited")
    inner = box.git("rev-parse", "HEAD:libs/one").decode().strip()
    blob = box.git("rev-parse", "HEAD:lib.py", cwd=box.root / "libs/one").decode().strip()

    made = branch_of(box)

    assert (("libs/one",), ()) == (made.linked, made.plain)
    assert f"160000 commit {inner}\tlibs/one" in listing(box)
    box.git("add", "-A")
    assert box.git("write-tree") == box.git("rev-parse", "b^{tree}")
    assert b"" == box.git("cat-file", "-e", blob, check=False)
    assert not (box.root / ".git/objects" / blob[:2] / blob[2:]).exists()
    box.git("fsck", "--strict")


def test_a_submodule_at_a_commit_of_its_own_is_a_link_to_that(box: GitBox):
    submodule = with_submodule(box)
    box.write("libs/one/lib.py", "2")
    box.git("commit", "-q", "-a", "-m", "local", cwd=submodule)
    local = box.git("rev-parse", "HEAD", cwd=submodule).decode().strip()

    branch_of(box)

    assert f"160000 commit {local}\tlibs/one" in listing(box)


def test_a_dirty_submodule_is_a_folder_of_files_and_that_is_said(box: GitBox):
    with_submodule(box)
    box.write("libs/one/lib.py", "edited")

    made = branch_of(box)

    assert ["libs/one"] == [path for path, _ in made.plain]
    assert "not those of its commit" in made.plain[0][1]
    assert b"edited" == box.git("show", "b:libs/one/lib.py")
    box.git("fsck", "--strict")


def test_a_submodule_whose_commit_is_gone_is_a_folder_of_files(box: GitBox, tmp_path: Path):
    with_submodule(box)
    clone = GitBox(tmp_path / "clone", init=False)
    clone.git("clone", "-q", str(box.root), ".")
    snapshot = box.capture()

    made = make_branch(
        StoredTree(box.store, snapshot.root),
        clone.root,
        "b",
        base=snapshot.origin.commit,
        message="m",
        time_s=1,
        submodules=snapshot.origin.submodules,
    )

    assert "is not here" in made.plain[0][1]
    assert b"1" == clone.git("show", "b:libs/one/lib.py")


def test_submodules_of_submodules_are_links_only_where_all_of_it_is_clean(box: GitBox):
    middle = GitBox(box.folder / "middle")
    with_submodule(middle)
    box.git("submodule", "--quiet", "add", str(middle.root), "m")
    box.git("submodule", "--quiet", "update", "--init", "--recursive")
    box.commit()

    clean = branch_of(box, "clean")
    box.write("m/libs/one/lib.py", "edited")
    dirty = branch_of(box, "dirty")

    assert ("m", "m/libs/one") == clean.linked
    assert () == dirty.linked
    assert box.git("rev-parse", "main^{tree}") == box.git("rev-parse", "clean^{tree}")
    assert b"edited" == box.git("show", "dirty:m/libs/one/lib.py")


@pytest.mark.parametrize(("there", "wanted"), [("a", "a/b"), ("a/b", "a")])
def test_a_branch_below_another_is_refused(box: GitBox, there: str, wanted: str):
    box.git("branch", there)
    box.git("pack-refs", "--all", "--prune")

    with pytest.raises(UsageError, match="beside"):
        branch_of(box, wanted)

    assert f"{there}\nmain\n".encode() == box.git("for-each-ref", "--format=%(refname:short)")


def test_a_lock_that_a_killed_program_left_is_named(box: GitBox):
    (box.root / ".git/refs/heads/b.lock").write_text("")

    with pytest.raises(StoreError) as caught:
        branch_of(box)

    assert "b.lock" in caught.value.details[0]


_MAKE = """
import sys
from pathlib import Path
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.snapshot import StoredTree
from xmslurm_repro.snapshot.branch import make_branch
from xmslurm_repro.store.objects import DiskObjectStore

store, root, repository, base = sys.argv[1:]
tree = StoredTree(DiskObjectStore(Path(store)), Digest.parse(root))
print("begun", flush=True)
make_branch(tree, Path(repository), "b", base=base, message="m", time_s=1)
print("made", flush=True)
"""


def test_a_process_killed_while_it_makes_a_branch_leaves_a_valid_repository(
    box: GitBox, tmp_path: Path
):
    for number in range(150):
        box.write(f"d{number % 9}/f{number}", f"old {number}")
    box.commit()
    base = box.git("rev-parse", "HEAD").decode().strip()
    for number in range(150):
        box.write(f"d{number % 9}/f{number}", f"new {number}")
    box.git("status")
    box.store = DiskObjectStore(tmp_path / "objects")
    root = box.capture().root
    before = untouched(box)
    words = [sys.executable, "-c", _MAKE, str(tmp_path / "objects"), str(root), str(box.root), base]
    chance, killed = random.Random(41), 0
    for _ in range(8):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=REPOSITORY)
        assert b"begun\n" == process.stdout.readline()
        time.sleep(chance.random() * 0.25)
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0]
        killed += not rest
        box.git("fsck", "--full", "--strict", "--no-dangling")
        assert before == untouched(box)
        assert (b"" if not rest else b"b\n") in box.git("branch", "--format=%(refname:short)")
        for name in ("b", "b.lock"):
            (box.root / ".git/refs/heads" / name).unlink(missing_ok=True)

    assert killed
    subprocess.run(words, check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    box.git("add", "-A")
    assert box.git("write-tree") == box.git("rev-parse", "b^{tree}")


def untouched(box: GitBox) -> dict[bytes, tuple[object, ...]]:
    """Every file but objects and the new branch, to the nanosecond; folders by their names."""
    found = fingerprint(box.root)
    return {
        path: (mode, content) if stat.S_ISDIR(mode) else (mode, *rest, content)
        for path, (mode, *rest, content) in found.items()
        if b"/.git/objects" not in path
        and not path.endswith((b"/refs/heads/b", b"/refs/heads/b.lock"))
    }
