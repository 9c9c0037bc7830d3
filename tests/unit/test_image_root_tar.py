from __future__ import annotations

import io
import tarfile
from contextlib import closing

import pytest

from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.layer import LayerWriter
from xmslurm_repro.image.root_tar import AddedFile, RootTar
from xmslurm_repro.store.memory_blobs import MemoryBlobStore

MEMBERS = {
    "./": ("5", 0o755, b"", ""),
    "./usr/": ("5", 0o755, b"", ""),
    "./usr/bin/": ("5", 0o755, b"", ""),
    "./usr/bin/z": ("0", 0o4755, b"tool", ""),
    "./usr/bin/a": ("1", 0o4755, b"", "./usr/bin/z"),
    "./bin": ("2", 0o777, b"", "usr/bin"),
    "./tmp/": ("5", 0o1777, b"", ""),
    "./dev/null": ("3", 0o666, b"", ""),
    "./etc/hostname": ("0", 0o644, b"builder", ""),
}


def source(path, members, *, mtime=7, user="root") -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, (kind, mode, data, target) in members.items():
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.linkname = kind.encode(), mode, target
            member.mtime, member.uname, member.uid, member.gid = mtime, user, 3, 50
            member.size = len(data)
            if name.endswith("z"):
                member.pax_headers = {"SCHILY.xattr.security.capability": "\1\2"}
            archive.addfile(member, io.BytesIO(data))


def rewritten(path, added=None, keep=lambda name: not name.startswith("dev/")) -> bytes:
    blobs = MemoryBlobStore()
    with closing(RootTar(path, keep=keep)) as root, blobs.writer() as blob:
        layer = LayerWriter(blob)
        root.write(layer, added or {})
        _, described = layer.commit()
    return blobs.get(described.digest)


def read(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        return {member.name: member for member in archive.getmembers()}


def test_order_times_and_user_names_leave_no_trace(tmp_path):
    source(tmp_path / "a.tar", MEMBERS)
    turned = dict(reversed([i for i in MEMBERS.items() if i[0] != "./usr/bin/a"]))
    turned["./usr/bin/a"] = MEMBERS["./usr/bin/a"]
    source(tmp_path / "b.tar", turned, mtime=1_700_000_000.5, user="me")

    assert rewritten(tmp_path / "a.tar") == rewritten(tmp_path / "b.tar")


def test_modes_owners_links_and_attributes_stay(tmp_path):
    source(tmp_path / "a.tar", MEMBERS)
    found = read(rewritten(tmp_path / "a.tar"))

    assert [
        "bin",
        "etc",
        "etc/hostname",
        "tmp",
        "usr",
        "usr/bin",
        "usr/bin/a",
        "usr/bin/z",
    ] == list(found)
    assert (0o1777, 3, 50) == (found["tmp"].mode, found["tmp"].uid, found["tmp"].gid)
    assert "usr/bin" == found["bin"].linkname
    assert (0o4755, 4) == (found["usr/bin/a"].mode, found["usr/bin/a"].size)
    assert ("1", "usr/bin/a") == (found["usr/bin/z"].type.decode(), found["usr/bin/z"].linkname)
    assert "\1\2" == found["usr/bin/a"].pax_headers["SCHILY.xattr.security.capability"]


def test_a_hard_link_survives_when_the_file_that_it_was_anchored_at_is_left_out(tmp_path):
    source(tmp_path / "a.tar", MEMBERS)
    found = read(rewritten(tmp_path / "a.tar", keep=lambda name: name == "usr/bin/a"))

    assert ["usr", "usr/bin", "usr/bin/a"] == list(found)
    assert 4 == found["usr/bin/a"].size


def test_added_files_win_and_get_their_folders(tmp_path):
    source(tmp_path / "a.tar", MEMBERS)
    added = {
        "etc/hostname": AddedFile(),
        "a/b/c": AddedFile(content=b"1"),
        "a/l": AddedFile(link="b"),
    }
    found = read(rewritten(tmp_path / "a.tar", added))

    assert 0 == found["etc/hostname"].size
    assert (0o755, 1, "b") == (found["a/b"].mode, found["a/b/c"].size, found["a/l"].linkname)


def test_a_device_that_was_not_left_out_is_refused(tmp_path):
    source(tmp_path / "a.tar", MEMBERS)

    with pytest.raises(ImageError, match="/dev/null is neither"):
        rewritten(tmp_path / "a.tar", keep=lambda name: True)


def test_what_is_no_tar_is_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"none" * 500)

    with pytest.raises(ImageError, match="no tar of a root"):
        RootTar(tmp_path / "a.tar", keep=lambda name: True)


def layer(path, *, whole: bool) -> dict[str, tarfile.TarInfo]:
    blobs = MemoryBlobStore()
    with closing(RootTar(path, keep=lambda name: True)) as root, blobs.writer() as blob:
        writer = LayerWriter(blob)
        root.write(writer, {}, whole=whole)
        _, described = writer.commit()
    return read(blobs.get(described.digest))


def test_a_layer_gets_no_folders_that_it_did_not_have(tmp_path):
    source(tmp_path / "a.tar", {"tmp/x": ("0", 0o644, b"", ""), "a/.wh.b": ("0", 0, b"", "")})

    assert ["a", "a/.wh.b", "tmp", "tmp/x"] == list(layer(tmp_path / "a.tar", whole=True))
    assert ["a/.wh.b", "tmp/x"] == list(layer(tmp_path / "a.tar", whole=False))


@pytest.mark.parametrize("target", ["gone", "a"])
def test_a_hard_link_to_nothing_is_refused(tmp_path, target):
    source(tmp_path / "a.tar", {"a": ("1", 0o644, b"", target)})

    with pytest.raises(ImageError, match="/a is a hard link to nothing"):
        layer(tmp_path / "a.tar", whole=False)
