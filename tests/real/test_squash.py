"""Base and packages as one file, for runtimes that take no folders."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cluster_support import layer_tar, with_parents
from tests.unit.test_cluster_trees import Node
from xmslurm_repro.cluster.program import bash_text


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def squash(node: Node, tree: Path, *, full: int = 0) -> Path:
    """Have the file of *tree*."""
    program = f"{bash_text('pyxis')}\nxm_root={tree} xm_full_check={full}\nxm_have_squash || exit 1"
    done = node.bash(program)
    assert done.returncode == 0, done.stderr
    return tree.with_name(f"{tree.name}.sqfs")


def small_tree(node: Node) -> Path:
    files = {"usr/bin/x": b"1", "new\nline": b"2", "link": ("link", "usr")}
    return node.assemble(node.layer(files, raw=layer_tar(with_parents(files))))


def test_a_tree_becomes_one_file_with_all_that_is_in_it(node: Node, tmp_path: Path):
    tree = small_tree(node)

    file = squash(node, tree)

    out = tmp_path / "out"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", out, file], check=True, capture_output=True)
    assert (out / "usr" / "bin" / "x").read_bytes() == b"1"
    assert (out / "new\nline").read_bytes() == b"2"
    assert (out / "link").readlink() == Path("usr")


def test_it_is_made_once_and_again_when_it_was_touched(node: Node):
    tree = small_tree(node)
    file = squash(node, tree)
    first, made = file.read_bytes(), file.stat().st_ino

    assert made == squash(node, tree, full=1).stat().st_ino
    with file.open("r+b") as stream:
        stream.write(b"evil")
    again = squash(node, tree)

    assert again.stat().st_ino != made
    assert first == again.read_bytes()
