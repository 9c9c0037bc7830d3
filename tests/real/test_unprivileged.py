"""The embedded default as a user who is nobody: no root, no daemon, no help from an admin."""

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.cli import REPOSITORY, Cli, make_project

SOURCE = {
    "main.py": "import os, pathlib\n"
    "print(os.getuid() != 0)\n"
    "pathlib.Path(os.environ['XMSLURM_OUTPUTS'], 'x').write_text('y')\n"
}

SKIPPED = {"xmanager", "docker"}
"""Heavy, and not imported by a launch from the command line."""


def _distributions(name, found):
    distribution = importlib.metadata.distribution(name)
    key = distribution.metadata["Name"].lower()
    if key in found or key in SKIPPED:
        return
    found[key] = distribution
    for text in distribution.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            _distributions(requirement.name, found)


@pytest.fixture(scope="module")
def public_folder():
    """A folder that every user can enter; those that pytest makes are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="xmslurm-public-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def readable_install(public_folder):
    """The package and what it needs, in a folder that every user can read."""
    target = public_folder / "install"
    found = {}
    _distributions("xmslurm-repro", found)
    for name, distribution in found.items():
        for file in distribution.files or []:
            if name == "xmslurm-repro" or ".." in file.parts or "__pycache__" in file.parts:
                continue
            place = target / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(distribution.locate_file(file), place)
    shutil.copytree(REPOSITORY / "xmslurm_repro", target / "xmslurm_repro")
    uv = Path(sys.executable).parent / "uv"
    (target / "bin").mkdir(exist_ok=True)
    shutil.copy(uv, target / "bin" / "uv")
    return target


def test_a_user_without_any_rights_makes_a_base_launches_and_replays(
    readable_install, public_folder, testbed
):
    user = testbed.users[0]
    place = public_folder / "project"
    place.mkdir()
    make_project(place, SOURCE)
    (place / ".git" / "info" / "exclude").write_text("home\n")
    subprocess.run(["chown", "-R", user, place], check=True)
    cli = Cli(
        folder=place,
        home=place / "home",
        prefix=("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"),
        program=("/usr/bin/python3", "-m", "xmslurm_repro"),
        env={"PYTHONPATH": str(readable_install), "HOME": str(place), "PATH": "/usr/bin:/bin"},
    )

    cli.run("base", "create")
    launched = cli.launch("python3", "main.py")
    replay = cli.json("replay", "1")

    assert launched["status"][0]["state"] == "completed"
    assert cli.run("logs", "1").stdout == "True\n"
    assert replay["verdicts"][0]["level"] == "R3"
