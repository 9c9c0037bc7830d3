"""Finding, reading and importing base images, and what they offer."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

import pytest
import zstandard

from tests.unit.image_parts import sha
from xmslurm_repro.errors import (
    BaseUnreachableError,
    DigestMismatchError,
    ImageError,
    MissingObjectError,
    NoBaseImageError,
    UsageError,
)
from xmslurm_repro.image.bases import Bases
from xmslurm_repro.image.importing import from_docker_archive
from xmslurm_repro.model.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
)
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.memory_blobs import MemoryBlobStore

STATUS = (
    b"Package: libc6\nStatus: install ok installed\nVersion: 2.36-9+deb12u9\n\n"
    b"Package: python3.11-minimal\nStatus: install ok installed\nVersion: 3.11.2-6+deb12u6\n\n"
    b"Package: python3.9-minimal\nStatus: deinstall ok config-files\nVersion: 3.9.2-1\n\n"
)
DEBIAN = {
    "bin": "->usr/bin",
    "usr/bin/python3.11": b"\x7fELF",
    "usr/bin/python3": "->python3.11",
    "var/lib/dpkg/status": STATUS,
}


def tar(files: dict) -> bytes:
    """A layer: bytes are files, ``->x`` links, ``=>x`` hard links, ``None`` folders."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, what in files.items():
            member = tarfile.TarInfo(name)
            if what is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(what, str):
                member.type = tarfile.SYMTYPE if what[:2] == "->" else tarfile.LNKTYPE
                member.linkname = what[2:]
            else:
                member.size = len(what)
            archive.addfile(member, io.BytesIO(what if isinstance(what, bytes) else b""))
    return out.getvalue()


def put(blobs, data: bytes, media_type: str) -> Descriptor:
    return Descriptor(media_type=media_type, digest=blobs.put(data), size_bytes=len(data))


def put_image(blobs, *layers: dict, env=(), pack=None, config=None, lie=None) -> Descriptor:
    """An image of *layers*; *pack* is (compress, media type); *lie* replaces the DiffIDs."""
    compress, media_type = pack or (
        lambda data: gzip.compress(data, mtime=0),
        MEDIA_TYPE_LAYER_GZIP,
    )
    tars = [tar(layer) for layer in layers]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"{name}={value}" for name, value in env]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [str(sha(each)) for each in tars] if lie is None else lie,
        },
    } | (config or {})
    manifest = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE_MANIFEST,
        "config": put(blobs, json.dumps(document).encode(), MEDIA_TYPE_CONFIG).to_json(),
        "layers": [put(blobs, compress(each), media_type).to_json() for each in tars],
    }
    return put(blobs, json.dumps(manifest).encode(), MEDIA_TYPE_MANIFEST)


def bases(blobs, tmp_path, pull=None, **more) -> Bases:
    def no_pull(reference, architecture, progress):
        raise AssertionError(f"asked the registry for {reference}")

    return Bases(
        blobs, pull or no_pull, work_dir=tmp_path / "work", cache_dir=tmp_path / "cache", **more
    )


def resolve(blobs, tmp_path, reference, pull=None, **more):
    return bases(blobs, tmp_path, pull, **more).resolve(reference, progress=SilentProgress())


def target_of(tmp_path, *layers: dict, **more):
    blobs = MemoryBlobStore()
    blobs.set_ref("base/b", put_image(blobs, *layers, **more))
    return resolve(blobs, tmp_path, "b").target


@pytest.fixture
def blobs():
    return MemoryBlobStore()


def test_a_debian_base_tells_its_platform_by_its_package_database(tmp_path):
    target = target_of(tmp_path, DEBIAN)

    assert ("3.11.2", "/usr/bin/python3.11") == (target.python, target.python_executable)
    assert ("amd64", ("glibc", 2, 36)) == (target.architecture, target.libc)
    assert "python3.11-minimal 3.11.2-6+deb12u6" in target.source


def test_an_official_python_image_tells_it_by_its_environment(tmp_path):
    files = DEBIAN | {"usr/local/bin/python3.12": b"", "usr/local/bin/python3": "->python3.12"}
    target = target_of(
        tmp_path, files, env=[("PYTHON_VERSION", "3.12.7"), ("PATH", "/usr/local/bin:/usr/bin")]
    )

    assert ("3.12.7", "/usr/local/bin/python3.12") == (target.python, target.python_executable)


