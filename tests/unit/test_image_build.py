from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import zlib

import pytest

from tests.unit.image_parts import (
    SITE,
    DictTree,
    base,
    content,
    members,
    put_wheel,
    raw,
    recipe,
    sha,
    wheel,
)
from xmslurm_repro.errors import DigestMismatchError, ImageError, MissingObjectError
from xmslurm_repro.image.build import Builder
from xmslurm_repro.image.layer import LayerWriter
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import Descriptor, Image, Layer, LayerKind
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.memory_blobs import MemoryBlobStore

BIG = bytes(range(256)) * 256 + b"tail"
NOISE = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(40_000))


@pytest.fixture
def blobs():
    return MemoryBlobStore()


def build(blobs, tmp_path, artifacts=(), tree=None, base_image=None) -> Image:
    base_image = base_image or base(blobs)
    return Builder(blobs, tmp_path / "cache").build(
        recipe(base_image, artifacts, tree), base_image, tree, SilentProgress()
    )


def test_every_layers_digests_are_those_of_its_bytes(blobs, tmp_path):
    tree = DictTree({"train.py": b"print(1)\n", "*run.sh": b"#!/bin/sh\n", "@link": b"train.py"})
    data = wheel(files={"demo/__init__.py": b"", "demo/big.bin": BIG, "demo/noise.bin": NOISE})
    image = build(blobs, tmp_path, [put_wheel(blobs, data)], tree)

    assert [LayerKind.PACKAGES, LayerKind.PACKAGES, LayerKind.CODE] == [
        each.kind for each in image.layers
    ]
    for layer in image.layers:
        assert sha(raw(blobs, layer)) == layer.diff_id
        assert len(blobs.get(layer.blob.digest)) == layer.blob.size_bytes
    assert all(blobs.has(blob.digest) for blob in image.blobs)


def test_gzip_itself_reads_the_layers(blobs, tmp_path):
    data = wheel(files={"demo/big.bin": BIG, "demo/empty.py": b""})
    image = build(blobs, tmp_path, [put_wheel(blobs, data)])
    layer = blobs.get(image.layers[0].blob.digest)

    done = subprocess.run(["gzip", "-dc"], input=layer, capture_output=True, check=True)
    assert raw(blobs, image.layers[0]) == done.stdout


def test_a_large_member_keeps_the_wheels_own_compression(blobs, tmp_path):
    data = wheel(files={"demo/big.bin": BIG, "demo/small.py": b"y = 2\n" * 100})
    image = build(blobs, tmp_path, [put_wheel(blobs, data)])
    layer = blobs.get(image.layers[0].blob.digest)

    deflate = zlib.compressobj(wbits=-15)
    assert deflate.compress(BIG) + deflate.flush() in layer
    assert b"y = 2\n" * 100 in layer


def test_the_documents_say_what_the_image_says(blobs, tmp_path):
    image = build(blobs, tmp_path, tree=DictTree({"a.py": b"1"}))
    config = json.loads(blobs.get(image.config.digest))
    manifest = json.loads(blobs.get(image.manifest.digest))

    assert [str(each.diff_id) for each in image.layers] == config["rootfs"]["diff_ids"]
    assert [each.blob.to_json() for each in image.layers] == manifest["layers"]
    assert len(image.layers) == len(config["history"])
    assert ["PATH=/xm/venv/bin:/usr/bin:/bin", "LANG=C", "VIRTUAL_ENV=/xm/venv"] == config[
        "config"
    ]["Env"]
    assert "/xm/code" == config["config"]["WorkingDir"]
    assert image.manifest == blobs.ref(f"xms-{image.config.digest.hex[:32]}")
    assert image == Image.from_json(Reader(image.to_json(), "image"))


def test_nothing_of_time_user_or_tool_is_in_the_documents(blobs, tmp_path):
    image = build(blobs, tmp_path)
    config = json.loads(blobs.get(image.config.digest))

    assert {"architecture", "config", "created", "history", "os", "rootfs"} == set(config)
    assert "1970-01-01T00:00:01Z" == config["created"]


