"""What every transport promises: the same on this machine, by asyncssh and by OpenSSH."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.bed import Testbed
from tests.testbed.processes import wait_until
from xmslurm_repro.errors import ConnectionLostError, HostKeyError
from xmslurm_repro.ports.transport import Completed, Transport
from xmslurm_repro.transport.local import LocalTransport
from xmslurm_repro.transport.openssh import OpenSshTransport
from xmslurm_repro.transport.ssh import SshEndpoint, SshTransport

MEGABYTE = 1024 * 1024
REMOTE = [pytest.param(name, marks=pytest.mark.real) for name in ("ssh", "openssh")]


class Host:
    """A transport to use from tests that are no coroutines; each use has a loop of its own."""

    def __init__(self, transport: Transport, shared: Path) -> None:
        self.transport = transport
        self.shared = shared

    def run(self, *argv: str, **more: Any) -> Completed:
        return self.do(lambda transport: transport.run(argv, **more))

    def do(self, work: Callable[[Transport], Coroutine[Any, Any, Any]]) -> Any:
        async def closing() -> Any:
            try:
                return await work(self.transport)
            finally:
                await self.transport.close()

        return asyncio.run(closing())

    def sh(self, script: str, **more: Any) -> Completed:
        return self.run("sh", "-c", script, **more)


def endpoint_of(bed: Testbed, **more: Any) -> SshEndpoint:
    given: dict[str, Any] = {
        "host": bed.ssh_host,
        "port": bed.ssh_port,
        "user": bed.ssh_user,
        "known_hosts": str(bed.ssh_known_hosts),
        "identity_files": (str(bed.ssh_key),),
        "config_files": ("/dev/null",),
    }
    return SshEndpoint(**{**given, **more})


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may write, here and at the other end."""
    folder = Path(tempfile.mkdtemp(prefix="xstransport-"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def host_of(kind: str, request: pytest.FixtureRequest, **more: Any) -> Host:
    folder = request.getfixturevalue("shared")
    if kind == "local":
        return Host(LocalTransport(), folder)
    endpoint = endpoint_of(request.getfixturevalue("testbed"), **more)
    transport = SshTransport(endpoint) if kind == "ssh" else OpenSshTransport(endpoint)
    return Host(transport, folder)


@pytest.fixture(params=["local", *REMOTE])
def host(request: pytest.FixtureRequest) -> Host:
    return host_of(request.param, request)


@pytest.fixture(params=REMOTE)
def remote(request: pytest.FixtureRequest) -> Host:
    return host_of(request.param, request)


@pytest.fixture(params=REMOTE)
def remote_with(request: pytest.FixtureRequest) -> Callable[..., Host]:
    return lambda **more: host_of(request.param, request, **more)


# --- words ---------------------------------------------------------------------------------------

EVERY_CHARACTER = "".join(map(chr, range(1, 128)))
HOSTILE = [
    ["", " ", "  ", ""],
    ["a b", "it's", '"quoted"', "'", '"', "'\"'\"'"],
    ["$HOME", "${HOME}", "$(id)", "`id`", "$$", "$1", "$@"],
    ["*", "?", "[a-z]", "~", "~root", "{a,b}"],
    ["a\nb", "\n", "ends with a newline\n", "\t", "\r", "\x1b[31m", "\x7f"],
    ["\\", "\\\\", "\\n", "\\'", "a\\", "!", "!!", "!-1", "^a^b"],
    ["-n", "-e", "--", "-c", "#", ";", "&", "|", "<", ">", "(", ")", "=", "a=b", "%s", "%"],
    ["grün", "日本語", "🧪", "e\u0301", "\u00a0", "\u2028"],
    ["\udcff", "\udc80\udcfe", "not UTF-8: \udcc3("],
    [EVERY_CHARACTER, EVERY_CHARACTER[::-1]],
    ["x" * 60_000, "\n" * 20_000],
]


@pytest.mark.parametrize("words", HOSTILE, ids=lambda words: ascii(words[0])[:12])
def test_every_word_arrives_to_the_byte(host: Host, words: list[str]):
    done = host.run("printf", "%s\\0", *words)

    assert [os.fsencode(word) for word in words] == done.stdout.split(b"\0")[:-1]


def test_words_that_are_builtins_of_shells_are_programs_all_the_same(host: Host):
    assert host.run("printf", "%q", "a b").stdout in (b"'a b'", b"a\\ b")
    assert host.run("test", "1", "-eq", "2").exit_status == 1
    assert host.run("cd", "/").exit_status == 127
    assert host.run("if").exit_status == 127


@pytest.mark.parametrize("argv", [[], ["a\0b"]], ids=["none", "NUL"])
def test_words_that_no_system_can_pass_are_a_mistake_of_the_caller(host: Host, argv: list[str]):
    with pytest.raises(ValueError, match="word"):
        host.run(*argv)


# --- input and output ----------------------------------------------------------------------------


def test_input_of_any_bytes_arrives_and_comes_back(host: Host):
    data = bytes(range(256)) * (20 * MEGABYTE // 256) + b"\0"

    assert host.run("cat", stdin=data).stdout == data


def test_input_may_come_in_pieces_of_any_size(host: Host):
    sizes = [0, 1, 0, MEGABYTE + 1, 3, 10 * MEGABYTE, 0]

    async def pieces() -> AsyncIterator[bytes]:
        for number, size in enumerate(sizes):
            yield bytes([number]) * size
            await asyncio.sleep(0)

    expected = b"".join(bytes([number]) * size for number, size in enumerate(sizes))

    assert host.run("cat", stdin=pieces()).stdout == expected


def test_without_input_a_command_reads_its_end_at_once(host: Host):
    assert host.run("cat", timeout_seconds=30) == Completed(exit_status=0, stdout=b"", stderr=b"")


def test_a_command_need_not_read_its_input(host: Host):
    assert host.run("true", stdin=b"x" * 20 * MEGABYTE).exit_status == 0
    assert host.run("head", "-c3", stdin=b"abc" * MEGABYTE).stdout == b"abc"


def test_a_command_that_has_ended_does_not_wait_for_more_input(host: Host):
    async def endless() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(3600)

    assert host.run("head", "-c5", stdin=endless(), timeout_seconds=30).stdout == b"first"


def test_an_input_that_fails_kills_the_command_before_it_takes_the_part_for_the_whole(host: Host):
    async def broken() -> AsyncIterator[bytes]:
        yield b"part"
        await appears(host.shared / "begun")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        host.sh(f"cd {host.shared}; touch begun; cat >part; touch whole", stdin=broken())

    time.sleep(0.3)
    assert not (host.shared / "whole").exists()


def test_both_outputs_are_kept_apart_and_whole(host: Host):
    script = "for i in 1 2 3 4; do head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; done"

    done = host.sh(script + "; echo out; echo err >&2")

    assert done.stdout == b"\0" * 4_000_000 + b"out\n"
    assert done.stderr == b"\0" * 4_000_000 + b"err\n"


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 7, 126, 127, 128, 254, 255])
def test_an_exit_status_is_no_error(host: Host, status: int):
    done = host.sh(f"echo out; echo err >&2; exit {status}")

    assert done == Completed(exit_status=status, stdout=b"out\n", stderr=b"err\n")


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("USR1", 10), ("HUP", 1)])
def test_a_death_by_signal_is_128_and_the_signal(host: Host, name: str, number: int):
    assert host.sh(f"kill -{name} $$").exit_status == 128 + number


