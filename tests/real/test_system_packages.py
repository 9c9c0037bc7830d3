"""System packages: locked once against Debian's archive, installed by every launch without apt."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.support.cli import QUICKSTART, Cli

WANTED = ("tree", "libgl1")
MAIN = """\
import ctypes, os, subprocess
ctypes.CDLL("libGL.so.1")
assert os.readlink("/lib") == "usr/lib"
print(subprocess.check_output(["tree", "--version"], text=True).split()[1])
"""


@pytest.fixture(scope="module")
def locked(base_home, tmp_path_factory) -> dict:
    """What `base lock` wrote; the archive is asked once for all tests."""
    folder = tmp_path_factory.mktemp("lock")
    cli = Cli(folder=folder, home=base_home)
    said = cli.json("base", "lock", *WANTED)
    return {**said, "text": (folder / "system-packages.lock").read_text()}


def test_apt_would_install_the_same_packages(locked, base_home, tmp_path):
    """Apt is the oracle, with the base's package database and lists of its own."""
    root = tmp_path / "root"
    with_base = json.loads(
        Cli(folder=tmp_path, home=base_home).run("base", "show", "--json").stdout
    )
    status = "".join(
        f"Package: {one['name']}\nStatus: install ok installed\nVersion: {one['version']}\n"
        f"Architecture: {one['architecture']}\nDescription: x\nMaintainer: x\n\n"
        for one in with_base["contents"]["packages"]
    )
    for folder in ("lists/partial", "archives/partial", "etc"):
        (root / folder).mkdir(parents=True)
    (root / "status").write_text(status)
    (root / "sources.list").write_text("\n".join(locked["set"]["sources"]) + "\n")
    options = {
        "Dir::State::status": root / "status",
        "Dir::State::lists": root / "lists",
        "Dir::Cache": root,
        "Dir::Cache::archives": root / "archives",
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
        "APT::Architecture": "amd64",
    }
    apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*apt, "update"], check=True, capture_output=True)
    words = ["install", "--simulate", "--no-install-recommends", *WANTED]
    said = subprocess.check_output([*apt, *words], text=True)
    chosen = {
        f"{words[1]}={words[2].lstrip('(')}"
        for line in said.splitlines()
        if (words := line.split())[:1] == ["Inst"]
    }

    ours = {f"{one['name']}={one['version']}" for one in locked["set"]["packages"]}
    assert chosen == ours


def project(make_cli, text: str | None, more: tuple[str, ...] = ()) -> Cli:
    files = {"main.py": MAIN, **{name: (QUICKSTART / name).read_text() for name in more}}
    cli = make_cli(files if text is None else {**files, "system-packages.lock": text})
    (cli.folder / "xmslurm-repro.toml").write_text(f"extra_system_packages = {list(WANTED)}\n")
    return cli


def test_a_launch_installs_what_is_locked_and_a_rebuild_needs_the_store_only(
    make_cli, locked, base_home
):
    cli = project(make_cli, locked["text"])
    cli.run("launch", "--wait", "--", "python", "main.py")

    assert cli.run("logs", "latest").stdout.startswith("v2.")
    bill = json.loads(cli.run("sbom", "latest").stdout)
    (tree,) = [one for one in bill["components"] if one["name"] == "tree"]
    assert tree["purl"].startswith("pkg:deb/debian/tree@2.1.0-1?arch=amd64&distro=debian-12")
    (one,) = [package for package in locked["set"]["packages"] if package["name"] == "tree"]
    assert one["sha256"].removeprefix("sha256:") == tree["hashes"][0]["content"]
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    cli.env.update(nowhere)
    said = cli.run("replay", "latest", "--rebuild").stdout
    assert "R3" in said


def test_a_warm_launch_reads_no_package_again(make_cli, locked, tmp_path):
    """The kernel says which files were opened."""
    cli = project(make_cli, locked["text"], ("pyproject.toml", "uv.lock"))
    cli.launch("true")
    (cli.folder / "main.py").write_text(f"{MAIN}# edited\n")
    trace = tmp_path / "trace"
    # The other processes are git's and the job's.
    cli.prefix = ("strace", "-qq", "-e", "trace=open,openat", "-o", str(trace))
    cli.run("launch", "--", "true")
    opened = trace.read_text()

    (image,) = json.loads(cli.run("show", "latest", "--json").stdout)["manifest"]["images"]
    recipe = image["recipe"]
    assert recipe["artifacts"]
    assert "in-use.lock" in opened
    for package in (*recipe["system"], *recipe["artifacts"]):
        assert package["sha256"].removeprefix("sha256:") not in opened, package["name"]


def test_a_launch_without_the_lock_says_what_to_run(make_cli):
    cli = project(make_cli, None)
    done = cli.run("launch", "--", "true", status=34)

    assert "not locked for the base image default" in done.stderr
    assert "xmslurm-repro base lock --base default libgl1 tree" in done.stderr


def test_another_list_than_the_locked_one_is_refused(make_cli, locked):
    cli = project(make_cli, locked["text"])
    done = cli.run("launch", "--system-package", "git", "--", "true", status=34)

    assert "system-packages.lock: libgl1 tree on default" in done.stderr


def test_what_the_archive_does_not_have_is_said_and_no_file_is_written(make_cli):
    cli = make_cli()
    done = cli.run("base", "lock", "no-such-package", "tree=0.1", status=34)

    assert "no-such-package: there is none" in done.stderr
    assert "tree (= 0.1): there is 2.1.0-1" in done.stderr
    assert not (cli.folder / "system-packages.lock").exists()