def test_an_image_without_packages_has_the_virtual_environment_all_the_same(blobs, tmp_path):
    (layer,) = build(blobs, tmp_path).layers
    found = members(blobs, layer)

    assert "/usr/bin/python3.11" == found["xm/venv/bin/python"].linkname
    assert "python" == found["xm/venv/bin/python3"].linkname
    assert "python" == found["xm/venv/bin/python3.11"].linkname
    assert b"home = /usr/bin\n" in content(blobs, layer, "xm/venv/pyvenv.cfg")
    assert b"/xm/code/src\n/xm/code\n" == content(blobs, layer, f"{SITE}/__xmslurm_code__.pth")


def test_the_bases_own_packages_are_in_sight_only_where_no_lock_says_what_there_is(blobs, tmp_path):
    def config(artifacts):
        image = build(blobs, tmp_path, artifacts)
        return content(blobs, image.layers[-1], "xm/venv/pyvenv.cfg")

    big = put_wheel(blobs, wheel(files={"demo/a.bin": NOISE}))
    small = put_wheel(blobs, wheel("small"), "small")
    assert b"include-system-site-packages = true\n" in config([])
    assert b"include-system-site-packages = false\n" in config([big])
    assert b"include-system-site-packages = false\n" in config([small])


def test_an_image_on_a_base_without_python_has_our_folders_only(blobs, tmp_path):
    image = build(blobs, tmp_path, base_image=base(blobs, target=None))

    assert {"xm", "xm/code", "xm/outputs", "xm/pycache"} == set(members(blobs, image.layers[0]))
    assert (("PATH", "/usr/bin:/bin"), ("LANG", "C")) == image.env


def test_code_is_under_its_folder_with_gits_modes(blobs, tmp_path):
    tree = DictTree(
        {
            "a/b/train.py": b"print(1)\n",
            "*run.sh": b"#!/bin/sh\n",
            "@a/link": b"../run.sh",
            b"caf\xe9": b"x",
        }
    )
    layers = build(blobs, tmp_path, tree=tree).layers[1:]
    found = {name: m for layer in layers for name, m in members(blobs, layer).items()}

    assert 0o644 == found["xm/code/a/b/train.py"].mode
    assert 0o755 == found["xm/code/run.sh"].mode
    assert "../run.sh" == found["xm/code/a/link"].linkname
    assert "xm/code/caf\udce9" in found
    assert {0o755} == {m.mode for m in found.values() if m.isdir()}


def test_a_one_line_edit_changes_one_small_layer(blobs, tmp_path):
    files = {f"pkg{n}/m{n}.py": b"x = %d\n" % n * 1000 for n in range(300)}
    files |= {"data/weights.bin": NOISE * 4, "data/other.bin": NOISE * 2, "img/a.png": NOISE[:5000]}
    before = build(blobs, tmp_path, tree=DictTree(files))
    files["pkg7/m7.py"] += b"y = 1\n"
    after = build(blobs, tmp_path, tree=DictTree(files))

    changed = [new for old, new in zip(before.layers, after.layers, strict=True) if old != new]
    assert 1 == len(changed)
    assert changed[0].blob.size_bytes < 3_000_000
    assert {each.blob.digest for each in before.layers} >= {
        each.blob.digest for each in after.layers if each not in changed
    }


def test_a_warm_build_reads_no_wheel_and_only_the_files_of_the_layer_that_changed(blobs, tmp_path):
    artifact = put_wheel(blobs, wheel(files={"demo/a.bin": NOISE}))
    files = {"a.py": b"1", "big1": NOISE, "big2": NOISE + b"2"}
    first = build(blobs, tmp_path, [artifact], DictTree(files))
    blobs._blobs[artifact.sha256] = b"gone"
    tree = DictTree(files | {"a.py": b"2"})
    second = build(blobs, tmp_path, [artifact], tree)

    assert 1 == len(tree.opened)
    assert first.layers[:2] == second.layers[:2]


