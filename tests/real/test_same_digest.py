"""
One image, whoever builds it: other Pythons, other numbers of processors, warm and cold caches.

What else leaves no trace (user, umask, locale, time zone, order) is in tests/golden.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.debian_root import debian_root

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/golden/build_image.py"
NEEDED = ("blake3", "installer", "packaging", "rfc8785", "zstandard")
WITH_PROCESSORS = """
import os, runpy, sys
processors = int(sys.argv[1])
os.cpu_count = lambda: processors
sys.argv = sys.argv[2:]
print(sys.version, file=sys.stderr)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def interpreters() -> list[str]:
    """This Python and every other that uv, pyenv or PATH offers from 3.11 to 3.14."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [str(path.parent) for path in sorted(pyenv.glob("versions/3.1*/bin/python3"))]
    path = os.pathsep.join([*folders, "/usr/bin", os.environ["PATH"]])
    found = [sys.executable, "/usr/bin/python3"]
    for minor in range(11, 15):
        done = subprocess.run(
            ["uv", "python", "find", "--system", "--no-python-downloads", f"3.{minor}"],
            env=os.environ | {"PATH": path},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            found.append(done.stdout.strip())
    return list(dict.fromkeys(found))


def build(folder: Path, order: str, *, python: str, processors: int) -> str:
    libraries = [word for name in NEEDED for word in ("--with", name)]
    done = subprocess.run(
        [
            *("uv", "run", "--quiet", "--no-project", "--isolated", "--python", python),
            *(*libraries, "python", "-P", "-c", WITH_PROCESSORS, str(processors)),
            *(str(PROGRAM), str(folder), order),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(python, done.stderr)
    return done.stdout


@pytest.mark.parametrize("python", interpreters())
def test_every_python_builds_the_same_image(python, tmp_path, golden):
    golden("image/layout-2.json", build(tmp_path / "a", "forwards", python=python, processors=1))
    golden("image/layout-2.json", build(tmp_path / "a", "backwards", python=python, processors=9))
    with_projects = build(tmp_path / "b", "forwards+projects", python=python, processors=64)
    golden("image/layout-2-projects.json", with_projects)
    golden(
        "image/digests.json",
        build(tmp_path / "c", "backwards+layout-1", python=python, processors=2),
    )


@pytest.mark.slow
def test_a_later_debian_with_python_3_14_builds_the_same_image(golden):
    """Another Python, C library, zlib and zstandard, none of which this machine has."""
    with tempfile.TemporaryDirectory(prefix="xmroot-") as name:
        folder = Path(name)
        for package in ("xmslurm_repro", "tests"):
            no_bytecode = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, folder / "code" / package, ignore=no_bytecode)
        subprocess.run(
            [
                *("uv", "pip", "install", "--quiet", "--target", str(folder / "libraries")),
                *("--python-version", "3.14", "--python-platform", "x86_64-manylinux_2_28"),
                *("--only-binary", ":all:", *NEEDED),
            ],
            check=True,
        )
        with debian_root(folder, "sid", "python3.14") as keeper:
            words = ["nsenter", f"--mount=/proc/{keeper}/ns/mnt", "python3.14", "-P"]
            program = folder / "code" / "tests" / "golden" / "build_image.py"
            done = subprocess.run(
                [*words, str(program), str(folder / "store"), "backwards+projects"],
                env={
                    "PATH": "/usr/bin:/bin",
                    "PYTHONPATH": f"{folder}/code:{folder}/libraries",
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                cwd="/",
                capture_output=True,
                check=False,
                text=True,
            )
    assert done.returncode == 0, done.stderr
    golden("image/layout-2-projects.json", done.stdout)


def diffoscope(*folders: Path) -> subprocess.CompletedProcess[str]:
    words = ["diffoscope", "--exclude-directory-metadata=yes", "--text=-", *map(str, folders)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_diffoscope_finds_nothing_between_two_builds(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    build(one, "forwards+projects", python=sys.executable, processors=1)
    build(two, "backwards+projects", python="/usr/bin/python3", processors=4)
    done = diffoscope(one / "oci", two / "oci")

    assert (0, "") == (done.returncode, done.stdout), done.stderr
    index = two / "oci/index.json"
    index.write_bytes(index.read_bytes().replace(b"xms-", b"xmt-"))
    done = diffoscope(one / "oci", two / "oci")
    assert 1 == done.returncode
    assert "xmt-" in done.stdout
