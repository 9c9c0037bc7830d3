"""
Everything in this folder runs real servers; the `testbed` fixture is in tests/conftest.py.

Here are a base image from Debian packages, made once, and command lines that use it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import QUICKSTART, Cli, make_project
from tests.testbed.bed import Testbed

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def base_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds a base image called ``default``, and the quickstart's packages."""
    home = tmp_path_factory.mktemp("base") / "home"
    cli = Cli(folder=home.parent, home=home)
    cli.run("base", "create")
    project = make_project(
        tmp_path_factory.mktemp("warm-up"),
        {name: (QUICKSTART / name).read_text() for name in ("pyproject.toml", "uv.lock")},
    )
    # Packages are fetched and laid out once for all tests; nothing is run.
    Cli(folder=project, home=home).run("launch", "--wait", "--", "true")
    return home


MakeCli = Callable[..., Cli]


@pytest.fixture
def make_cli(base_home: Path, tmp_path: Path) -> MakeCli:
    """
    ``make_cli(files)``: a command line in a fresh git repository of *files*, with a store of its
    own that already holds the base image and the quickstart's packages.
    """
    count = 0

    def make(
        files: dict[str, str] | None = None, *, config: str = "", has_base: bool = True
    ) -> Cli:
        nonlocal count
        count += 1
        folder, home = tmp_path / f"project{count}", tmp_path / f"home{count}"
        folder.mkdir()
        if has_base:
            home.mkdir(mode=0o700)
            for part in ("oci", "cache"):
                # Hard links: blobs never change once they are named.
                shutil.copytree(base_home / part, home / part, copy_function=os.link, symlinks=True)
            # But the index is written again.
            for path in (home / "oci").glob("*.json*"):
                data = path.read_bytes()
                path.unlink()
                path.write_bytes(data)
        make_project(folder, {"main.py": "print('hello')\n"} if files is None else files)
        cli = Cli(folder=folder, home=home)
        file = tmp_path / f"config{count}" / "xmslurm-repro" / "config.toml"
        file.parent.mkdir(parents=True)
        # Layers are unpacked once for all tests, as they are for all experiments of a user.
        local = f'[clusters.local]\nscheduler = "local"\nstate_dir = "{base_home / "local"}"\n'
        file.write_text(config or local)
        cli.env["XDG_CONFIG_HOME"] = str(file.parent.parent)
        return cli

    return make


def cluster_config(testbed: Testbed, *, name: str = "alpha", more: str = "") -> str:
    """The test bed as a cluster at the end of an SSH connection."""
    return f"""
default_cluster = "{name}"

[clusters.{name}]
scheduler = "slurm"
transport = "ssh"
hosts = ["{testbed.ssh_host}"]
port = {testbed.ssh_port}
user = "{testbed.ssh_user}"
known_hosts = "{testbed.ssh_known_hosts}"
identity_files = ["{testbed.ssh_key}"]
{more}
"""


def unprivileged(command: list[str], user: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as another user."""
    words = ["setpriv", f"--reuid={user}", "--init-groups", *command]
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
    )
