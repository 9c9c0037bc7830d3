"""The layer of system packages: Debian packages over a base, without dpkg."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile

import pytest

from tests.support.debs import make_deb, make_tar, put_deb
from tests.unit.image_parts import base, content, members, raw, sha
from xmslurm_repro.errors import DigestMismatchError, ImageError
from xmslurm_repro.image.cache import LayerCache
from xmslurm_repro.image.system import script_remarks, system_layers
from xmslurm_repro.model.image import MEDIA_TYPE_LAYER_GZIP, Descriptor, Layer, LayerKind
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.memory_blobs import MemoryBlobStore

MERGED = {"usr/bin": None, "usr/lib": None, "bin": "-> usr/bin", "lib": "-> /usr/lib"}
STATUS = b"Package: libc6\nStatus: install ok installed\nVersion: 2.36\n\n"


@pytest.fixture
def blobs():
    return MemoryBlobStore()


def base_with(blobs, files):
    data = gzip.compress(make_tar(files), mtime=0)
    blob = Descriptor(
        media_type=MEDIA_TYPE_LAYER_GZIP, digest=blobs.put(data), size_bytes=len(data)
    )
    diff_id = sha(gzip.decompress(data))
    layer = Layer(kind=LayerKind.BASE, title="base 1 of 1", diff_id=diff_id, blob=blob)
    return base(blobs, layers=[layer])


def build(blobs, packages, files=MERGED, cache=None):
    artifacts = [put_deb(blobs, name, data) for name, data in packages.items()]
    (layer,) = system_layers(artifacts, base_with(blobs, files), blobs, cache, SilentProgress())
    return layer


def test_files_lie_where_dpkg_would_have_put_them(blobs):
    data = make_deb(
        "tool",
        {
            "*bin/tool": b"#!",
            "lib/x/a.so.1.0": b"elf",
            "lib/x/a.so.1": "-> a.so.1.0",
            "etc/t": b"c",
        },
    )
    found = members(blobs, build(blobs, {"tool": data}))

    assert 0o755 == found["usr/bin/tool"].mode
    assert "a.so.1.0" == found["usr/lib/x/a.so.1"].linkname
    assert found["usr/lib/x/a.so.1.0"].isfile()
    assert found["etc/t"].isfile()
    # A folder there would hide the link of the base, and all that is behind it.
    assert not {"bin", "lib"} & set(found)
    assert {1} == {member.mtime for member in found.values()}
    assert {""} == {member.uname for member in found.values()}


def test_links_of_one_package_are_followed_by_the_files_of_another(blobs):
    one = make_deb("one", {"usr/share/real": None, "usr/share/alias": "-> real"})
    two = make_deb("two", {"usr/share/alias/file": b"x"})
    found = members(blobs, build(blobs, {"two": two, "one": one}))

    assert "usr/share/real/file" in found
    assert found["usr/share/alias"].issym()


def test_hard_links_stay_one_file(blobs):
    data = make_deb("git", {"usr/lib/git": b"program", "bin/git": "=> usr/lib/git"})
    layer = build(blobs, {"git": data})

    with tarfile.open(fileobj=io.BytesIO(raw(blobs, layer))) as archive:
        names = [member.name for member in archive if member.islnk() or member.isfile()]
        assert names.index("usr/bin/git") < names.index("usr/lib/git")
        assert "usr/bin/git" == archive.getmember("usr/lib/git").linkname
        assert b"program" == archive.extractfile("usr/bin/git").read()


@pytest.mark.parametrize("suffix", ["xz", "gz", "zst"])
def test_neither_compression_nor_time_nor_order_leaves_a_trace(blobs, suffix):
    def packages(**options):
        return {
            name: make_deb(name, {f"usr/bin/{name}": b"x", "usr/share/d": None}, **options)
            for name in ("a", "b")
        }

    plain = build(blobs, packages())
    other = packages(suffix=suffix, mtime=5)
    turned = build(blobs, {name: other[name] for name in ("b", "a")})

    assert plain == turned


def test_documentation_stays_out_and_licences_stay_in(blobs):
    files = {
        "usr/share/doc/t/copyright": b"c",
        "usr/share/doc/t/NEWS": b"n",
        "usr/share/man/m": b"",
    }
    found = members(blobs, build(blobs, {"t": make_deb("t", files)}))

    assert "usr/share/doc/t/copyright" in found
    assert not {"usr/share/doc/t/NEWS", "usr/share/man/m"} & set(found)


def test_a_base_with_a_file_for_each_package_gets_more_of_them(blobs):
    data = make_deb("tool", {"usr/bin/tool": b""}, fields="Depends: libc6\n")
    layer = build(blobs, {"tool": data})

    status = content(blobs, layer, "var/lib/dpkg/status.d/tool")
    assert b"Package: tool\nVersion: 1.0\nArchitecture: amd64\nDepends: libc6\n" == status


def test_a_base_with_one_file_for_all_packages_gets_it_written_again(blobs):
    data = make_deb(
        "libx",
        {"usr/lib/libx.so": b""},
        fields="Multi-Arch: same\n",
        scripts={"postinst": b"#!/bin/sh\n"},
    )
    layer = build(blobs, {"libx": data}, {**MERGED, "var/lib/dpkg/status": STATUS})
    status = content(blobs, layer, "var/lib/dpkg/status").decode()
    found = members(blobs, layer)

    assert status.startswith(STATUS.decode())
    assert "\n\nPackage: libx\nStatus: install ok unpacked\nVersion: 1.0\n" in status
    assert status.endswith("\n\n")
    listed = content(blobs, layer, "var/lib/dpkg/info/libx:amd64.list")
    assert b"/.\n/usr\n/usr/lib\n/usr/lib/libx.so\n" == listed
    assert 0o755 == found["var/lib/dpkg/info/libx:amd64.postinst"].mode


def test_dpkg_reads_the_database_that_we_wrote(blobs, tmp_path):

    packages = {"one": make_deb("one", {"usr/bin/one": b""}), "two": make_deb("two", {})}
    layer = build(blobs, packages, {**MERGED, "var/lib/dpkg/status": STATUS})
    with tarfile.open(fileobj=io.BytesIO(raw(blobs, layer))) as archive:
        archive.extractall(tmp_path, filter="tar")
    words = ["dpkg-query", f"--admindir={tmp_path}/var/lib/dpkg"]
    said = subprocess.check_output([*words, "-W", "-f", "${Package} ${db:Status-Status}\n"])
    files = subprocess.check_output([*words, "-L", "one"])

    assert b"libc6 installed\none unpacked\ntwo unpacked\n" == said
    assert b"/usr/bin/one" in files


def test_everything_that_contradicts_is_said_at_once(blobs):
    one = make_deb("one", {"usr/bin/x": b"1", "bin/y": b""})
    two = make_deb("two", {"usr/bin/x": b"1", "usr/bin/y": b""})
    with pytest.raises(ImageError) as caught:
        build(blobs, {"one": one, "two": two, "three": b"no package"})

    assert (
        "three_1.0_amd64.deb: it is no Debian package",
        "/usr/bin/x is in one and in two",
        "/usr/bin/y is in one and in two",
    ) == caught.value.details


@pytest.mark.parametrize("cut", [100, 300, -40])
def test_a_package_that_is_cut_is_refused(blobs, cut):
    data = make_deb("cut", {"usr/bin/cut": bytes(range(256)) * 40})
    with pytest.raises(ImageError, match="cannot be put into an image"):
        build(blobs, {"cut": data[:cut]})


def test_a_package_that_is_damaged_is_found_out(blobs):
    artifact = put_deb(blobs, "tool", make_deb("tool", {"usr/bin/tool": b"x"}))
    blobs._blobs[artifact.sha256] = b"other bytes"

    with pytest.raises(DigestMismatchError):
        system_layers([artifact], base_with(blobs, MERGED), blobs, None, SilentProgress())


def test_a_warm_build_reads_no_package(blobs, tmp_path):
    cache = LayerCache(tmp_path, blobs)
    artifact = put_deb(blobs, "tool", make_deb("tool", {"usr/bin/tool": b"x"}))
    first = system_layers([artifact], base_with(blobs, MERGED), blobs, cache, SilentProgress())
    blobs._blobs[artifact.sha256] = b"gone"

    assert first == system_layers(
        [artifact], base_with(blobs, MERGED), blobs, cache, SilentProgress()
    )


def test_scripts_that_are_not_run_are_told(blobs):
    quiet = put_deb(blobs, "quiet", make_deb("quiet", {}, scripts={"prerm": b""}))
    loud = put_deb(blobs, "loud", make_deb("loud", {}, scripts={"postinst": b"", "preinst": b""}))

    remarks = script_remarks([quiet, loud], blobs)
    assert ("loud 1.0: its postinst and preinst is not run",) == remarks
