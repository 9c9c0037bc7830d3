"""Layers as a tree of files on disk: nothing leads out of it, and whiteouts take away."""

from __future__ import annotations

import gzip
import io
import os
import tarfile

import pytest

from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.unpack import remove_tree, unpacked
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import MEDIA_TYPE_LAYER_GZIP, Descriptor, Layer, LayerKind
from xmslurm_repro.store.memory_blobs import MemoryBlobStore

D, S, H = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def layer(blobs, *members) -> Layer:
    """A layer of ``(name, content)``, or ``(name, type, link)``."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, *rest in members:
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if len(rest) == 1:
                member.size = len(rest[0])
                archive.addfile(member, io.BytesIO(rest[0]))
            else:
                member.type, member.linkname = rest
                archive.addfile(member)
    data = gzip.compress(held.getvalue())
    digest = blobs.put(data)
    blob = Descriptor(media_type=MEDIA_TYPE_LAYER_GZIP, digest=digest, size_bytes=len(data))
    return Layer(kind=LayerKind.BASE, title="x", diff_id=Digest.sha256("0" * 64), blob=blob)


@pytest.fixture
def unpack(tmp_path):
    def unpack(*layers):
        blobs = MemoryBlobStore()
        return unpacked(blobs, [layer(blobs, *members) for members in layers], tmp_path / "root")

    return unpack


def test_layers_lie_over_each_other_and_links_are_followed_inside(unpack):
    root = unpack(
        [
            ("usr/bin", D, ""),
            ("bin", S, "usr/bin"),
            ("bin/tool", b"1"),
            ("usr/lib/old", b"x"),
            ("usr/lib/kept", b"k"),
            ("var/a", b"a"),
        ],
        [
            ("usr/bin/tool", b"2"),
            ("usr/lib/.wh.old", b""),
            ("var/b", b"b"),
            ("var/.wh..wh..opq", b""),
            ("hard", H, "usr/bin/tool"),
            ("abs", S, "/usr"),
            ("abs/bin/other", b"3"),
        ],
    )

    assert b"2" == (root / "usr/bin/tool").read_bytes() == (root / "hard").read_bytes()
    assert b"3" == (root / "usr/bin/other").read_bytes()
    assert ["kept"] == sorted(os.listdir(root / "usr/lib"))
    assert ["b"] == sorted(os.listdir(root / "var"))
    assert {"proc", "dev", "tmp", "build"} <= set(os.listdir(root))


@pytest.mark.parametrize(
    "members",
    [
        [("../out", b"x")],
        [("a", S, "/../../.."), ("a/out", b"x")],
        [("a", S, "../../.."), ("a/out", b"x")],
    ],
)
def test_nothing_is_written_outside(unpack, tmp_path, members):
    if members[0][0].startswith(".."):
        with pytest.raises(ImageError, match="leads out of it"):
            unpack(members)
    else:
        assert (unpack(members) / "out").exists()
    assert not (tmp_path / "out").exists()


def test_links_in_a_circle_are_an_error(unpack, tmp_path):
    with pytest.raises(ImageError, match="circle"):
        unpack([("a", S, "b"), ("b", S, "a"), ("a/x", b"1")])
    assert [] == list(tmp_path.iterdir())


def test_what_is_there_is_taken_and_a_damaged_layer_leaves_nothing(unpack, tmp_path):
    (tmp_path / "root").mkdir()
    assert [] == list(unpack([("a", b"1")]).iterdir())
    (tmp_path / "root").rmdir()
    blobs = MemoryBlobStore()
    one = layer(blobs, ("a", os.urandom(100_000)))
    blobs._blobs[one.blob.digest] = blobs.get(one.blob.digest)[:5000]

    with pytest.raises(ImageError, match="cannot be read"):
        unpacked(blobs, [one], tmp_path / "root")
    assert [] == list(tmp_path.iterdir())


def test_folders_without_permissions_are_removed(tmp_path):
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "z").write_text("")
    (tmp_path / "x" / "y").chmod(0)
    remove_tree(tmp_path / "x")

    assert not (tmp_path / "x").exists()
