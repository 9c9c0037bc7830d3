"""What only commands on this machine have: an environment, and a process group."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from xmslurm_repro.errors import ConnectionLostError
from xmslurm_repro.transport.local import LocalTransport
from xmslurm_repro.transport.ssh import SshEndpoint, SshTransport


def test_the_environment_is_the_given_one_whole_or_ours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XSTEST", "ours")
    given = LocalTransport(env={"PATH": "/usr/bin:/bin", "A": "b"})

    assert asyncio.run(given.run(["env"])).stdout == b"PATH=/usr/bin:/bin\nA=b\n"
    assert b"XSTEST=ours\n" in asyncio.run(LocalTransport().run(["env"])).stdout


def test_programs_are_looked_up_on_the_given_path(tmp_path: Path):
    program = tmp_path / "xstest-program"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)

    found = asyncio.run(LocalTransport(env={"PATH": str(tmp_path)}).run(["xstest-program"]))
    missing = asyncio.run(LocalTransport(env={"PATH": "/nowhere"}).run(["xstest-program"]))

    assert found.stdout == b"found\n"
    assert missing.exit_status == 127


def test_a_grandchild_that_left_the_group_and_holds_the_pipes_cannot_make_us_wait():
    script = ["sh", "-c", "setsid sleep 3 & sleep 60"]
    start = time.monotonic()

    with pytest.raises(ConnectionLostError):
        asyncio.run(LocalTransport().run(script, timeout_seconds=0.3))

    assert time.monotonic() - start < 2.5


def test_a_timeout_of_the_input_is_not_taken_for_ours():
    async def times_out():
        yield b"x"
        raise TimeoutError("the registry")

    with pytest.raises(TimeoutError, match="the registry"):
        asyncio.run(LocalTransport().run(["cat"], stdin=times_out(), timeout_seconds=30))


def test_no_descriptors_are_left_behind():
    async def work() -> int:
        transport = LocalTransport()
        await transport.run(["true"])
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            await transport.run(["cat"], stdin=b"x")
            await transport.run(["/no/such/program"])
            stream = transport.stream(["yes"])
            await anext(stream)
            await stream.aclose()
        return len(os.listdir("/proc/self/fd")) - before

    assert asyncio.run(work()) <= 0


def test_hosts_are_described_as_people_write_them():
    def described(**more: object) -> str:
        return SshTransport(SshEndpoint(host="login.example", **more)).description

    assert LocalTransport().description == "this machine"
    assert described() == "login.example"
    assert described(user="alice", port=22) == "alice@login.example"
    assert described(user="alice", port=2222) == "alice@login.example:2222"


def test_a_transport_to_nowhere_is_a_mistake():
    with pytest.raises(ValueError, match="at least one endpoint"):
        SshTransport()
