"""Package databases of base images, and the bill of materials made from them."""

from __future__ import annotations

import pytest

from xmslurm_repro.image.contents import contents_of
from xmslurm_repro.image.rootfs import RootView
from xmslurm_repro.model.contents import Contents, SystemPackage
from xmslurm_repro.model.reader import Reader

DEBIAN = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10

Package: gone
Status: deinstall ok config-files
Version: 1
Architecture: all

Package: adduser
Status: install ok installed
Architecture: all
Version: 3.134
"""
ALPINE = b"P:musl\nV:1.2.5-r0\nA:x86_64\n\nP:busybox\nV:1.36\n\n"


def test_debians_database_is_read():
    view = RootView(
        files={
            "var/lib/dpkg/status": DEBIAN,
            "usr/lib/os-release": b'NAME="Debian"\nVERSION_ID="12"\nID=debian\nID_LIKE=x\n',
        },
        links={"etc/os-release": "../usr/lib/os-release"},
    )

    assert Contents(
        distribution="debian",
        release="12",
        packages=(
            SystemPackage(kind="deb", name="adduser", version="3.134", architecture="all"),
            SystemPackage(
                kind="deb", name="libc6", version="2.36-9+deb12u10", architecture="amd64"
            ),
        ),
    ) == contents_of(view)


def test_distroless_and_alpine_databases_are_read():
    distroless = RootView(
        files={
            "var/lib/dpkg/status.d/libc6": b"Package: libc6\nVersion: 2\n",
            "var/lib/dpkg/status.d/libc6.md5sums": b"Package: no\nVersion: 1\n",
        }
    )
    alpine = RootView(files={"lib/apk/db/installed": ALPINE, "etc/os-release": b"ID=alpine\n"})

    assert [("libc6", "2")] == [(p.name, p.version) for p in contents_of(distroless).packages]
    assert ["busybox", "musl"] == [package.name for package in contents_of(alpine).packages]
    assert ("alpine", "") == (contents_of(alpine).distribution, contents_of(alpine).release)


@pytest.mark.parametrize("files", [{}, {"etc/os-release": b"\xff\xfe\nID=odd\n"}])
def test_a_base_without_a_database_has_no_packages(files):
    found = contents_of(RootView(files=files))

    assert () == found.packages
    assert found == Contents.from_json(Reader(found.to_json(), "contents"))
