"""Packages that have no wheel are built once, in the base image, when that is asked for."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import urllib.request
from contextlib import contextmanager

import pytest

from tests.support.loopback import serve
from tests.support.wheels import Index
from tests.unit.image_parts import wheel as make_wheel

pytestmark = pytest.mark.slow

BACKEND = r"""
import hashlib, base64, json, os, socket, sys, zipfile

def get_requires_for_build_wheel(settings=None):
    return ["helper>=1"]

def reach():
    try:
        socket.create_connection(("127.0.0.1", PORT), timeout=2)
    except OSError as error:
        return type(error).__name__
    return "reached"

def build_wheel(folder, settings=None, metadata=None):
    import helper
    FAIL
    facts = {
        "environment": sorted(os.environ), "network": reach(), "folder": os.getcwd(),
        "prefix": sys.prefix, "python": sys.version_info[:2], "homes": os.listdir("/root"),
        "chance": os.urandom(8).hex(),
    }
    files = {
        "native.py": "FACTS = " + repr(facts) + "\n",
        "native-1.0.dist-info/METADATA": "Metadata-Version: 2.2\nName: native\nVersion: 1.0\n",
        "native-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{name},sha256={digest.decode()},{len(text.encode())}\n"
    files["native-1.0.dist-info/RECORD"] = record + "native-1.0.dist-info/RECORD,,\n"
    name = "native-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return name
"""
META = b"Metadata-Version: 2.1\nName: helper\nVersion: 1.0\n"
SYSTEM = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["build"]\n'
PYPROJECT = """\
[project]
name = "lab"
version = "0"
requires-python = ">=3.11"
dependencies = ["native"]
[[tool.uv.index]]
url = "{}/simple/"
default = true
"""


def sdist(*, port: str, fail: str = "") -> bytes:
    project = '[project]\nname = "native"\nversion = "1.0"\nrequires-python = ">=3.8"\n'
    files = {
        "native-1.0/pyproject.toml": project + SYSTEM,
        "native-1.0/PKG-INFO": "Metadata-Version: 2.2\nName: native\nVersion: 1.0\n",
        "native-1.0/build/own.py": BACKEND.replace("PORT", port).replace("FAIL", fail),
    }
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return held.getvalue()


@contextmanager
def served(make_cli, run_uv, *, fail: str = ""):
    """A command line in a project whose only dependency is a source distribution."""
    helper = make_wheel("helper", files={"helper.py": b"", "helper-1.0.dist-info/METADATA": META})
    index = Index({"helper-1.0-py3-none-any.whl": helper})
    with serve(index) as server:
        index.files["native-1.0.tar.gz"] = sdist(port=server.host.rpartition(":")[2], fail=fail)
        cli = make_cli({"main.py": "import json, native; print(json.dumps(native.FACTS))\n"})
        (cli.folder / "pyproject.toml").write_text(PYPROJECT.format(server.url))
        cli.env["UV_DEFAULT_INDEX"] = f"{server.url}/simple/"
        run_uv(cli.folder, "lock", "--quiet")
        yield cli


@pytest.fixture
def run_uv():
    import subprocess

    def run(folder, *words):
        subprocess.run(["uv", *words], cwd=folder, check=True, capture_output=True)

    return run


def test_a_package_is_built_once_without_network_and_never_again(make_cli, run_uv):
    with served(make_cli, run_uv) as cli:
        refused = cli.run("launch", "--", "true", status=14)
        options = ("--wait", "--build-sdists")
        first = cli.launch("python", "main.py", options=options)
        second = cli.launch("python", "main.py", options=options)
        shown = cli.run("show", "1").stdout
    facts = json.loads(cli.run("logs", "1").stdout)

    assert "native 1.0: only a source distribution" in refused.stderr
    assert "--build-sdists" in refused.stderr
    assert first["image"] == second["image"]  # although each build would have its own chance
    assert "ConnectionRefusedError" == facts["network"]  # nobody listens in its own network
    assert {"HOME", "PATH", "SOURCE_DATE_EPOCH"} <= set(facts["environment"])
    assert not [name for name in facts["environment"] if name.startswith(("UV_", "XMSLURM"))]
    assert ("/xm/venv", [3, 11], []) == (facts["prefix"], facts["python"], facts["homes"])
    assert "built of native-1.0.tar.gz" in shown
    # The index is gone, and the source distribution is not needed any more.
    replayed = cli.json("replay", "1", "--rebuild", status=None)
    assert replayed["verdicts"][0]["equal"]
    component = next(
        one for one in cli.json("sbom", "1")["components"] if one.get("name") == "native"
    )
    assert {"name": "built-of:tools", "value": "helper 1.0"} in component["properties"]


def test_a_requirements_file_may_ask_for_it_too_and_nothing_is_run_to_read_it(make_cli, run_uv):
    with served(make_cli, run_uv, fail='raise SystemExit("not on this machine")') as cli:
        (cli.folder / "uv.lock").unlink()
        (cli.folder / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
        index = cli.env["UV_DEFAULT_INDEX"].removesuffix("/simple/")
        with urllib.request.urlopen(f"{index}/files/native-1.0.tar.gz") as answer:
            source = answer.read()
        digits = hashlib.sha256(source).hexdigest()
        (cli.folder / "requirements.txt").write_text(f"native==1.0 --hash=sha256:{digits}\n")
        planned = cli.run("launch", "--build-sdists", "--dry-run", "--", "true", status=22)
        (cli.folder / "requirements.txt").write_text(f"native==1.0 --hash=sha256:{'0' * 64}\n")
        other = cli.run("launch", "--build-sdists", "--", "true", status=14)

    # It is the build in the base image that fails: it is the first that runs anything.
    assert "native-1.0.tar.gz cannot be built in the base image" in planned.stderr
    assert "has a hash that requirements.txt:1 allows" in other.stderr


def test_a_build_that_fails_shows_what_it_printed(make_cli, run_uv):
    fail = 'raise SystemExit("there is no compiler")'
    with served(make_cli, run_uv, fail=fail) as cli:
        failed = cli.run("launch", "--build-sdists", "--", "true", status=22)

    assert "native-1.0.tar.gz cannot be built in the base image" in failed.stderr
    assert "there is no compiler" in failed.stderr
    assert "base create --package gcc" in failed.stderr
