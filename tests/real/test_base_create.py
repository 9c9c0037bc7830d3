"""Base images from Debian packages, made by the real mmdebstrap from a real mirror."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.testbed.users import USERS, make_users
from xmslurm_repro.errors import ImageError, UsageError
from xmslurm_repro.image.bases import Bases
from xmslurm_repro.image.create import create_base
from xmslurm_repro.model.image import BaseImage
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.layout import DiskBlobStore

pytestmark = [pytest.mark.real, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/support/make_base.py"
IMPORTS = """
import bz2, ctypes.util, curses, decimal, lzma, pwd, readline, sqlite3, ssl, uuid, zlib, zoneinfo
assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 100
assert "libstdc++.so.6" == ctypes.util.find_library("stdc++")
assert "libgomp.so.1" == ctypes.util.find_library("gomp")
assert "/root" == pwd.getpwuid(0).pw_dir
zoneinfo.ZoneInfo("Europe/Berlin")
"""


def no_registry(reference, architecture, progress):
    raise AssertionError(f"asked a registry for {reference}")


def bases(folder: Path, **more) -> Bases:
    return Bases(
        DiskBlobStore(folder / "oci"),
        no_registry,
        work_dir=folder / "work",
        cache_dir=folder / "cache",
        **more,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("base")


@pytest.fixture(scope="module")
def made(folder) -> BaseImage:
    return bases(folder).create(
        name="default", suite="bookworm", packages=(), mirror=None, progress=SilentProgress()
    )


def made_by(*command: str, folder: Path, umask: int = 0o022, user: str = "", **env: str) -> str:
    done = subprocess.run(
        [*command, sys.executable, "-P", str(PROGRAM), str(folder), *([user] if user else [])],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        cwd="/",
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_base_says_what_it_offers(made, folder):
    assert ("amd64", "3.11.2", ("glibc", 2, 36)) == (
        made.target.architecture,
        made.target.python,
        made.target.libc,
    )
    assert "/usr/bin/python3.11" == made.target.python_executable
    assert made == bases(folder).resolve("default", progress=SilentProgress())
    assert {"default": made.manifest} == bases(folder).names()


def test_a_base_says_what_it_was_made_of(made, folder):
    config = json.loads(DiskBlobStore(folder / "oci").get(made.config.digest))
    packages = config["history"][0]["comment"].split()

    assert {"debian.suite": "bookworm"} == config["config"]["Labels"]
    assert any(each.startswith("libc6=2.36-9") for each in packages)
    assert any(each.startswith("ca-certificates=") for each in packages)


def test_nothing_of_the_building_machine_is_in_a_base(made, folder):
    with (
        DiskBlobStore(folder / "oci").open(made.layers[0].blob.digest) as blob,
        tarfile.open(fileobj=blob, mode="r:gz") as archive,
    ):
        found = {member.name: member for member in archive.getmembers()}
    files = [name for name, member in found.items() if not member.isdir()]

    assert (0, 0) == (found["etc/hostname"].size, found["etc/resolv.conf"].size)
    assert not [name for name in found if name.startswith(("dev/", "var/log/", "var/cache/"))]
    assert not [name for name in found if name.startswith("var/lib/apt/")]
    assert {1} == {member.mtime for member in found.values()}
    assert {""} == {member.uname + member.gname for member in found.values()}
    assert {"0", "1", "2", "5"} >= {member.type.decode() for member in found.values()}
    assert sorted(files, key=str.encode) == files


def test_python_in_a_base_has_what_jobs_need(made, folder, tmp_path):
    with DiskBlobStore(folder / "oci").open(made.layers[0].blob.digest) as blob:
        subprocess.run(["tar", "-xzf", "-", "-C", str(tmp_path)], stdin=blob, check=True)
    inside = ["bwrap", "--ro-bind", str(tmp_path), "/", "--proc", "/proc", "--dev", "/dev"]
    inside += ["--unshare-all", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin"]

    subprocess.run([*inside, "/usr/bin/env", "python3", "-c", IMPORTS], check=True)
    subprocess.run([*inside, "/bin/sh", "-c", "echo a | awk '{print $1}' | grep a"], check=True)


def test_another_machine_gets_the_same_base(made, tmp_path):
    (tmp_path / "hostname").write_text("elsewhere\n")
    (tmp_path / "resolv.conf").write_text(
        Path("/etc/resolv.conf").read_text() + "# another machine's\n"
    )
    disguise = "".join(
        f"mount --bind {tmp_path}/{name} /etc/{name} && " for name in ("hostname", "resolv.conf")
    )

    assert str(made.manifest.digest) == made_by(
        *("unshare", "--mount", "sh", "-c", disguise + 'exec "$@"', "sh"),
        folder=tmp_path / "base",
        umask=0o077,
        TZ="Asia/Tokyo",
        LC_ALL="C",
        HOME="/nowhere",
    )


def test_a_user_without_privileges_gets_the_same_base_as_root(made, tmp_path_factory):
    make_users()
    place = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    try:
        subprocess.run(["chown", USERS[0], str(place)], check=True)

        assert str(made.manifest.digest) == made_by(folder=place, user=USERS[0])
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=True)


def test_a_base_for_another_architecture_needs_no_emulator(tmp_path):
    base = bases(tmp_path, architecture="arm64").create(
        name="arm", suite="bookworm", packages=(), mirror=None, progress=SilentProgress()
    )

    assert ("arm64", "3.11.2", ("glibc", 2, 36)) == (
        base.target.architecture,
        base.target.python,
        base.target.libc,
    )


def test_packages_can_be_added(tmp_path):
    base = bases(tmp_path).create(
        name="more", suite="bookworm", packages=("libxml2",), mirror=None, progress=SilentProgress()
    )
    config = json.loads(DiskBlobStore(tmp_path / "oci").get(base.config.digest))

    assert " libxml2=" in config["history"][0]["comment"]


def create(tmp_path, **change):
    asked = {"name": "a", "suite": "bookworm", "packages": ()} | change
    return create_base(
        **asked,
        blobs=DiskBlobStore(tmp_path / "oci"),
        work_dir=tmp_path / "work",
        progress=SilentProgress(),
    )


def test_without_mmdebstrap_there_is_a_hint(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/env").symlink_to("/usr/bin/env")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    with pytest.raises(ImageError, match="not installed") as caught:
        create(tmp_path)
    assert "apt install mmdebstrap" in caught.value.hint


def test_what_mmdebstrap_says_against_a_package_is_shown(tmp_path):
    with pytest.raises(ImageError, match="mmdebstrap failed") as caught:
        create(tmp_path, packages=("no-such-package",))

    assert any("no-such-package" in line for line in caught.value.details)
    assert {} == DiskBlobStore(tmp_path / "oci").refs()
    assert [] == list((tmp_path / "work").iterdir())


@pytest.mark.parametrize(
    "change", [{"name": "a/b"}, {"suite": "--foo"}, {"packages": ["a b"]}, {"packages": ["A"]}]
)
def test_what_cannot_be_a_name_is_refused(tmp_path, change):
    with pytest.raises(UsageError):
        create(tmp_path, **change)


def test_a_pinned_package_is_there_in_its_version(tmp_path):
    listed = subprocess.check_output(["apt-cache", "policy", "tree"], text=True)
    version = next(line.split()[1] for line in listed.splitlines() if "Candidate:" in line)
    make = bases(tmp_path)
    pinned = (f"tree={version}",)
    base = make.create(
        name="p", suite="bookworm", packages=pinned, mirror=None, progress=SilentProgress()
    )
    contents = make.contents(base, progress=SilentProgress())

    assert [version] == [each.version for each in contents.packages if each.name == "tree"]
    with pytest.raises(ImageError, match="mmdebstrap failed"):
        create(tmp_path, packages=("tree=0.0-no-such-version",))
