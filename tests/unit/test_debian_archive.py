"""Debian archives: which ones, and that nothing of them is believed unchecked."""

from __future__ import annotations

import gzip
import hashlib
import lzma

import pytest

from tests.support.loopback import Reply, serve
from xmslurm_repro.errors import FetchError, UsageError
from xmslurm_repro.lock.debian_archive import (
    host_apt_files,
    parse_source,
    read_packages,
    sources_of,
)
from xmslurm_repro.transport.http import Http

PACKAGES = b"Package: tool\nVersion: 1\nFilename: pool/t/tool_1_amd64.deb\nSHA256: 00\n"


def archive(packages=PACKAGES, *, suffix=".xz", listed=None, extra=()):
    """An unsigned archive with one suite, ``lab``."""
    data = {".xz": lzma.compress, ".gz": gzip.compress, "": bytes}[suffix](packages)
    name = f"main/binary-amd64/Packages{suffix}"
    digest = listed or hashlib.sha256(data).hexdigest()
    release = f"Suite: lab\nSHA256:\n {digest} {len(data)} {name}\n".encode()
    pages = {"/dists/lab/InRelease": release, f"/dists/lab/{name}": data, **dict(extra)}
    return serve(
        lambda request: (
            Reply(body=pages[request.path]) if request.path in pages else Reply(status=404)
        )
    )


def read(url, *, is_trusted=True, files=None, architecture="amd64"):
    source = parse_source(f"deb {url}/ lab main")
    door = Http(user_agent="test", attempts=1)
    return read_packages(
        [source], architecture, http=door, files=files or {}, is_trusted=is_trusted
    )


@pytest.mark.parametrize("suffix", [".xz", ".gz", ""])
def test_packages_are_read_with_the_place_that_they_come_from(suffix):
    with archive(suffix=suffix) as server:
        (found,) = read(server.url)

    assert "tool" == found["Package"]
    assert f"{server.url}/pool/t/tool_1_amd64.deb" == found["URL"]


def test_a_list_that_the_release_file_does_not_name_is_refused():
    with archive(listed="0" * 64) as server, pytest.raises(FetchError) as caught:
        read(server.url)

    assert "is not the one that was signed" in caught.value.message


def test_an_archive_without_a_signature_is_refused():
    with archive() as server, pytest.raises(FetchError) as caught:
        read(server.url, is_trusted=False)

    assert "is not signed by a key that is trusted here" in caught.value.message
    assert "--trusted" in caught.value.hint


def test_an_archive_without_packages_for_the_architecture_is_refused():
    with archive() as server, pytest.raises(FetchError, match="no packages for riscv64"):
        read(server.url, architecture="riscv64")


def test_an_archive_that_is_not_there_is_said():
    with archive() as server, pytest.raises(FetchError, match="404"):
        read(f"{server.url}/elsewhere")


RELEASE = {"usr/lib/os-release": b'ID=debian\nVERSION_CODENAME="bookworm"\n'}


HOST = {
    "etc/apt/sources.list": b"deb http://m/debian bookworm main\ndeb http://m/debian trixie main\n",
    "etc/apt/sources.list.d/more.sources": b"Types: deb\nURIs: http://s/debian-security\n"
    b"Suites: bookworm-security\nComponents: main\n",
    "etc/apt/sources.list.d/other.list": b"deb https://tools.example/apt tool-bookworm main\n",
}


def names(files, host=HOST, suite=None):
    return [str(source) for source in sources_of(files, host, suite)]


def test_the_archives_are_those_of_the_bases_own_apt():
    files = {
        **RELEASE,
        "etc/apt/sources.list": b"# none\ndeb [arch=amd64] http://mirror/debian stable main # c\n"
        b"deb-src http://mirror/debian stable main\n",
        "etc/apt/sources.list.d/a.sources": b"Types: deb deb-src\nURIs: http://b/\n"
        b"Suites: one two\nComponents: main extra\n\n"
        b"Types: deb\nURIs: http://off\nSuites: x\nComponents: y\nEnabled: no\n",
        "etc/apt/sources.list.d/b.list.disabled": b"deb http://c d e\n",
    }

    assert [
        "deb http://mirror/debian stable main",
        "deb http://b one main extra",
        "deb http://b two main extra",
    ] == names(files)


def test_a_base_without_apt_has_this_machines_archives_of_its_suite():
    assert [
        "deb http://m/debian bookworm main",
        "deb http://s/debian-security bookworm-security main",
    ] == names(RELEASE)
    assert ["deb http://m/debian trixie main"] == names(RELEASE, suite="trixie")


def test_what_this_machine_is_configured_with_is_read(tmp_path):
    for path, data in HOST.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)

    assert host_apt_files(tmp_path / "etc/apt") == HOST
    assert host_apt_files(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("files", [{}, {"etc/os-release": b"ID=x\nVERSION_CODENAME=noble\n"}])
def test_a_base_whose_archive_nobody_knows_needs_a_source(files):
    with pytest.raises(UsageError) as caught:
        names(files)

    assert "--source" in caught.value.hint


@pytest.mark.parametrize(
    "line", ["http://x y z", "deb x y z", "deb http://x y", "rpm http://x y z"]
)
def test_what_is_no_source_is_refused(line):
    with pytest.raises(UsageError):
        parse_source(line)