def test_a_missing_program_is_127_and_a_file_that_is_none_126(host: Host):
    missing, none = host.run("/no/such/program"), host.run("/etc/passwd")

    assert (missing.exit_status, none.exit_status) == (127, 126)
    assert b"/no/such/program" in missing.stderr
    assert b"/etc/passwd" in none.stderr


# --- time ----------------------------------------------------------------------------------------


def test_a_command_that_takes_too_long_is_killed_with_its_children(host: Host):
    script = f"cd {host.shared}; sh -c 'echo $$ >child; exec sleep 60' & echo $$ >parent; wait"
    start = time.monotonic()

    with pytest.raises(ConnectionLostError, match="within 1.5 s") as caught:
        host.sh(script, timeout_seconds=1.5)

    assert caught.value.may_have_run
    assert time.monotonic() - start < 10
    for name in ("child", "parent"):
        pid = int((host.shared / name).read_text())
        wait_until(lambda pid=pid: not is_alive(pid), f"the {name} to die", seconds=5)


def test_a_cancelled_command_is_killed(host: Host):
    async def work(transport: Transport) -> None:
        script = f"echo $$ >{host.shared}/new; mv {host.shared}/new {host.shared}/pid; sleep 60"
        task = asyncio.ensure_future(transport.run(["sh", "-c", script]))
        await appears(host.shared / "pid")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    host.do(work)

    pid = int((host.shared / "pid").read_text())
    wait_until(lambda: not is_alive(pid), "the command to die", seconds=5)