def test_another_set_of_packages_reuses_the_layers_of_the_wheels_that_stay(blobs, tmp_path):
    big = put_wheel(blobs, wheel(files={"demo/a.bin": NOISE}))
    small, other = (put_wheel(blobs, wheel(name), name) for name in ("small", "other"))
    first = build(blobs, tmp_path, [big, small])
    # Its directory is read to look for contradictions; its content is not.
    data = bytearray(blobs._blobs[big.sha256])
    data[len(data) // 2] ^= 1
    blobs._blobs[big.sha256] = bytes(data)
    second = build(blobs, tmp_path, [big, other])

    assert first.layers[0] == second.layers[0]
    assert first.layers[1] != second.layers[1]


def test_a_cache_that_is_damaged_or_whose_blobs_are_gone_costs_only_time(blobs, tmp_path):
    artifact = put_wheel(blobs, wheel(files={"demo/a.bin": NOISE}))
    tree = DictTree({"a.py": b"1"})
    first = build(blobs, tmp_path, [artifact], tree)
    for entry in (tmp_path / "cache").rglob("*.json"):
        entry.write_bytes(entry.read_bytes()[:-9])
    del blobs._blobs[first.layers[0].blob.digest]

    assert first == build(blobs, tmp_path, [artifact], tree)
    for layer in first.layers:
        del blobs._blobs[layer.blob.digest]
    assert first == build(blobs, tmp_path, [artifact], tree)
    assert first == Builder(blobs, None).build(first.recipe, base(blobs), tree, SilentProgress())


def test_the_order_of_the_artifacts_leaves_no_trace(blobs, tmp_path):
    one = put_wheel(blobs, wheel("one"), "one")
    two = put_wheel(blobs, wheel("two"), "two")
    forwards = build(blobs, tmp_path / "a", [one, two])
    backwards = build(blobs, tmp_path / "b", [two, one])

    assert forwards.manifest == backwards.manifest


def test_base_layers_stay_as_they_are_under_oci_media_types(blobs, tmp_path):
    data = gzip.compress(b"not looked at", mtime=0)
    layer = Layer(
        kind=LayerKind.BASE,
        title="base 1 of 1",
        diff_id=sha(b"not looked at"),
        blob=Descriptor(
            media_type="application/vnd.docker.image.rootfs.diff.tar.gzip",
            digest=blobs.put(data),
            size_bytes=len(data),
        ),
    )
    config = {
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "created": "2024-05-05T05:05:05Z",
        "author": "someone",
        "container_config": {"Hostname": "abc"},
        "config": {
            "Env": None,
            "Entrypoint": ["/banner.sh"],
            "Cmd": ["sh"],
            "User": "1000",
            "Volumes": {"/data": {}},
            "Labels": {"a": "b"},
        },
        "history": [{"created_by": "base"}, {"created_by": "env", "empty_layer": True}],
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id)]},
    }
    image = build(blobs, tmp_path, base_image=base(blobs, config=config, layers=[layer]))
    written = json.loads(blobs.get(image.config.digest))
    first = json.loads(blobs.get(image.manifest.digest))["layers"][0]

    assert "application/vnd.oci.image.layer.v1.tar+gzip" == first["mediaType"]
    assert (str(layer.blob.digest), len(data)) == (first["digest"], first["size"])
    assert {"Env", "Labels", "WorkingDir"} == set(written["config"])
    assert ("arm64", "v8") == (written["architecture"], written["variant"])
    assert config["history"] == written["history"][:2]
    assert "author" not in written
    assert "container_config" not in written


def test_a_base_without_history_gets_one_for_each_layer(blobs, tmp_path):
    layers = [
        Layer(
            kind=LayerKind.BASE,
            title=f"base {n} of 2",
            diff_id=sha(b"%d" % n),
            blob=Descriptor(media_type="x", digest=blobs.put(b"%d" % n), size_bytes=1),
        )
        for n in (1, 2)
    ]
    image = build(blobs, tmp_path, base_image=base(blobs, layers=layers))

    history = json.loads(blobs.get(image.config.digest))["history"]
    assert ["base 1 of 2", "base 2 of 2"] == [entry["created_by"] for entry in history[:2]]
    assert 3 == len(history)


