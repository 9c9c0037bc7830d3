"""``clusters add``, ``show`` and ``check`` against a real login node."""

from __future__ import annotations

import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.real.conftest import cluster_config
from tests.support.cli import Cli
from tests.testbed.bed import Testbed


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A command line without any configuration."""
    folder = tmp_path / "folder"
    folder.mkdir()
    env = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    return Cli(folder=folder, home=tmp_path / "home", env=env)


def words(bed: Testbed, *more: str) -> list[str]:
    there = ["--host", bed.ssh_host, "--port", str(bed.ssh_port), "--user", bed.ssh_user]
    return ["clusters", "add", "bed", *there, "--identity-file", str(bed.ssh_key), *more]


def fingerprint(bed: Testbed) -> str:
    key = bed.ssh_known_hosts.read_text().split(" ", 1)[1]
    done = subprocess.run(
        ["ssh-keygen", "-lf", "-"], input=key, capture_output=True, text=True, check=True
    )
    return done.stdout.split()[1]


def test_an_unknown_host_key_is_shown_and_nothing_is_written(cli: Cli, testbed: Testbed):
    done = cli.run(*words(testbed), status=26)

    assert fingerprint(testbed) in done.stderr
    assert f"--host-key {fingerprint(testbed)}" in done.stderr
    assert not (Path(cli.env["XDG_CONFIG_HOME"]) / "xmslurm-repro").exists()


def test_a_key_that_was_accepted_by_name_is_pinned_and_the_cluster_checked(
    cli: Cli, testbed: Testbed
):
    added = cli.run(*words(testbed, "--host-key", fingerprint(testbed), "--account", "lab"))
    shown = cli.json("clusters", "show", "bed")

    file = Path(cli.env["XDG_CONFIG_HOME"]) / "xmslurm-repro" / "config.toml"
    assert f"Wrote [clusters.bed] to {file}." in added.stdout
    settings = {row["key"]: (row["value"], row["from"]) for row in shown["settings"]}
    lines = file.read_text().splitlines()
    line = lines.index('account = "lab"') + 1
    assert settings["options.account"] == ("lab", f"{file}:{line}")
    assert settings["runtime"] == ("auto", "default")
    assert settings["host_key"][0] == [testbed.ssh_known_hosts.read_text().split(" ", 1)[1].strip()]
    facts = {fact["name"]: fact["value"] for fact in shown["facts"]}
    assert {"partition debug", "partition high", "account lab", "limit MaxArraySize"} <= set(facts)
    assert "the default" in facts["account lab"]


def test_another_key_than_the_accepted_one_is_refused(cli: Cli, testbed: Testbed):
    done = cli.run(*words(testbed, "--host-key", "SHA256:" + "A" * 43), status=26)

    assert fingerprint(testbed) in done.stderr


def test_a_known_host_needs_no_pin(cli: Cli, testbed: Testbed):
    cli.run(*words(testbed, "--known-hosts", str(testbed.ssh_known_hosts), "--project"))

    assert "host_key" not in (cli.folder / "xmslurm-repro.toml").read_text()


def test_every_host_that_shows_no_key_is_named(cli: Cli, testbed: Testbed):
    done = cli.run(*words(testbed, "--host", "nonesuch.invalid", "--host", "127.0.0.2"), status=25)

    assert "2 of 3 hosts" in done.stderr
    assert "nonesuch.invalid" in done.stderr
    assert "127.0.0.2" in done.stderr


def test_a_mistake_in_what_is_added_is_said_before_anything_is_connected(cli: Cli):
    done = cli.run("clusters", "add", "bad name", "--host", "h", "--runtime", "dockr", status=4)

    assert "bad name" in done.stderr


@pytest.mark.every_slurm
def test_a_check_names_what_a_launch_would_need(make_cli, testbed: Testbed):
    more = f'registry = "127.0.0.1:{testbed.ssh_port}/images"\noptions = {{ account = "lab" }}\n'
    cli = make_cli(config=cluster_config(testbed, more=more))

    facts = cli.json("clusters", "check", "--job")

    found = {fact["name"]: fact["value"] for fact in facts}
    assert [] == [fact for fact in facts if not fact["good"]]
    assert found["scheduler"].startswith("slurm")
    assert found["a job"].startswith("would be taken: Job ")
    assert found["accounting"] == "sacct answers"
    assert "gpu:fake:2" in "".join(f["value"] for f in facts if f["name"] == "partition debug")
    assert "the default" in found["account lab"]
    assert found["limit MaxArraySize"].startswith("1001")
    assert found["user namespaces"] == "yes"
    assert found["node: user namespaces"] == "yes"
    assert found["node: registry"] == f"127.0.0.1:{testbed.ssh_port} answers"
    assert found["node: runtime bubblewrap"].startswith("bubblewrap 0.")


def test_a_check_says_what_slurm_would_refuse(make_cli, testbed: Testbed):
    cli = make_cli(config=cluster_config(testbed, more='options = { partition = "nowhere" }'))

    facts = cli.json("clusters", "check", "--job", status=1)

    bad = [fact["value"] for fact in facts if not fact["good"]]
    assert len(bad) == 2, bad
    assert all("nvalid partition" in value for value in bad), bad


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 26)])
def test_a_person_at_a_terminal_is_shown_the_key_and_decides(
    cli: Cli, testbed: Testbed, answer: str, status: int
):
    near, far = pty.openpty()
    process = subprocess.Popen(
        [*cli.program, *words(testbed, "--runtime", "bubblewrap")],
        cwd=cli.folder,
        env={**os.environ, "XMSLURM_REPRO_HOME": str(cli.home), **cli.env},
        stdin=far,
        stdout=subprocess.DEVNULL,
        stderr=far,
    )
    os.close(far)
    seen = b""
    with suppress(OSError):
        while piece := os.read(near, 4096):
            seen += piece
            if piece.endswith(b"[y/N]: "):
                os.write(near, f"{answer}\n".encode())
    os.close(near)

    assert process.wait(timeout=60) == status
    assert f"shows {fingerprint(testbed)} (ssh-ed25519)" in seen.decode()
    file = Path(cli.env["XDG_CONFIG_HOME"]) / "xmslurm-repro" / "config.toml"
    assert file.exists() is (answer == "y")