def test_time_enough_changes_nothing(host: Host):
    assert host.run("echo", "hi", timeout_seconds=30).stdout == b"hi\n"


def test_twenty_commands_at_once_do_not_disturb_each_other(host: Host):
    async def work(transport: Transport) -> list[Completed]:
        script = "sleep 0.05; cat; exit $1"
        runs = [
            transport.run(["sh", "-c", script, "sh", str(n)], stdin=b"%d" % n * 50_000)
            for n in range(20)
        ]
        return await asyncio.gather(*runs)

    done = host.do(work)

    assert list(range(20)) == [each.exit_status for each in done]
    assert [b"%d" % n * 50_000 for n in range(20)] == [each.stdout for each in done]


# --- streams -------------------------------------------------------------------------------------


def test_a_stream_yields_what_is_printed_while_the_command_still_runs(host: Host):
    async def work(transport: Transport) -> bytes:
        script = f"echo one; while ! [ -e {host.shared}/go ]; do sleep 0.02; done; echo two; exit 3"
        heard = b""
        async for piece in transport.stream(["sh", "-c", script]):
            heard += piece
            if heard == b"one\n":
                (host.shared / "go").touch()
        return heard

    assert host.do(work) == b"one\ntwo\n"


def test_a_long_stream_arrives_whole_at_a_reader_that_takes_its_time(host: Host):
    async def work(transport: Transport) -> int:
        total = 0
        async for piece in transport.stream(["head", "-c", "30000000", "/dev/zero"]):
            total += len(piece)
            await asyncio.sleep(0.001)
        return total

    assert host.do(work) == 30_000_000


def test_closing_a_stream_ends_the_command(host: Host):
    async def work(transport: Transport) -> int:
        stream = transport.stream(["sh", "-c", "echo $$; exec sleep 60"])
        pid = int(await anext(stream))
        await stream.aclose()
        return pid

    pid = host.do(work)

    wait_until(lambda: not is_alive(pid), "the command to die", seconds=5)


def test_a_stream_of_nothing_is_empty(host: Host):
    async def work(transport: Transport) -> list[bytes]:
        return [piece async for piece in transport.stream(["false"])]

    assert host.do(work) == []


def test_closing_twice_and_using_it_again_is_fine(host: Host):
    async def work(transport: Transport) -> bytes:
        await transport.close()
        await transport.run(["true"])
        await transport.close()
        await transport.close()
        return (await transport.run(["echo", "again"])).stdout

    assert host.do(work) == b"again\n"
    assert host.do(work) == b"again\n"


# --- what only hosts far away have ---------------------------------------------------------------


def test_a_connection_cut_in_the_middle_is_an_error_that_says_so(remote: Host, testbed: Testbed):
    async def work(transport: Transport) -> None:
        script = f"touch {remote.shared}/begun; sleep 1; touch {remote.shared}/done; echo done"
        task = asyncio.ensure_future(transport.run(["sh", "-c", script]))
        await appears(remote.shared / "begun")
        testbed.cut_connections()
        with pytest.raises(ConnectionLostError, match="lost while `sh` ran") as caught:
            await asyncio.wait_for(task, 10)
        assert caught.value.may_have_run

    remote.do(work)

    wait_until((remote.shared / "done").exists, "the command, which goes on", seconds=5)


def test_a_connection_cut_while_sending_is_an_error_and_not_a_success(
    remote: Host, testbed: Testbed
):
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(10_000):
            yield b"x" * MEGABYTE
            await asyncio.sleep(0)

    async def work(transport: Transport) -> None:
        script = f"touch {remote.shared}/begun; cat >/dev/null"
        task = asyncio.ensure_future(transport.run(["sh", "-c", script], stdin=endless()))
        await appears(remote.shared / "begun")
        testbed.cut_connections()
        with pytest.raises(ConnectionLostError) as caught:
            await asyncio.wait_for(task, 10)
        assert caught.value.may_have_run

    remote.do(work)