def test_an_environment_that_speaks_of_another_python_is_not_believed(tmp_path):
    files = DEBIAN | {
        "usr/local/bin/python3.12": b"\0junk\x003.12.4\0",
        "usr/local/bin/python3": "->python3.12",
    }
    target = target_of(tmp_path, files, env=[("PYTHON_VERSION", "3.11.9")])

    assert "3.12.4" == target.python


@pytest.mark.parametrize(
    "extra",
    [
        {"opt/conda/include/python3.10/patchlevel.h": b'#define PY_VERSION   "3.10.14"\n'},
        {"opt/conda/lib/libpython3.10.so.1.0": b"a\x003.10.99x\x003.10.14\x00"},
        {"opt/conda/bin/python3.10": b"\x003.10.14+\x00"},
    ],
)
def test_a_python_from_elsewhere_tells_it_by_its_own_files(tmp_path, extra):
    files = {
        "opt/conda/bin/python3.10": b"",
        "opt/conda/bin/python": "->python3.10",
        "lib/x86_64-linux-gnu/libc.so.6": b"\0GNU C Library (Ubuntu GLIBC 2.35-0ubuntu3.8) stable release version 2.35.\n\0",
    } | extra
    target = target_of(tmp_path, files, env=[("PATH", "/opt/conda/bin:/usr/bin")])

    assert ("3.10.14", "/opt/conda/bin/python3.10") == (target.python, target.python_executable)
    assert ("glibc", 2, 35) == target.libc


def test_alpine_tells_its_musl(tmp_path):
    target = target_of(
        tmp_path,
        {
            "lib/apk/db/installed": b"C:Q1x=\nP:musl\nV:1.2.5-r0\n\nP:python3\nV:3.12.7-r0\n",
            "usr/bin/python3.12": b"",
            "usr/bin/python3": "->python3.12",
        },
    )

    assert (("musl", 1, 2), "3.12.7") == (target.libc, target.python)


def test_distroless_status_files_count(tmp_path):
    target = target_of(
        tmp_path,
        {
            "var/lib/dpkg/status.d/libc6": b"Package: libc6\nVersion: 2.36-9\n",
            "var/lib/dpkg/status.d/py": b"Package: python3.11-minimal\nVersion: 3.11.2-6\n",
            "usr/bin/python3.11": b"",
        },
    )

    assert ("3.11.2", "/usr/bin/python3.11") == (target.python, target.python_executable)


def test_a_base_without_python_has_no_target(tmp_path):
    assert None is target_of(tmp_path, {"bin/sh": b""})


def test_a_python_off_the_path_does_not_count(tmp_path):
    assert None is target_of(tmp_path, {"opt/bin/python3.11": b""})


def test_the_highest_python_is_taken_where_none_is_called_python3(tmp_path):
    target = target_of(
        tmp_path,
        {
            "usr/bin/python3.9": b"",
            "usr/bin/python3.10": b"\x003.10.1\0",
            "var/lib/dpkg/status": STATUS,
        },
    )

    assert "/usr/bin/python3.10" == target.python_executable


def test_a_python_whose_version_or_c_library_is_nowhere_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"full version of /usr/bin/python3\.11"):
        target_of(tmp_path / "a", {"usr/bin/python3.11": b""})
    with pytest.raises(ImageError, match="C library"):
        target_of(tmp_path / "b", {"usr/bin/python3.11": b"\x003.11.4\0"})


def test_a_python_that_hides_its_minor_version_is_read(tmp_path):
    assert (
        "3.11.2"
        == target_of(
            tmp_path, {"usr/bin/python3": b"\x003.11.2\0", "var/lib/dpkg/status": STATUS}
        ).python
    )
    with pytest.raises(ImageError, match="does not tell which Python"):
        target_of(tmp_path / "x", {"usr/bin/python3": b""})


