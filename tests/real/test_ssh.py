"""SSH by asyncssh against a real sshd: what its contract with the others does not say."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.testbed.bed import Testbed
from tests.testbed.ports import port_block
from tests.testbed.processes import wait_until
from xmslurm_repro.errors import ConfigError, ConnectionLostError, HostKeyError
from xmslurm_repro.transport.ssh import SshEndpoint, SshTransport

MEGABYTE = 1024 * 1024


def endpoint(bed: Testbed, **more: Any) -> SshEndpoint:
    given: dict[str, Any] = {
        "host": bed.ssh_host,
        "port": bed.ssh_port,
        "user": bed.ssh_user,
        "known_hosts": str(bed.ssh_known_hosts),
        "identity_files": (str(bed.ssh_key),),
        "config_files": ("/dev/null",),
    }
    return SshEndpoint(**{**given, **more})


def use(work: Callable[[SshTransport], Awaitable[Any]], *endpoints: SshEndpoint) -> Any:
    async def closing() -> Any:
        transport = SshTransport(*endpoints)
        try:
            return await work(transport)
        finally:
            await transport.close()

    return asyncio.run(closing())


def say_hi(*endpoints: SshEndpoint) -> bytes:
    async def work(transport: SshTransport) -> bytes:
        return (await transport.run(["echo", "hi"])).stdout

    return use(work, *endpoints)


def free_port() -> int:
    with port_block() as ports:
        return ports[0]


# --- one connection ------------------------------------------------------------------------------


def test_a_hundred_commands_share_one_connection_within_the_default_limits(testbed: Testbed):
    wait_until(lambda: testbed.count_connections() == 0, "earlier connections to end")

    async def work(transport: SshTransport) -> tuple[int, int]:
        runs = [transport.run(["sh", "-c", "sleep 0.02"]) for _ in range(100)]
        done = await asyncio.gather(*runs)
        return sum(each.exit_status == 0 for each in done), testbed.count_connections()

    assert use(work, endpoint(testbed)) == (100, 2)


def test_sessions_that_the_host_refuses_for_the_moment_are_waited_for(testbed: Testbed):
    async def work(transport: SshTransport) -> list[int]:
        # More at once than MaxSessions, as when others share the connection.
        runs = [transport.run(["sleep", "0.3"]) for _ in range(25)]
        return [each.exit_status for each in await asyncio.gather(*runs)]

    async def greedy() -> list[int]:
        transport = SshTransport(endpoint(testbed), max_channels=25)
        try:
            return await work(transport)
        finally:
            await transport.close()

    assert asyncio.run(greedy()) == [0] * 25


def test_commands_that_nobody_waits_for_give_their_sessions_back(testbed: Testbed):
    async def work(transport: SshTransport) -> bytes:
        await transport.run(["true"])
        for wait_seconds in [0, 0, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02] * 4:
            task = asyncio.ensure_future(transport.run(["sleep", "30"]))
            await asyncio.sleep(wait_seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        runs = [transport.run(["echo", "hi"], timeout_seconds=20) for _ in range(8)]
        return b"".join(each.stdout for each in await asyncio.gather(*runs))

    assert use(work, endpoint(testbed)) == b"hi\n" * 8


def test_a_transport_outlives_the_event_loop_that_it_was_used_in(testbed: Testbed):
    transport = SshTransport(endpoint(testbed))

    async def work() -> bytes:
        try:
            return (await transport.run(["echo", "hi"])).stdout
        finally:
            await transport.close()

    assert [asyncio.run(work()) for _ in range(2)] == [b"hi\n", b"hi\n"]


# --- silence -------------------------------------------------------------------------------------


def test_a_connection_that_goes_silent_ends_and_the_command_may_have_run(testbed: Testbed):
    async def work(transport: SshTransport) -> None:
        await transport.run(["true"])
        task = asyncio.ensure_future(transport.run(["sleep", "60"]))
        await asyncio.sleep(0.2)
        testbed.freeze_connections()
        with pytest.raises(ConnectionLostError) as caught:
            await asyncio.wait_for(task, 10)
        assert caught.value.may_have_run

    try:
        use(work, endpoint(testbed, keepalive_seconds=0.3))
    finally:
        testbed.thaw_connections()


def test_a_connection_that_went_silent_while_idle_is_replaced_before_anything_is_sent(
    testbed: Testbed,
):
    async def work(transport: SshTransport) -> bytes:
        await transport.run(["true"])
        testbed.freeze_connections()
        return (await transport.run(["echo", "hi"], timeout_seconds=20)).stdout

    try:
        assert use(work, endpoint(testbed, keepalive_seconds=0.3)) == b"hi\n"
    finally:
        testbed.thaw_connections()


def test_time_that_runs_out_before_a_command_was_sent_means_that_it_has_not_run(testbed: Testbed):
    async def work(transport: SshTransport) -> None:
        await transport.run(["true"])
        testbed.freeze_connections()
        with pytest.raises(ConnectionLostError, match="could not be sent") as caught:
            await transport.run(["touch", "never-sent"], timeout_seconds=0.5)
        assert not caught.value.may_have_run
        testbed.thaw_connections()
        assert (await transport.run(["echo", "hi"], timeout_seconds=20)).stdout == b"hi\n"

    use(work, endpoint(testbed))

    assert not (testbed.homes["xsalice"] / "never-sent").exists()


def test_a_host_that_takes_the_connection_and_says_nothing_is_given_up(testbed: Testbed):
    writers = []

    def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    async def work() -> None:
        port = free_port()
        async with await asyncio.start_server(say_nothing, "127.0.0.1", port):
            transport = SshTransport(endpoint(testbed, port=port, connect_timeout_seconds=0.5))
            with pytest.raises(ConnectionLostError, match="no answer in time") as caught:
                await transport.run(["true"])
            assert not caught.value.may_have_run
            for writer in writers:
                writer.close()
                await writer.wait_closed()

    start = time.monotonic()
    asyncio.run(work())

    assert time.monotonic() - start < 5


# --- several endpoints ---------------------------------------------------------------------------


def test_the_next_endpoint_is_tried_when_one_does_not_answer(testbed: Testbed):
    nobody = endpoint(testbed, port=free_port())
    refusing = endpoint(testbed, user="root")

    assert say_hi(nobody, refusing, endpoint(testbed)) == b"hi\n"


def test_when_no_endpoint_answers_each_says_why(testbed: Testbed):
    port = free_port()

    with pytest.raises(ConnectionLostError) as caught:
        say_hi(endpoint(testbed, port=port), endpoint(testbed, user="root"))

    assert "none of its endpoints" in caught.value.message
    first, second = caught.value.details
    assert f"xsalice@127.0.0.1:{port}: " in first
    assert "login was refused" in second


def test_a_wrong_host_key_ends_the_search(testbed: Testbed):
    strange = endpoint(testbed, known_hosts="/dev/null")

    with pytest.raises(HostKeyError):
        say_hi(strange, endpoint(testbed))


# --- host keys -----------------------------------------------------------------------------------


def fingerprint(bed: Testbed) -> str:
    return bed.run(["ssh-keygen", "-lf", str(bed.root / "ssh" / "host.pub")]).split()[1]


def test_an_unknown_host_key_is_shown_by_its_fingerprint_with_what_to_do(testbed: Testbed):
    with pytest.raises(HostKeyError) as caught:
        say_hi(endpoint(testbed, known_hosts="/no/such/file"))

    assert caught.value.message == (
        f"the host key of xsalice@127.0.0.1:{testbed.ssh_port} is not known: {fingerprint(testbed)}"
    )
    assert "Compare the fingerprint" in caught.value.hint


def test_a_changed_host_key_is_not_called_unknown(testbed: Testbed, tmp_path: Path):
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{testbed.ssh_port} {other}")

    with pytest.raises(HostKeyError, match="another host key than before") as caught:
        say_hi(endpoint(testbed, known_hosts=str(known)))

    assert fingerprint(testbed) in caught.value.details[0]


@pytest.mark.parametrize("setting", ["none", "/dev/null"])
def test_a_configuration_cannot_turn_the_check_off(
    testbed: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "config"
    config.write_text(f"Host *\n  UserKnownHostsFile {setting}\n  StrictHostKeyChecking no\n")

    with pytest.raises(HostKeyError):
        say_hi(endpoint(testbed, known_hosts=None, config_files=(str(config),)))


def test_the_keys_that_a_configuration_names_are_believed(testbed: Testbed):
    named = SshEndpoint(host="testbed", config_files=(str(testbed.ssh_config),))

    assert say_hi(named) == b"hi\n"


def test_a_pinned_key_that_is_none_is_a_mistake_in_the_configuration(testbed: Testbed):
    with pytest.raises(ConfigError, match="no public key"):
        say_hi(endpoint(testbed, host_key="ssh-ed25519 whatever"))


def test_an_identity_file_that_is_not_there_is_a_mistake_in_the_configuration(testbed: Testbed):
    with pytest.raises(ConfigError, match="no identity file /no/such/key"):
        say_hi(endpoint(testbed, identity_files=("/no/such/key",)))


def test_a_configuration_that_cannot_be_read_is_said_so(testbed: Testbed, tmp_path: Path):
    config = tmp_path / "config"
    config.write_text("Host *\n  Port nonsense\n")

    with pytest.raises(ConfigError, match="nonsense"):
        say_hi(endpoint(testbed, port=None, config_files=(str(config),)))


# --- through other hosts -------------------------------------------------------------------------


def test_a_host_behind_another_is_reached_through_it(testbed: Testbed):
    behind = SshEndpoint(host="testbed-behind", config_files=(str(testbed.ssh_config),))

    async def work(transport: SshTransport) -> tuple[bytes, int]:
        said = (await transport.run(["sh", "-c", "echo $SSH_CONNECTION"])).stdout
        return said, testbed.count_connections()

    wait_until(lambda: testbed.count_connections() == 0, "earlier connections to end")
    said, count = use(work, behind)

    assert said.startswith(b"127.0.0.1 ")
    assert count == 4
    wait_until(lambda: testbed.count_connections() == 0, "both connections to end", seconds=5)


def test_the_key_of_a_host_on_the_way_is_verified_too(testbed: Testbed, tmp_path: Path):
    config = tmp_path / "config"
    text = testbed.ssh_config.read_text()
    gateway, behind = text.split("Host testbed-behind")
    gateway = gateway.replace(str(testbed.ssh_known_hosts), "/dev/null")
    config.write_text(f"{gateway}Host testbed-behind{behind}")

    with pytest.raises(HostKeyError, match="host key of testbed is not known"):
        say_hi(SshEndpoint(host="testbed-behind", config_files=(str(config),)))


def test_a_jump_host_that_its_own_rule_covers_is_reached_directly(testbed: Testbed, tmp_path: Path):
    config = tmp_path / "config"
    config.write_text(f"Host *\n  ProxyJump testbed\n{testbed.ssh_config.read_text()}")

    assert say_hi(SshEndpoint(host="testbed", config_files=(str(config),))) == b"hi\n"


# --- who we are ----------------------------------------------------------------------------------


def test_the_agent_is_asked(testbed: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    socket = tmp_path / "agent"
    with pytest.raises(ConnectionLostError, match="login was refused"):
        say_hi(endpoint(testbed, identity_files=()))
    process = start_agent(socket)
    try:
        testbed.run(["env", f"SSH_AUTH_SOCK={socket}", "ssh-add", "-q", str(testbed.ssh_key)])

        assert say_hi(endpoint(testbed, identity_files=(), agent_socket=str(socket))) == b"hi\n"
    finally:
        process.terminate()
        process.wait(timeout=10)


def start_agent(socket: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    wait_until(socket.exists, "the agent")
    return process


class TwoFactorServer(asyncssh.SSHServer):
    """Asks for a password and a code, both in one round, as sites with 2FA do."""

    def begin_auth(self, username: str) -> bool:
        return True

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return (
            "Two\x1b[31mfactors",
            "Look at your phone",
            "",
            [("Password: ", False), ("Code: ", True)],
        )

    def validate_kbdint_response(self, username: str, responses: list[str]) -> bool:
        return (username, *responses) == ("alice", "secret", "123456")


async def with_two_factors(port: int, work: Callable[[str], Awaitable[Any]]) -> Any:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        TwoFactorServer,
        "127.0.0.1",
        port,
        server_host_keys=[key],
        process_factory=lambda process: (
            process.stdout.write("xmslurm-repro-begin\nin\n"),
            process.exit(0),
        ),
    )
    async with server:
        return await work(key.export_public_key().decode())


def test_a_person_is_asked_for_both_factors_and_may_take_their_time():
    asked: list[tuple[str, bool]] = []

    async def prompt(text: str, *, is_secret: bool) -> str | None:
        asked.append((text, is_secret))
        await asyncio.sleep(0.6)
        return "secret" if is_secret else "123456"

    port = free_port()

    async def work(host_key: str) -> bytes:
        transport = SshTransport(
            SshEndpoint(
                host="127.0.0.1",
                port=port,
                user="alice",
                host_key=host_key,
                config_files=("/dev/null",),
                prompt=prompt,
                connect_timeout_seconds=1,
            )
        )
        try:
            return (await transport.run(["true"])).stdout
        finally:
            await transport.close()

    assert asyncio.run(with_two_factors(port, work)) == b"in\n"
    assert asked == [
        ("Two[31mfactors\nLook at your phone\nPassword: ", True),
        ("Code: ", False),
    ]


@pytest.mark.parametrize("answer", ["wrong", None])
def test_wrong_answers_end_the_login_and_nobody_is_asked_for_ever(answer: str | None):
    asked: list[str] = []

    async def prompt(text: str, *, is_secret: bool) -> str | None:
        del is_secret
        asked.append(text)
        return answer

    port = free_port()

    async def work(host_key: str) -> None:
        transport = SshTransport(
            SshEndpoint(
                host="127.0.0.1",
                port=port,
                user="alice",
                host_key=host_key,
                config_files=("/dev/null",),
                prompt=prompt,
            )
        )
        with pytest.raises(ConnectionLostError, match="login was refused") as caught:
            await transport.run(["true"])
        assert not caught.value.may_have_run

    asyncio.run(with_two_factors(port, work))

    assert 1 <= len(asked) <= 6


# --- large inputs --------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_hundred_megabytes_go_up_without_being_held_in_memory(testbed: Testbed):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield bytes(MEGABYTE)

    async def work(transport: SshTransport) -> tuple[bytes, float]:
        await transport.run(["true"])
        start = time.monotonic()
        done = await transport.run(["sha256sum"], stdin=pieces())
        return done.stdout.split()[0], time.monotonic() - start

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest, seconds = use(work, endpoint(testbed))
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert digest.decode() == hashlib.sha256(bytes(300 * MEGABYTE)).hexdigest()
    assert grown_kib < 100 * 1024
    assert seconds < 60, "5 MB/s, a tenth of what a busy machine does"