def test_a_recipe_that_does_not_fit_is_refused_with_every_reason(blobs, tmp_path):
    image_base = base(blobs, target=None)
    other = base(blobs, config={"architecture": "arm64", "os": "linux"})
    asked = recipe(image_base, [put_wheel(blobs, wheel())])

    with pytest.raises(ImageError) as caught:
        Builder(blobs, tmp_path).build(asked, other, DictTree({"a": b""}), SilentProgress())
    assert 3 == len(caught.value.details)


def test_a_missing_wheel_is_named(blobs, tmp_path):
    artifact = put_wheel(MemoryBlobStore(), wheel())

    with pytest.raises(MissingObjectError) as caught:
        build(blobs, tmp_path, [artifact])
    assert str(artifact.sha256) == caught.value.name


def test_a_damaged_wheel_is_named(blobs, tmp_path):
    data = wheel()
    artifact = put_wheel(blobs, data)
    blobs._blobs[artifact.sha256] = data.replace(b"Wheel-Version", b"wheel-version") + b"\0"

    with pytest.raises((DigestMismatchError, ImageError), match=r"demo|packages"):
        build(blobs, tmp_path, [artifact])


def test_a_file_that_would_be_a_deletion_is_refused(blobs, tmp_path):
    with pytest.raises(ImageError) as caught:
        build(blobs, tmp_path, tree=DictTree({"a/.wh.b": b"", ".wh..wh..opq/x": b"", "ok": b""}))

    assert (".wh..wh..opq/x", "a/.wh.b") == caught.value.details


def test_more_layers_than_engines_take_are_refused(blobs, tmp_path):
    layers = [
        Layer(
            kind=LayerKind.BASE,
            title="x",
            diff_id=sha(b"x"),
            blob=Descriptor(media_type="x", digest=blobs.put(b"x"), size_bytes=1),
        )
    ] * 125

    with pytest.raises(ImageError, match="126 layers"):
        build(blobs, tmp_path, base_image=base(blobs, layers=layers))


class Collected:
    def __init__(self):
        self.data = bytearray()

    def write(self, data):
        self.data += data
        return len(data)

    def commit(self, *, expected=None):
        return Digest.sha256(hashlib.sha256(self.data).hexdigest()), len(self.data)


@pytest.mark.parametrize("size", [0, 1, 65534, 65535, 65536, 131070, 131071, 300_000])
def test_the_framing_does_not_depend_on_the_sizes_of_the_pieces(size):
    data = NOISE[:size]
    results = set()
    for step in (1000, 65535, 65536, 1 << 20):
        out = Collected()
        writer = LayerWriter(out)
        for start in range(0, size, step):
            writer.write(data[start : start + step])
        diff_id, blob = writer.commit()
        results.add((diff_id, blob.digest))
        assert data + bytes(1024) == gzip.decompress(bytes(out.data))
    assert 1 == len(results)


def test_tar_unpacks_all_layers_over_each_other(blobs, tmp_path):
    artifact = put_wheel(blobs, wheel(files={"demo/__init__.py": b"", "demo/big.bin": BIG}))
    image = build(blobs, tmp_path, [artifact], DictTree({"a/b.py": b"1"}))
    root = tmp_path / "root"
    root.mkdir()
    for layer in image.layers:
        with tarfile.open(fileobj=io.BytesIO(blobs.get(layer.blob.digest)), mode="r:gz") as read:
            # Python 3.11.2, which Debian 12 has, knows no filters; 3.12 wants to be told.
            read.extraction_filter = getattr(tarfile, "tar_filter", None)
            read.extractall(root)

    assert BIG == (root / SITE / "demo/big.bin").read_bytes()
    assert b"1" == (root / "xm/code/a/b.py").read_bytes()
