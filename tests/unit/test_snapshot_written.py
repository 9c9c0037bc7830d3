"""The tree of a clean work tree is its commit's, whatever git converts; checked against git."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.git_box import GitBox, with_submodule
from xmslurm_repro.model.choice import Choice
from xmslurm_repro.model.snapshot import Origin
from xmslurm_repro.snapshot.identity import identify


@pytest.fixture(params=["sha1", "sha256"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> GitBox:
    box = GitBox(tmp_path / "box", init=False)
    box.git("init", "-q", "-b", "main", f"--object-format={request.param}")
    for number in range(12):
        box.write(f"d{number % 3}/e/f{number}", f"line {number}\nmore\n")
    box.write("d0/run", "#!/bin/sh\n", mode=0o755)
    (box.root / "link").symlink_to("d0")
    box.commit()
    return box


def said(box: GitBox, **options: object) -> Origin:
    snapshot = box.capture(**options)
    return identify(
        box.root,
        snapshot,
        store=box.store,
        cache_dir=box.cache,
        environment=box.environment,
    ).origin


def again(box: GitBox) -> None:
    """Let git write the work tree anew, by its rules; older than its index, as a clone soon is."""
    for path in box.git("ls-files", "-z").split(b"\0")[:-1]:
        place = box.root / os.fsdecode(path)
        if place.is_symlink() or place.is_file():
            place.unlink()
    box.git("checkout", "-f", "HEAD", "--", ".")
    time.sleep(0.02)
    box.git("update-index", "--force-write-index", "-q", "--really-refresh", check=False)
    os.utime(box.root / ".git" / "index")


def lines(box: GitBox) -> None:
    box.git("config", "core.autocrlf", "true")
    again(box)
    assert b"\r\n" in (box.root / "d0/e/f0").read_bytes()


def ends(box: GitBox) -> None:
    box.write(".gitattributes", "*1 text eol=crlf\n")
    box.commit()
    again(box)
    assert b"\r\n" in (box.root / "d1/e/f1").read_bytes()


def filtered(box: GitBox) -> None:
    box.git("config", "filter.up.clean", "tr A-Z a-z")
    box.git("config", "filter.up.smudge", "tr a-z A-Z")
    box.write(".gitattributes", "d2/** filter=up\n")
    box.commit()
    again(box)
    assert b"LINE 2\nMORE\n" == (box.root / "d2/e/f2").read_bytes()


def exec_bits(box: GitBox) -> None:
    box.git("config", "core.fileMode", "false")
    (box.root / "d0/run").chmod(0o644)
    (box.root / "d1/e/f1").chmod(0o755)


def sparse(box: GitBox) -> None:
    box.git("sparse-checkout", "set", "--cone", "d1")


def sparse_index(box: GitBox) -> None:
    box.git("sparse-checkout", "set", "--cone", "--sparse-index", "d1")


def sparse_files(box: GitBox) -> None:
    box.git("sparse-checkout", "set", "--no-cone", "f1", "/link")


def nothing(box: GitBox) -> None:
    pass


STATES = [
    nothing, lines, ends, filtered, exec_bits, sparse, sparse_index, sparse_files,
]  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_a_clean_work_tree_is_its_commit(box: GitBox, state):
    state(box)
    assert b"" == box.git("status", "--porcelain")

    origin = said(box)

    assert box.git("write-tree").decode().strip() == origin.tree
    assert box.git("rev-parse", "HEAD^{tree}").decode().strip() == origin.tree
    assert origin.commit_tree == origin.tree
    assert () == origin.changed
    converted = {
        lines: sorted(set(box.git("ls-files").decode().split()) - {"link"}),
        ends: ["d1/e/f1", "d2/e/f11"],
        filtered: ["d2/e/f11", "d2/e/f2", "d2/e/f5", "d2/e/f8"],
        exec_bits: ["d0/run", "d1/e/f1"],
    }.get(state, [])
    assert converted == [*origin.converted]


@pytest.mark.parametrize("state", STATES)
def test_a_work_tree_with_changes_is_what_git_would_write(box: GitBox, state):
    state(box)
    box.write("d1/e/f1", "edited\n", mode=0o755 if state is exec_bits else 0o644)
    box.write("d1/new/file", "new\n")
    (box.root / "d1/e/f4").unlink(missing_ok=True)

    origin = said(box)

    if state is exec_bits:
        # git overlooks the bit that is captured.
        assert origin.commit_tree != origin.tree
        return
    box.git("add", "-A", *(["--sparse"] if "sparse" in state.__name__ else []))
    assert box.git("write-tree").decode().strip() == origin.tree


def test_a_tracked_file_that_is_left_out_by_choice_makes_it_another_tree(box: GitBox):
    lines(box)

    origin = said(box, choice=Choice(exclude=("d0/",)))

    assert origin.commit_tree != origin.tree


def test_a_submodule_that_is_not_checked_out_is_still_the_commit_s(tmp_path: Path):
    box = GitBox(tmp_path / "box")
    with_submodule(box)
    box.git("submodule", "deinit", "-q", "-f", "libs/one")
    clean = said(box)
    box.write("libs/one/stray", "1")

    assert clean.commit_tree == clean.tree
    assert said(box).commit_tree != said(box).tree
