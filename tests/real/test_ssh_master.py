"""OpenSSH's master connections: made once by a person, used by us."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.bed import Testbed
from tests.testbed.processes import wait_until
from xmslurm_repro.errors import ConfigError, ConnectionLostError
from xmslurm_repro.transport.openssh import OpenSshTransport
from xmslurm_repro.transport.ssh import SshEndpoint


@pytest.fixture
def config(testbed: Testbed, tmp_path: Path) -> Iterator[Path]:
    """A configuration with a master connection that stays; it is ended afterwards."""
    path = tmp_path / "config"
    control = f"  ControlPath {tmp_path}/%h-%p\n  ControlMaster auto\n  ControlPersist 60\n"
    path.write_text(f"Host *\n{control}\n{testbed.ssh_config.read_text()}")
    yield path
    subprocess.run(["ssh", "-F", path, "-O", "exit", "testbed"], check=False, capture_output=True)


def run(transport: OpenSshTransport, *argv: str) -> bytes:
    return asyncio.run(transport.run(argv, timeout_seconds=30)).stdout


def test_commands_share_the_master_connection_and_do_not_wait_for_its_end(
    testbed: Testbed, config: Path
):
    wait_until(lambda: testbed.count_connections() == 0, "earlier connections to end")
    transport = OpenSshTransport(SshEndpoint(host="testbed", config_files=(str(config),)))

    assert [run(transport, "echo", str(n)) for n in range(5)] == [b"%d\n" % n for n in range(5)]
    assert testbed.count_connections() == 2


def test_a_master_that_is_there_is_enough_to_log_in(testbed: Testbed, config: Path):
    command = ["ssh", "-F", config, "-fN", "testbed"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = SshEndpoint(
        host="testbed", config_files=(str(config),), identity_files=("/no/such/key",)
    )

    assert run(OpenSshTransport(endpoint), "id", "-un") == b"xsalice\n"


def test_a_missing_ssh_is_said_so(testbed: Testbed):
    transport = OpenSshTransport(SshEndpoint(host="testbed"), program="/no/such/ssh")

    with pytest.raises(ConfigError, match="cannot run `/no/such/ssh`"):
        run(transport, "true")


def test_two_configuration_files_are_one_too_many(testbed: Testbed):
    transport = OpenSshTransport(SshEndpoint(host="x", config_files=("/dev/null", "/dev/null")))

    with pytest.raises(ConfigError, match="one configuration file"):
        run(transport, "true")


def test_a_command_that_says_255_is_not_taken_for_a_lost_connection(testbed: Testbed, config: Path):
    transport = OpenSshTransport(SshEndpoint(host="testbed", config_files=(str(config),)))
    done = asyncio.run(transport.run(["sh", "-c", "echo out; echo err >&2; exit 255"]))

    assert (done.exit_status, done.stdout, done.stderr) == (255, b"out\n", b"err\n")


def test_what_ssh_said_is_in_the_error(testbed: Testbed):
    endpoint = SshEndpoint(host="nonesuch.invalid", config_files=("/dev/null",))

    with pytest.raises(ConnectionLostError, match="Could not resolve hostname nonesuch.invalid"):
        run(OpenSshTransport(endpoint), "true")
