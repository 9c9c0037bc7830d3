"""An image's digests are promises: the same whoever builds it, wherever and whenever."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.debs import make_deb
from tests.unit.test_image_system import MERGED, STATUS, build
from xmslurm_repro.model.canonical import readable_json
from xmslurm_repro.store.memory_blobs import MemoryBlobStore

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "build_image.py"


def built(folder: Path, order="forwards", *, cwd="/", umask=0o022, user=None, **env) -> str:
    done = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), str(folder), order, *([str(user)] if user else [])],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        | env,
        cwd=cwd,
        umask=umask,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_digests_of_an_image_are_fixed_for_ever(tmp_path, golden):
    golden("image/layout-2.json", built(tmp_path))


def test_the_digests_of_an_image_with_projects_are_fixed_for_ever(tmp_path, golden):
    golden("image/layout-2-projects.json", built(tmp_path / "a", "forwards+projects"))
    golden("image/layout-2-projects.json", built(tmp_path / "b", "backwards+projects"))


def test_the_first_layout_is_written_as_ever_over_whatever_cache(tmp_path, golden):
    built(tmp_path)
    golden("image/digests.json", built(tmp_path, "forwards+layout-1"))
    golden("image/projects.json", built(tmp_path, "backwards+layout-1+projects"))
    golden("image/layout-2.json", built(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"umask": 0o077, "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "1", "cwd": "/tmp", "HOME": "/nowhere"},
        {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "0", "order": "backwards"},
        {"SOURCE_DATE_EPOCH": "1700000000", "PYTHONOPTIMIZE": "1", "umask": 0o000},
        {"TMPDIR": "/dev/shm", "TZ": "America/St_Johns"},
    ],
)
def test_the_surroundings_leave_no_trace(tmp_path, golden, change):
    golden("image/layout-2.json", built(tmp_path / "other place", **change))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_gets_the_same_image(tmp_path_factory, golden):
    folder = Path("/tmp") / f"xmslurm-golden-{os.getpid()}"
    folder.mkdir()
    try:
        os.chown(folder, 65534, 65534)
        golden("image/layout-2.json", built(folder, user=65534))
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_building_again_over_a_warm_cache_changes_nothing(tmp_path, golden):
    built(tmp_path)

    golden("image/layout-2.json", built(tmp_path, "backwards"))


def test_two_who_build_at_once_do_not_disturb_each_other(tmp_path, golden):
    with ThreadPoolExecutor(3) as pool:
        for said in pool.map(lambda _: built(tmp_path), range(3)):
            golden("image/layout-2.json", said)


def test_a_build_that_was_killed_leaves_nothing_that_is_wrong(tmp_path, golden):
    for milliseconds in (150, 220, 290, 360):
        process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), str(tmp_path), "forwards"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(milliseconds / 1000)
        process.kill()
        process.wait()
        for blob in (tmp_path / "oci/blobs/sha256").glob("*"):
            assert blob.name == hashlib.sha256(blob.read_bytes()).hexdigest()

    golden("image/layout-2.json", built(tmp_path))
    assert [] == list((tmp_path / "oci/ingest").iterdir())


def test_the_layer_of_system_packages_is_fixed_for_ever(golden):
    files = {
        "*bin/tool": b"#!/bin/sh\n",
        "usr/lib/x/libx.so.1": "-> libx.so.1.0",
        "lib/x/libx.so.1.0": b"elf",
        "usr/bin/alias": "=> bin/tool",
        "usr/share/doc/tool/copyright": b"free",
        "usr/share/man/man1/tool.1": b"",
    }
    packages = {
        "tool": make_deb("tool", files, version="1:2~rc1", scripts={"postinst": b"#!/bin/sh\n"}),
        "data": make_deb("data", {"usr/share/data": None}, fields="Depends: tool\n"),
    }
    layers = {}
    for name, more in {"status.d": {}, "status": {"var/lib/dpkg/status": STATUS}}.items():
        blobs = MemoryBlobStore()
        layers[name] = build(blobs, packages, {**MERGED, **more}).to_json()

    golden("image/system.json", readable_json(layers) + "\n")
