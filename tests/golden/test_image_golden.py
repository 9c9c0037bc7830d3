"""An image's digests are promises: the same whoever builds it, wherever and whenever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    golden("image/digests.json", built(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"umask": 0o077, "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "1", "cwd": "/tmp", "HOME": "/nowhere"},
        {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "0", "order": "backwards"},
        {"SOURCE_DATE_EPOCH": "1700000000", "PYTHONOPTIMIZE": "1", "umask": 0o000},
    ],
)
def test_the_surroundings_leave_no_trace(tmp_path, golden, change):
    golden("image/digests.json", built(tmp_path / "other place", **change))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_gets_the_same_image(tmp_path_factory, golden):
    folder = Path("/tmp") / f"xmslurm-golden-{os.getpid()}"
    folder.mkdir()
    try:
        os.chown(folder, 65534, 65534)
        golden("image/digests.json", built(folder, user=65534))
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_building_again_over_a_warm_cache_changes_nothing(tmp_path, golden):
    built(tmp_path)

    golden("image/digests.json", built(tmp_path, "backwards"))
