"""What a build after an edit reads: the edited file, and no neighbour that a layer holds."""

from __future__ import annotations

import json

import pytest

from tests.unit.image_parts import DictTree
from xmslurm_repro.image.cache import LayerCache
from xmslurm_repro.image.code import code_layers
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.hashing import blake3_digest
from xmslurm_repro.store.layout import DiskBlobStore

FILES: dict[str | bytes, bytes] = {
    "a.py": b"a = 1\n",
    "*b.sh": b"",
    "@c": b"a.py",
    "d/e.txt": bytes(range(256)) * 60,
    "f.py": b"f = 1\n",
    "long/" * 40 + "name.py": b"# beyond one block\n" * 800,
    **{f"more/{number}.py": b"%d\n" % number * 700 for number in range(40)},
}
EDITED = {**FILES, "f.py": b"f = 2\n"}


@pytest.fixture
def blobs(tmp_path):
    return DiskBlobStore(tmp_path / "oci")


@pytest.fixture
def cache(tmp_path, blobs):
    return LayerCache(tmp_path / "cache", blobs)


def build(files, blobs, cache):
    """The layers, and what was read from the tree."""
    tree = DictTree(files)
    layers = code_layers(tree, blobs, cache, SilentProgress(), layout=2)
    # The targets of links are in no file of a layer, and always read.
    return layers, [digest for digest in tree.opened if digest != blake3_digest(b"a.py")]


def test_after_an_edit_only_the_edited_file_is_read_and_the_bytes_are_those_of_a_fresh_build(
    blobs, cache
):
    build(FILES, blobs, cache)
    layers, opened = build(EDITED, blobs, cache)

    assert [blake3_digest(b"f = 2\n")] == opened
    assert layers == build(EDITED, blobs, None)[0]


def test_one_edit_after_the_other_reads_one_file_each(blobs, cache):
    build(FILES, blobs, cache)

    for number in range(3):
        text = b"f = 1%d\n" % number
        layers, opened = build({**FILES, "f.py": text}, blobs, cache)
        assert [blake3_digest(text)] == opened
        assert layers == build({**FILES, "f.py": text}, blobs, None)[0]


def damage_blobs(tmp_path):
    for blob in (tmp_path / "oci/blobs/sha256").iterdir():
        data = bytearray(blob.read_bytes())
        for position in range(600, len(data), 1000):
            data[position] ^= 1
        blob.write_bytes(data)


def cut_blobs(tmp_path):
    for blob in (tmp_path / "oci/blobs/sha256").iterdir():
        blob.write_bytes(blob.read_bytes()[: blob.stat().st_size // 2])


def remove_blobs(tmp_path):
    for blob in (tmp_path / "oci/blobs/sha256").iterdir():
        blob.unlink()


def notes(tmp_path):
    return list((tmp_path / "cache" / "code-files").iterdir())


def move_every_file(tmp_path):
    for note in notes(tmp_path):
        said = json.loads(note.read_text())
        said["files"] = {name: begin + 512 for name, begin in said["files"].items()}
        note.write_text(json.dumps(said))


def say_nonsense(tmp_path):
    for note in notes(tmp_path):
        note.write_text('{"blob": 7, "files": []}')


def point_out_of_the_layer(tmp_path):
    for note in notes(tmp_path):
        said = json.loads(note.read_text())
        said["files"] = dict.fromkeys(said["files"], "x") | {next(iter(said["files"])): -(10**30)}
        note.write_text(json.dumps(said))


@pytest.mark.parametrize(
    "harm",
    [
        damage_blobs,
        cut_blobs,
        remove_blobs,
        move_every_file,
        say_nonsense,
        point_out_of_the_layer,
    ],
)
def test_what_was_harmed_is_read_from_the_snapshot_again(tmp_path, blobs, cache, harm):
    build(FILES, blobs, cache)
    harm(tmp_path)
    # The layers that did not change are taken by their size, as ever; here they are built anew.
    for entry in (tmp_path / "cache" / "code").iterdir():
        entry.unlink()
    layers, opened = build(EDITED, blobs, cache)

    assert len(opened) > 1
    assert layers == build(EDITED, DiskBlobStore(tmp_path / "other"), None)[0]


def test_a_code_tree_larger_than_what_is_held_is_the_same_to_the_byte(blobs, monkeypatch):
    whole = build(FILES, blobs, None)[0]
    monkeypatch.setattr("xmslurm_repro.image.code._HELD_BYTES", 10_000)
    in_turns = build(FILES, blobs, None)[0]
    monkeypatch.setattr("xmslurm_repro.image.code._HELD_FILE_BYTES", 1_000)
    streamed = build(FILES, blobs, None)[0]

    assert whole == in_turns == streamed
