"""The job's bash: layers become trees, and trees are checked."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.cluster_support import Files, layer_tar, with_parents
from xmslurm_repro.cluster.program import compose
from xmslurm_repro.cluster.script import JOB_FILES


class Node:
    """A state folder, and bash with the job's functions."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        (self.state / "blobs" / "sha256").mkdir(parents=True)
        (self.state / "layers").mkdir()
        self.local = folder / "local"
        self.local.mkdir()
        self.layers: list[str] = []

    def bash(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        head = f"""
            xm_state={self.state} xm_local={self.local} xm_attempt=1.0 xm_token=abcdefgh xm_task=0
            xm_full_check=0
        """
        settled = "xm_settle() { :; }\n"
        text = f"{compose(*JOB_FILES)}\n{head}\n{settled}{program}"
        return subprocess.run(
            ["bash", "-c", text, "node", *arguments], capture_output=True, text=True, check=False
        )

    def layer(self, files: Files, *, raw: bytes | None = None) -> str:
        """Unpack a layer; its DiffID."""
        tar = layer_tar(with_parents(files)) if raw is None else raw
        diff_id, blob = self.blob(tar)
        done = self.bash('xm_unpack "$@"', diff_id, blob, "gzip -dc")
        assert done.returncode == 0, done.stderr
        return diff_id

    def blob(self, tar: bytes) -> tuple[str, str]:
        data = gzip.compress(tar, mtime=0)
        blob = hashlib.sha256(data).hexdigest()
        (self.state / "blobs" / "sha256" / blob).write_bytes(data)
        return hashlib.sha256(tar).hexdigest(), blob

    def assemble(self, *diff_ids: str, points: str = "") -> Path:
        tree = self.state / "roots" / "key"
        tree.parent.mkdir(exist_ok=True)
        done = self.bash('xm_assemble "$@"', str(tree), points, *diff_ids)
        assert done.returncode == 0, done.stderr
        return tree

    def check(self, tree: Path, full: int = 0) -> bool:
        return self.bash('xm_check "$@"', str(tree), str(full)).returncode == 0


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def shown(tree: Path) -> dict[str, str]:
    """Every file and link below *tree*."""
    found = {}
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_text()
    return found


def test_upper_layers_win_and_lower_files_stay(node: Node):
    lower = node.layer({"a/x": b"1", "a/y": b"1", "l": ("link", "a")})
    upper = node.layer({"a/y": b"2", "b/z": b"2"})

    tree = node.assemble(lower, upper)

    assert shown(tree) == {"a/x": "1", "a/y": "2", "b/z": "2", "l": "-> a"}
    assert shown(node.state / "layers" / lower) == {"a/x": "1", "a/y": "1", "l": "-> a"}


def test_whiteouts_remove_what_lies_below(node: Node):
    lower = node.layer({"a/x": b"1", "a/y": b"1", "b/c/d": b"1", "gone": b"1"})
    upper = node.layer({"a/.wh.x": b"", ".wh.gone": b"", "b/.wh..wh..opq": b"", "b/new": b"2"})

    assert shown(node.assemble(lower, upper)) == {"a/y": "1", "b/new": "2"}


def test_a_whiteout_and_its_return_in_one_layer(node: Node):
    lower = node.layer({"a/x": b"1", "a/y": b"1"})
    upper = node.layer({"a/.wh..wh..opq": b"", "a/x": b"2"})

    assert shown(node.assemble(lower, upper)) == {"a/x": "2"}


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [
        ({"p/x": b"1"}, {"p": b"file"}, {"p": "file"}),
        ({"p": b"file"}, {"p/x": b"1"}, {"p/x": "1"}),
        ({"p": ("link", "q"), "q/x": b"1"}, {"p/y": b"2"}, {"p/y": "2", "q/x": "1"}),
        ({"p/x": b"1"}, {"p": ("link", "q")}, {"p": "-> q"}),
    ],
    ids=["folder to file", "file to folder", "link to folder", "folder to link"],
)
def test_a_path_of_another_kind_takes_the_place_of_the_lower_one(
    node: Node, below: Files, above: Files, expected: dict[str, str]
):
    assert expected == shown(node.assemble(node.layer(below), node.layer(above)))