def test_upper_layers_win_and_whiteouts_delete(tmp_path):
    newer = STATUS.replace(b"3.11.2", b"3.11.9")
    target = target_of(
        tmp_path,
        DEBIAN | {"usr/local/bin/python3.13": b"\x003.13.0\0"},
        {"usr/local/bin/.wh.python3.13": b"", "./var/lib/dpkg/status": newer},
    )
    assert ("3.11.9", "/usr/bin/python3.11") == (target.python, target.python_executable)
    gone = target_of(tmp_path / "x", DEBIAN, {"usr/bin/.wh..wh..opq": b"", "usr/bin/x": b""})
    assert None is gone
    assert None is target_of(tmp_path / "y", DEBIAN, {".wh.usr": b""})


def test_an_opaque_folder_keeps_what_its_own_layer_brings(tmp_path):
    target = target_of(
        tmp_path,
        {"usr/bin/python3.9": b"", "var/lib/dpkg/status": STATUS},
        {"usr/bin/python3.11": b"", "usr/bin/.wh..wh..opq": b""},
    )

    assert "/usr/bin/python3.11" == target.python_executable


def test_hard_links_and_links_in_circles_are_followed_or_given_up(tmp_path):
    files = {
        "usr/bin/python3.11": b"",
        "usr/local/bin/python3": "=>usr/bin/python3.11",
        "var/lib/dpkg/status": STATUS,
    }
    circle = {"usr/bin/python3": "->python", "usr/bin/python": "->python3"}

    assert "/usr/bin/python3.11" == target_of(tmp_path, files).python_executable
    assert None is target_of(tmp_path / "x", circle)


