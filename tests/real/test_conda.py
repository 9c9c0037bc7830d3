"""A project in a conda environment runs, importable and with its commands, and rebuilds offline."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.conda_packages import (
    PLACEHOLDER,
    CondaPackage,
    File,
    channel_of,
    conda_lock_text,
    make_conda,
    pixi_lock_text,
)
from tests.support.loopback import serve
from tests.support.wheels import sha256
from tests.unit.image_parts import wheel as make_wheel
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.store.layout import DiskBlobStore

pytestmark = pytest.mark.slow

LIBRARY = Path("/usr/lib/python3.11")
LEFT_OUT = ("test", "lib2to3", "idlelib", "tkinter", "config-", "pydoc_data", "ensurepip")
# Debian's Python looks for packages elsewhere; conda's looks here by itself.
FIND = f"import site; site.addsitedir({PLACEHOLDER + '/lib/python3.11/site-packages'!r})\n"
PYPROJECT = """
[project]
name = "lab"
version = "0.3"
dependencies = ["anything-that-conda-calls-otherwise"]
[project.scripts]
lab = "lab:main"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
LAB = """
import importlib.metadata, json, os, sys
import greeter, plain
def main():
    import ctypes, sqlite3
    print(json.dumps({
        "prefix": sys.prefix, "executable": sys.executable, "conda": os.environ["CONDA_PREFIX"],
        "venv": os.environ.get("VIRTUAL_ENV"), "version": importlib.metadata.version("lab"),
        "greeter": greeter.__file__, "plain": plain.__file__, "file": __file__,
    }))
"""


def python_package() -> CondaPackage:
    """The system's own Python as a conda package: a real interpreter in a prefix."""
    files: dict[str, File | bytes | str] = {
        "bin/python3.11": File(content=Path("/usr/bin/python3.11").read_bytes(), mode=0o755),
        "bin/python3": File(to="python3.11"),
        "bin/python": File(to="python3.11"),
        "lib/python3/dist-packages/find.pth": FIND,
    }
    for path in sorted(LIBRARY.rglob("*")):
        name = str(path.relative_to(LIBRARY))
        if not name.startswith(LEFT_OUT) and path.is_file() and "__pycache__" not in name:
            files[f"lib/python3.11/{name}"] = path.read_bytes()
    return make_conda("python", files, version="3.11.2", depends=["__glibc >=2.17,<3.0.a0"])


def the_packages() -> list[CondaPackage]:
    greeter = make_conda(
        "greeter",
        {"site-packages/greeter/__init__.py": "def main(): print('hello from', __file__)\n"},
        noarch="python",
        entry_points=["greet = greeter:main"],
        depends=["python"],
        suffix=".tar.bz2",
    )
    tool = make_conda(
        "tool",
        {
            "bin/tool": File(
                content=f"#!/bin/sh\nexec cat {PLACEHOLDER}/share/word\n".encode(), mode=0o755
            ),
            "share/word": "found\n",
            "bin/.tool-post-link.sh": File(content=b"#!/bin/sh\nexit 1\n", mode=0o755),
        },
    )
    return [python_package(), greeter, tool]