def test_a_link_out_of_the_tree_leads_no_upper_layer_out(node: Node, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    lower = node.layer({"a": ("link", str(outside))})
    upper = node.layer({"a/.wh.precious": b"", "a/evil": b"2"})

    tree = node.assemble(lower, upper)

    assert shown(outside) == {"precious": "kept"}
    assert shown(tree) == {"a/evil": "2"}


def test_mount_points_are_made_where_the_image_has_none(node: Node):
    tree = node.assemble(
        node.layer({"etc/hosts": b"mine"}), points="xm xm/code etc etc/hosts etc/resolv.conf"
    )

    assert shown(tree) == {"etc/hosts": "mine", "etc/resolv.conf": ""}
    assert (tree / "xm" / "code").is_dir()
    assert node.check(tree, full=1)


def test_odd_names_and_modes_survive(node: Node):
    files = {"new\nline": b"1", " blank": b"2", "back\\slash": b"3", "größe": b"4", "-n": b"5"}
    tree = node.assemble(node.layer(files))

    assert shown(tree) == {name: data.decode() for name, data in files.items()}
    assert node.check(tree, full=1)


def test_a_layer_that_is_not_what_its_name_says_is_not_unpacked(node: Node):
    tar = layer_tar({"x": b"1"})
    _, blob = node.blob(tar)

    done = node.bash('xm_unpack "$@"', "0" * 64, blob, "gzip -dc")

    assert done.returncode == 1
    assert "layer sha256:0000" in done.stderr
    assert [] == list((node.state / "layers").iterdir())


def test_a_blob_that_was_damaged_is_not_unpacked(node: Node):
    diff_id, blob = node.blob(layer_tar({"x": b"1"}))
    (node.state / "blobs" / "sha256" / blob).write_bytes(b"damaged")

    done = node.bash('xm_unpack "$@"', diff_id, blob, "gzip -dc")

    assert (1, f"xmslurm: blob sha256:{blob} is damaged\n") == (done.returncode, done.stderr)


def test_a_layer_that_was_changed_is_not_put_into_a_tree(node: Node):
    diff_id = node.layer({"a/x": b"1", "b": b"2"})
    (node.state / "layers" / diff_id / "a" / "x").write_bytes(b"evil")
    (node.state / "roots").mkdir()

    done = node.bash('xm_assemble "$@"', str(node.state / "roots" / "k"), "", diff_id)

    assert done.returncode == 1
    assert "a/x" in done.stderr
    assert not (node.state / "roots" / "k").exists()
    assert not (node.state / "layers" / diff_id).exists()


def touch_content(tree: Path) -> None:
    path = tree / "a" / "x"
    before = path.stat()
    path.write_bytes(b"2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def touch_mode(tree: Path) -> None:
    (tree / "a" / "x").chmod(0o755)


def touch_name(tree: Path) -> None:
    (tree / "a" / "x").rename(tree / "a" / "z")


def touch_link(tree: Path) -> None:
    (tree / "l").unlink()
    (tree / "l").symlink_to("elsewhere")


def touch_folder(tree: Path) -> None:
    (tree / "new").mkdir()


@pytest.mark.parametrize(
    "damage", [touch_content, touch_mode, touch_name, touch_link, touch_folder]
)
@pytest.mark.parametrize("full", [0, 1])
def test_every_change_of_a_tree_is_found(node: Node, damage, full: int):
    tree = node.assemble(node.layer({"a/x": b"1", "l": ("link", "a")}))
    assert node.check(tree)
    assert node.check(tree, full)

    damage(tree)

    assert not node.check(tree, full)
    assert not tree.exists()
    assert (node.state / "damaged").is_dir()


def test_a_second_tree_of_the_same_layers_does_not_spoil_the_first(node: Node):
    base = node.layer({"a/x": b"1"})
    tree = node.assemble(base)
    assert node.check(tree)

    node.bash('xm_assemble "$@"', str(node.state / "roots" / "other"), "", base)

    assert node.check(tree)


def test_versions_that_need_other_mount_points_do_not_share_a_tree(node: Node):
    diff_id, blob = node.blob(layer_tar(with_parents({"etc/x": b"1"})))
    # What 0.1 called it, with the mount points of its time.
    old = node.state / "roots" / "key"
    (old / "etc").mkdir(parents=True)

    done = node.bash(
        'xm_root_key=key xm_image=i; xm_code_layers=(); xm_root_layers=("$1"); shift\n'
        'xm_have_trees; echo "$xm_root"; xm_more_points=etc/rc; xm_root_key=key; xm_have_trees\n'
        'echo "$xm_root"',
        f"{diff_id} {blob} gzip -dc",
    )

    first, second = map(Path, done.stdout.split())
    assert 3 == len({old, first, second}), done.stderr
    assert (first / "xm" / "inputs").is_dir()
    assert (second / "etc" / "rc").exists()
    assert not (first / "etc" / "rc").exists()