@pytest.mark.parametrize(
    "pack",
    [
        (lambda data: data, "application/vnd.oci.image.layer.v1.tar"),
        (zstandard.ZstdCompressor().compress, "application/vnd.oci.image.layer.v1.tar+zstd"),
        (lambda data: gzip.compress(data[:600]) + gzip.compress(data[600:]), MEDIA_TYPE_LAYER_GZIP),
        (gzip.compress, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ],
    ids=["plain", "zstd", "gzip in members", "docker"],
)
def test_layers_of_every_compression_are_read(tmp_path, pack):
    assert "3.11.2" == target_of(tmp_path, DEBIAN, pack=pack).python


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress, bytes])
def test_a_damaged_layer_is_refused(tmp_path, pack):
    def damage(data):
        packed = bytearray(pack(data))
        packed[len(packed) // 2] ^= 0x55
        return bytes(packed)

    with pytest.raises((ImageError, DigestMismatchError)):
        target_of(tmp_path, DEBIAN, pack=(damage, MEDIA_TYPE_LAYER_GZIP))


def test_a_layer_that_is_not_its_diff_id_is_refused(tmp_path):
    with pytest.raises(DigestMismatchError):
        target_of(tmp_path, DEBIAN, lie=[str(sha(b"other"))])


def test_what_a_base_offers_is_looked_up_once(blobs, tmp_path):
    found = put_image(blobs, DEBIAN)
    blobs.set_ref("base/b", found)
    first = resolve(blobs, tmp_path, "b")
    blobs._blobs[first.layers[0].blob.digest] = b"damaged"

    assert first == resolve(blobs, tmp_path, "b")
    for entry in (tmp_path / "cache").rglob("*.json"):
        entry.write_text('{"target": {"libc": "glibc"}}')
    with pytest.raises((ImageError, DigestMismatchError)):
        resolve(blobs, tmp_path, "b")


def test_a_base_goes_by_name_or_digest(blobs, tmp_path):
    found = put_image(blobs, DEBIAN, env=[("A", "1=2")])
    added = bases(blobs, tmp_path).add(
        name="mine", reference=str(found.digest), progress=SilentProgress()
    )

    assert found == added.manifest == resolve(blobs, tmp_path, "mine").manifest
    assert (("A", "1=2"),) == added.env
    assert {"mine": found} == bases(blobs, tmp_path).names()


@pytest.mark.parametrize("reference", ["", "nobody", "sha256:12", "sha256:" + "0" * 64])
def test_a_base_that_is_not_here_is_refused_with_a_way_out(blobs, tmp_path, reference):
    blobs.set_ref("base/one", put_image(blobs, DEBIAN))

    with pytest.raises(NoBaseImageError) as caught:
        resolve(blobs, tmp_path, reference)
    assert "base create" in caught.value.hint
    assert ("there are: one",) == caught.value.details or reference != "nobody"


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a@b", "-a", "a b"])
def test_a_name_that_could_be_a_registrys_is_refused(blobs, tmp_path, name):
    with pytest.raises(UsageError):
        bases(blobs, tmp_path).add(name=name, reference="x", progress=SilentProgress())


@pytest.mark.parametrize(
    "reference", ["registry.example/py:3.11", "docker://registry.example/py:3.11", "python:3.11"]
)
def test_anything_else_is_pulled(blobs, tmp_path, reference):
    asked = []

    def pull(wanted, architecture, progress):
        asked.append(wanted)
        return put_image(blobs, DEBIAN)

    base = resolve(blobs, tmp_path, reference, pull)
    assert [reference.removeprefix("docker://")] == asked
    assert reference == base.reference


def put_index(blobs, **images: Descriptor) -> Descriptor:
    entries = [
        found.to_json()
        | {"platform": dict(zip(("os", "architecture", "variant"), name.split("_"), strict=False))}
        for name, found in images.items()
    ]
    data = json.dumps({"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": entries})
    return put(blobs, data.encode(), MEDIA_TYPE_INDEX)


def test_of_several_platforms_the_one_asked_for_is_taken(blobs, tmp_path):
    arm = put_image(blobs, {"x": b""}, config={"architecture": "arm64"})
    amd = put_image(blobs, DEBIAN)
    index = put_index(blobs, unknown_unknown=amd, linux_arm64=arm, linux_amd64=amd)
    blobs.set_ref("base/b", index)

    assert amd == resolve(blobs, tmp_path, "b").manifest
    assert arm == resolve(blobs, tmp_path, "b", architecture="arm64").manifest
    with pytest.raises(BaseUnreachableError) as caught:
        resolve(blobs, tmp_path, "b", architecture="s390x")
    assert ("there are: linux/amd64, linux/arm64",) == caught.value.details


def test_of_several_variants_the_plain_one_is_taken(blobs, tmp_path):
    plain = put_image(blobs, DEBIAN)
    newer = put_image(blobs, {**DEBIAN, "x": b""})
    for name, variants in {
        "one": {"linux_amd64_v3": newer, "linux_amd64": plain},
        "two": {"linux_amd64_v3": newer, "linux_amd64_v1": plain},
    }.items():
        blobs.set_ref(f"base/{name}", put_index(blobs, **variants))

        assert plain == resolve(blobs, tmp_path, name).manifest


def test_a_base_for_another_architecture_than_asked_for_is_refused(blobs, tmp_path):
    blobs.set_ref("base/b", put_image(blobs, DEBIAN))

    with pytest.raises(BaseUnreachableError, match="for amd64, not arm64"):
        resolve(blobs, tmp_path, "b", architecture="arm64")


def test_an_index_of_indexes_without_end_is_refused(blobs, tmp_path):
    found = put_image(blobs, DEBIAN)
    for _ in range(9):
        found = put_index(blobs, linux_amd64=found)
    blobs.set_ref("base/b", found)

    with pytest.raises(ImageError, match="without end"):
        resolve(blobs, tmp_path, "b")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": {"os": "windows"}}, "for windows, not for Linux"),
        (
            {
                "pack": (
                    gzip.compress,
                    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                )
            },
            "cannot be built upon",
        ),
        ({"lie": []}, "cannot be built upon"),
    ],
)
def test_what_a_job_could_not_run_is_refused(blobs, tmp_path, change, said):
    blobs.set_ref("base/b", put_image(blobs, DEBIAN, **change))

    with pytest.raises(ImageError, match=said):
        resolve(blobs, tmp_path, "b")


def test_an_artifact_that_is_no_image_is_refused(blobs, tmp_path):
    blobs.set_ref("base/b", put(blobs, b'{"schemaVersion":1,"fsLayers":[]}', "application/x"))

    with pytest.raises(ImageError, match="no image manifest"):
        resolve(blobs, tmp_path, "b")