def test_a_stream_that_is_cut_raises(remote: Host, testbed: Testbed):
    async def work(transport: Transport) -> None:
        stream = transport.stream(["sh", "-c", "echo one; sleep 5"])
        assert await anext(stream) == b"one\n"
        testbed.cut_connections()
        with pytest.raises(ConnectionLostError):
            await asyncio.wait_for(anext(stream), 10)

    remote.do(work)


def test_after_a_cut_the_next_command_finds_a_new_connection(remote: Host, testbed: Testbed):
    async def work(transport: Transport) -> bytes:
        await transport.run(["true"])
        testbed.cut_connections()
        return (await transport.run(["echo", "again"], timeout_seconds=30)).stdout

    assert remote.do(work) == b"again\n"


def test_a_host_that_does_not_listen_has_run_nothing(remote: Host, testbed: Testbed):
    testbed.stop_ssh()
    try:
        with pytest.raises(ConnectionLostError, match="cannot log in") as caught:
            remote.run("touch", f"{remote.shared}/begun")
    finally:
        testbed.start_ssh()

    assert not caught.value.may_have_run
    assert not (remote.shared / "begun").exists()


@pytest.mark.parametrize("wrong", ["user", "host", "key"])
def test_a_login_that_is_refused_has_run_nothing(
    remote_with: Callable[..., Host], tmp_path: Path, wrong: str
):
    from tests.testbed.login import make_key

    make_key(tmp_path / "other")
    more = {
        "user": {"user": "nobody"},
        "host": {"host": "nonesuch.invalid"},
        "key": {"identity_files": (str(tmp_path / "other"),)},
    }
    remote = remote_with(**more[wrong])

    with pytest.raises(ConnectionLostError, match="cannot log in") as caught:
        remote.run("touch", f"{remote.shared}/begun")

    assert not caught.value.may_have_run
    assert not (remote.shared / "begun").exists()


OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHxTE2QhGTRT5rpiVYwzqkXHK1oMlKhSFK+gUgYNdhKp"


@pytest.mark.parametrize("trust", ["nothing", "another key", "another kind", "another pinned key"])
def test_a_host_without_the_trusted_key_is_refused(
    remote_with: Callable[..., Host], testbed: Testbed, tmp_path: Path, trust: str
):
    rsa = tmp_path / "rsa"
    testbed.run(["ssh-keygen", "-q", "-trsa", "-N", "", "-f", str(rsa)])
    known = tmp_path / "known_hosts"
    place = f"[127.0.0.1]:{testbed.ssh_port}"
    text = {
        "another key": f"{place} {OTHER_KEY}\n",
        "another kind": f"{place} {rsa.with_suffix('.pub').read_text()}",
    }
    known.write_text(text.get(trust, ""))
    pinned = OTHER_KEY if trust == "another pinned key" else None
    remote = remote_with(known_hosts=str(known), host_key=pinned)

    with pytest.raises(HostKeyError) as caught:
        remote.run("touch", f"{remote.shared}/begun")

    assert caught.value.hint
    assert not (remote.shared / "begun").exists()


def test_a_pinned_key_is_enough(remote_with: Callable[..., Host], testbed: Testbed):
    line = (testbed.root / "ssh" / "host.pub").read_text()
    remote = remote_with(known_hosts=None, host_key=line)

    assert remote.run("echo", "hi").stdout == b"hi\n"


def test_what_the_login_shell_prints_by_itself_is_dropped(remote: Host, testbed: Testbed):
    startup = testbed.homes["xsalice"] / ".bashrc"
    startup.write_text("echo Welcome; echo to the cluster")
    try:
        done = remote.run("echo", "hi")
        streamed = remote.do(collect)
    finally:
        startup.unlink()

    assert done.stdout == b"hi\n"
    assert streamed == b"hi\n"


async def collect(transport: Transport) -> bytes:
    return b"".join([piece async for piece in transport.stream(["echo", "hi"])])


def test_a_command_starts_at_home_and_with_nothing_of_our_environment(
    remote: Host, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LC_XSTEST", "leaks")
    monkeypatch.setenv("TERM", "xterm")

    assert remote.run("pwd").stdout == b"/home/xsalice\n"
    assert b"XSTEST" not in remote.run("env").stdout
    assert remote.run("tty").stdout == b"not a tty\n"


async def appears(path: Path) -> None:
    async with asyncio.timeout(20):
        while not path.exists():
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