def test_a_project_in_a_locked_conda_environment_runs_and_rebuilds_offline(make_cli, tmp_path):
    packages = the_packages()
    plain, filename = make_wheel("plain", {"plain.py": b"x = 1\n"}), "plain-1.0-py3-none-any.whl"
    described = f"- pypi: ./wheels/{filename}\n  name: plain\n  version: 1.0\n"
    described += f"  sha256: {sha256(plain)}\n"
    with serve(channel_of(packages)) as server:
        locks = {
            "pixi.lock": pixi_lock_text(
                server.url, packages, pypi=[f"./wheels/{filename}"], described=described
            ),
        }
        cli = make_cli({"pyproject.toml": PYPROJECT, "lab.py": LAB, **locks})
        (cli.folder / "wheels").mkdir()
        (cli.folder / "wheels" / filename).write_bytes(plain)
        launched = cli.launch("sh", "-c", "lab && greet && tool")
        said = cli.run("launch", "--wait", "--", "true").stderr
    report, greeting, word = cli.run("logs", "1").stdout.splitlines()

    assert {
        "prefix": "/xm/venv",
        "executable": "/xm/venv/bin/python",
        "conda": "/xm/venv",
        "venv": None,
        "version": "0.3",
        "greeter": "/xm/venv/lib/python3.11/site-packages/greeter/__init__.py",
        "plain": "/xm/venv/lib/python3.11/site-packages/plain/__init__.py",
        "file": "/xm/code/lab.py",
    } == json.loads(report)
    assert "hello from /xm/venv/lib/python3.11/site-packages/greeter/__init__.py" == greeting
    assert "found" == word
    assert "warning: tool: its script bin/.tool-post-link.sh is not run" in said
    # The channel is gone: everything comes from the store.
    replayed = cli.json("replay", "1", "--rebuild", status=None)
    assert replayed["verdicts"][0]["equal"]
    assert [launched["image"]] == replayed["rebuilt"]
    names = {part.get("purl", "").partition("?")[0] for part in cli.json("sbom", "1")["components"]}
    assert {"pkg:conda/greeter@1.0", "pkg:conda/python@3.11.2", "pkg:pypi/plain@1.0"} <= names


def without_python(cli) -> None:
    """Call ``bare`` a base that is the default one less its interpreter."""
    blobs = DiskBlobStore(cli.home / "oci")
    named = blobs.ref("base/default")
    manifest = json.loads(blobs.get(named.digest))
    config = json.loads(blobs.get(Digest.parse(manifest["config"]["digest"])))
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name in ("python3", "python3.11"):
            archive.addfile(tarfile.TarInfo(f"usr/bin/.wh.{name}"))
    tar = held.getvalue()
    layer = gzip.compress(tar, mtime=0)
    config["rootfs"]["diff_ids"].append(f"sha256:{sha256(tar)}")
    config.pop("history", None)
    for data, place in ((layer, None), (json.dumps(config).encode(), "config")):
        about = {"digest": str(blobs.put(data)), "size": len(data)}
        if place:
            manifest["config"] |= about
        else:
            kind = "application/vnd.oci.image.layer.v1.tar+gzip"
            manifest["layers"].append({"mediaType": kind, **about})
    data = json.dumps(manifest).encode()
    bare = replace(named, digest=blobs.put(data), size_bytes=len(data))
    blobs.set_ref("base/bare", bare)


def test_a_base_without_a_python_will_do_for_an_environment_that_has_one(make_cli):
    packages = the_packages()[:2]
    with serve(channel_of(packages)) as server:
        lock = conda_lock_text(server.url, packages)
        cli = make_cli({"conda-lock.yml": lock, "main.py": "import sys; print(sys.executable)\n"})
        without_python(cli)
        cli.launch("python", "main.py", options=("--wait", "--base", "bare"))
        (cli.folder / "conda-lock.yml").unlink()
        refused = cli.run("launch", "--base", "bare", "--", "python", "main.py", status=22)

    assert "/xm/venv/bin/python\n" == cli.run("logs", "1").stdout
    assert "no Python was found in the base image bare" in refused.stderr


def test_a_mirror_that_gives_another_file_is_found_out(make_cli):
    package = make_conda("tool", {"share/word": "right"})
    other = make_conda("tool", {"share/word": "wrong"})
    with serve(channel_of([other])) as server:
        cli = make_cli({"conda-lock.yml": conda_lock_text(server.url, [package]), "main.py": ""})
        failed = cli.run("launch", "--", "true", status=24)

    assert "cannot fetch 1 package: tool" in failed.stderr
    assert f"expected sha256:{package.sha256}, got sha256:{other.sha256}" in failed.stderr