def test_a_base_whose_layer_is_gone_is_named(blobs, tmp_path):
    blobs.set_ref("base/b", put_image(blobs, DEBIAN))
    layer = resolve(blobs, tmp_path, "b").layers[0].blob.digest
    del blobs._blobs[layer]

    with pytest.raises(MissingObjectError, match="base image b"):
        resolve(blobs, tmp_path, "b")


def test_an_oci_layout_is_copied_blob_by_blob(blobs, tmp_path):
    layout = DiskBlobStore(tmp_path / "layout")
    one, two = put_image(layout, DEBIAN), put_image(layout, DEBIAN, {"x": b""})
    layout.set_ref("one", one)
    place = f"oci:{tmp_path / 'layout'}"

    assert one == resolve(blobs, tmp_path, place).manifest
    layout.set_ref("two:latest", two)
    assert two == resolve(blobs, tmp_path, f"{place}:two:latest").manifest
    assert all(
        blobs.has(layer.blob.digest) for layer in resolve(blobs, tmp_path, f"{place}:one").layers
    )


def test_an_oci_layout_that_is_not_whole_is_refused(blobs, tmp_path):
    layout = DiskBlobStore(tmp_path / "layout")
    found = put_image(layout, DEBIAN)
    layout.set_ref("one", found)
    layer = json.loads(layout.get(found.digest))["layers"][0]["digest"].removeprefix("sha256:")
    (tmp_path / "layout/blobs/sha256" / layer).write_bytes(b"other")

    for place in ("layout", "layout:nobody", "nowhere"):
        with pytest.raises(BaseUnreachableError):
            resolve(blobs, tmp_path, f"oci:{tmp_path / place}")
    assert [] == [digest for digest in blobs.digests() if digest.hex == layer]


def docker_archive(tmp_path, *layers: bytes, name="saved.tar"):
    diff_ids = [
        str(sha(gzip.decompress(each) if each[:2] == b"\x1f\x8b" else each)) for each in layers
    ]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    files = {"config.json": config, **dict(zip(names, layers, strict=True))}
    files["manifest.json"] = json.dumps(
        [{"Config": "config.json", "RepoTags": None, "Layers": names}]
    ).encode()
    (tmp_path / name).write_bytes(tar(files))
    return f"docker-archive:{tmp_path / name}", sha(config)


def test_a_docker_archive_keeps_the_images_id_and_its_layers_bytes(blobs, tmp_path):
    reference, image_id = docker_archive(tmp_path, tar(DEBIAN), gzip.compress(tar({"x": b""})))
    base = resolve(blobs, tmp_path, reference)

    assert image_id == base.config.digest
    assert [str(sha(tar(DEBIAN))), str(sha(tar({"x": b""})))] == [
        str(each.diff_id) for each in base.layers
    ]
    assert tar(DEBIAN) == gzip.decompress(blobs.get(base.layers[0].blob.digest))
    assert base.manifest == resolve(MemoryBlobStore(), tmp_path, reference).manifest


def test_a_docker_archive_that_is_not_what_it_says_is_refused(blobs, tmp_path):
    reference, _ = docker_archive(tmp_path, tar(DEBIAN))
    path = tmp_path / "saved.tar"
    path.write_bytes(path.read_bytes().replace(b"Package: libc6", b"Package: libc7"))
    (tmp_path / "none").write_bytes(b"none")
    (tmp_path / "empty.tar").write_bytes(tar({}))

    for wrong in (
        reference,
        f"docker-archive:{tmp_path}/none",
        f"docker-archive:{tmp_path}/empty.tar",
    ):
        with pytest.raises(BaseUnreachableError):
            resolve(blobs, tmp_path, wrong)


def test_an_archive_of_two_images_is_refused(blobs, tmp_path):
    (tmp_path / "two.tar").write_bytes(tar({"manifest.json": b"[{},{}]"}))

    with pytest.raises(BaseUnreachableError, match="2 images instead of one"):
        from_docker_archive(tmp_path / "two.tar", blobs)


def test_an_engine_that_does_not_answer_is_named(blobs, tmp_path):
    url = f"unix://{tmp_path}/nobody.sock"

    with pytest.raises(BaseUnreachableError, match="nobody.sock cannot be asked for 'debian:12'"):
        resolve(blobs, tmp_path, "docker-daemon:debian:12", docker_host=url)
