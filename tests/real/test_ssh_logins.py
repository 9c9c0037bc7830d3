"""The ways into a login node that ssh_config(5) and known_hosts(5) know, by both SSH transports."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.testbed.bed import Testbed
from tests.testbed.login import make_key, sign_key
from tests.testbed.processes import program, wait_until
from xmslurm_repro.errors import ConnectionLostError, HostKeyError
from xmslurm_repro.ports.transport import Transport
from xmslurm_repro.transport.openssh import OpenSshTransport
from xmslurm_repro.transport.ssh import SshEndpoint, SshTransport, read_host_key

Make = Callable[..., Transport]

both = pytest.mark.parametrize("make", [SshTransport, OpenSshTransport], ids=["ssh", "openssh"])


@pytest.fixture
def endpoint(testbed: Testbed) -> SshEndpoint:
    return SshEndpoint(
        host=testbed.ssh_host,
        port=testbed.ssh_port,
        user=testbed.ssh_user,
        known_hosts=str(testbed.ssh_known_hosts),
        identity_files=(str(testbed.ssh_key),),
        config_files=("/dev/null",),
    )


def say_hi(make: Make, *endpoints: SshEndpoint, times: int = 1) -> list[bytes]:
    async def work() -> list[bytes]:
        transport = make(*endpoints)
        try:
            runs = [transport.run(["echo", "hi"], timeout_seconds=60) for _ in range(times)]
            return [done.stdout for done in await asyncio.gather(*runs)]
        finally:
            await transport.close()

    return asyncio.run(work())


# --- where to ------------------------------------------------------------------------------------


@both
def test_a_configuration_may_be_parted_into_files_and_depend_on_conditions(
    testbed: Testbed, tmp_path: Path, make: Make
):
    (tmp_path / "more").write_text(f"""\
Match originalhost alpha-* user {testbed.ssh_user}
  HostName 127.0.0.1
  IdentityFile {testbed.ssh_key}
  IdentityFile {tmp_path}/not-there
Match originalhost alpha-* exec "true"
  UserKnownHostsFile {testbed.ssh_known_hosts}
Match originalhost alpha-* exec "false"
  Port 9
Match all
  Port {testbed.ssh_port}
""")
    config = tmp_path / "config"
    config.write_text(f"Host alpha-*\n  User {testbed.ssh_user}\nInclude {tmp_path}/more\n")

    end = SshEndpoint(host="alpha-1", config_files=(str(config),))

    assert say_hi(make, end) == [b"hi\n"]


@both
def test_a_program_may_make_the_connection(testbed: Testbed, tmp_path: Path, make: Make):
    config = tmp_path / "config"
    config.write_text(f"""\
Host behind-a-program
  ProxyCommand ssh -F {testbed.ssh_config} -W 127.0.0.1:{testbed.ssh_port} testbed
  HostKeyAlias [127.0.0.1]:{testbed.ssh_port}
  Port 22
""")
    end = SshEndpoint(
        host="behind-a-program",
        user=testbed.ssh_user,
        config_files=(str(config),),
        known_hosts=str(testbed.ssh_known_hosts),
        identity_files=(str(testbed.ssh_key),),
    )

    assert say_hi(make, end) == [b"hi\n"]


def test_hosts_to_go_through_can_be_named_directly(
    testbed: Testbed, endpoint: SshEndpoint, tmp_path: Path
):
    wait_until(lambda: testbed.count_connections() == 0, "earlier connections to end")
    hop = f"{testbed.ssh_user}@{testbed.ssh_host}:{testbed.ssh_port}"
    # Who we are to the hosts on the way, the configuration says.
    config = tmp_path / "config"
    config.write_text(f"Host *\n  IdentityFile {testbed.ssh_key}\n")
    behind = replace(endpoint, proxy_jump=(hop,), config_files=(str(config),))

    async def work() -> int:
        transport = SshTransport(behind)
        try:
            assert (await transport.run(["echo", "hi"])).stdout == b"hi\n"
            return testbed.count_connections()
        finally:
            await transport.close()

    assert asyncio.run(work()) == 4


@both
def test_another_endpoint_is_taken_when_the_first_does_not_let_us_in(
    endpoint: SshEndpoint, make: Make
):
    gone = replace(endpoint, port=9)

    assert say_hi(make, gone, replace(endpoint, user="nobody"), endpoint, times=6) == [b"hi\n"] * 6


@both
def test_when_no_endpoint_lets_us_in_each_says_why(endpoint: SshEndpoint, make: Make):
    with pytest.raises(ConnectionLostError, match="none of its endpoints") as caught:
        say_hi(make, replace(endpoint, port=9), replace(endpoint, user="nobody"))

    assert not caught.value.may_have_run
    assert len(caught.value.details) == 2
    assert "nobody" in caught.value.details[1]


@both
def test_a_wrong_host_key_ends_the_search_for_an_endpoint(
    endpoint: SshEndpoint, tmp_path: Path, make: Make
):
    (tmp_path / "none").touch()

    with pytest.raises(HostKeyError):
        say_hi(make, replace(endpoint, known_hosts=str(tmp_path / "none")), endpoint)


# --- who the host is -----------------------------------------------------------------------------


def known(tmp_path: Path, text: str) -> str:
    path = tmp_path / "known_hosts"
    path.write_text(text)
    return str(path)


@both
def test_hashed_names_of_hosts_are_understood(
    testbed: Testbed, endpoint: SshEndpoint, tmp_path: Path, make: Make
):
    path = known(tmp_path, testbed.ssh_known_hosts.read_text())
    subprocess.run([program("ssh-keygen"), "-q", "-H", "-f", path], check=True, capture_output=True)
    assert Path(path).read_text().startswith("|1|")

    assert say_hi(make, replace(endpoint, known_hosts=path)) == [b"hi\n"]


@both
def test_a_host_that_a_known_authority_vouches_for_is_known(
    testbed: Testbed, endpoint: SshEndpoint, tmp_path: Path, make: Make
):
    key = testbed.ssh_authority.with_suffix(".pub").read_text()
    path = known(tmp_path, f"@cert-authority * {key}")

    assert say_hi(make, replace(endpoint, known_hosts=path)) == [b"hi\n"]


@both
@pytest.mark.parametrize("is_authority", [False, True], ids=["key", "authority"])
def test_a_revoked_key_is_refused_although_it_is_known(
    testbed: Testbed, endpoint: SshEndpoint, tmp_path: Path, make: Make, *, is_authority: bool
):
    line = testbed.ssh_known_hosts.read_text()
    key = line.split(" ", 1)[1]
    if is_authority:
        key = testbed.ssh_authority.with_suffix(".pub").read_text()
        line = f"@cert-authority * {key}"
    path = known(tmp_path, f"{line}@revoked * {key}")

    with pytest.raises(HostKeyError):
        say_hi(make, replace(endpoint, known_hosts=path))


@pytest.mark.parametrize(
    ("text", "trust"), [("", "unknown"), ("known", "known"), ("other", "changed")]
)
def test_the_key_of_a_host_is_read_without_logging_in(
    testbed: Testbed, endpoint: SshEndpoint, tmp_path: Path, text: str, trust: str
):
    name, _, key = testbed.ssh_known_hosts.read_text().partition(" ")
    make_key(tmp_path / "other")
    other = (tmp_path / "other.pub").read_text()
    path = known(tmp_path, {"": "", "known": f"{name} {key}", "other": f"{name} {other}"}[text])
    nobody = replace(endpoint, known_hosts=path, user="nobody", identity_files=())

    shown = asyncio.run(read_host_key(nobody))

    assert shown.trust == trust
    assert shown.line.split()[:2] == key.split()[:2]


# --- who we are ----------------------------------------------------------------------------------


@both
def test_a_certificate_lets_us_in(
    testbed: Testbed, endpoint: SshEndpoint, tmp_path: Path, make: Make
):
    key = tmp_path / "signed"
    make_key(key)
    end = replace(endpoint, identity_files=(str(key),))
    with pytest.raises(ConnectionLostError):
        say_hi(make, end)
    sign_key(testbed.ssh_authority, key, testbed.ssh_user)

    assert say_hi(make, end) == [b"hi\n"]


def locked_key(testbed: Testbed, tmp_path: Path, *, with_public: bool = True) -> Path:
    key = tmp_path / "locked"
    shutil.copy(testbed.ssh_key, key)
    words = ["-q", "-p", "-P", "", "-N", "open sesame", "-f", str(key)]
    subprocess.run([program("ssh-keygen"), *words], check=True, capture_output=True)
    if with_public:
        shutil.copy(testbed.ssh_key.with_suffix(".pub"), tmp_path / "locked.pub")
    return key


class Person:
    """Answers with *answers*, one after the other, then with nothing."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), [("", False)][:0]

    async def __call__(self, text: str, *, is_secret: bool) -> str | None:
        self.asked.append((text, is_secret))
        return self.answers.pop(0) if self.answers else None


@pytest.mark.parametrize("with_public", [True, False])
def test_a_locked_key_is_opened_by_its_passphrase(
    testbed: Testbed, endpoint: SshEndpoint, tmp_path: Path, *, with_public: bool
):
    key = locked_key(testbed, tmp_path, with_public=with_public)
    person = Person("wrong", "open sesame")
    end = replace(endpoint, identity_files=(str(key),), prompt=person)

    assert say_hi(SshTransport, end, times=5) == [b"hi\n"] * 5
    assert person.asked == [(f"Passphrase for {key}: ", True)] * 2


def test_nobody_is_asked_for_a_passphrase_where_another_key_lets_us_in(
    testbed: Testbed, endpoint: SshEndpoint, tmp_path: Path
):
    person = Person()
    keys = (str(locked_key(testbed, tmp_path)), str(testbed.ssh_key))

    assert say_hi(SshTransport, replace(endpoint, identity_files=keys, prompt=person)) == [b"hi\n"]
    assert person.asked == []


def test_a_locked_key_that_nobody_opens_ends_the_login(
    testbed: Testbed, endpoint: SshEndpoint, tmp_path: Path
):
    person = Person("wrong", "wrong", "wrong")
    end = replace(endpoint, identity_files=(str(locked_key(testbed, tmp_path)),), prompt=person)

    with pytest.raises(ConnectionLostError, match="login was refused"):
        say_hi(SshTransport, end)

    assert len([text for text, _ in person.asked if "Passphrase" in text]) == 3


def test_an_identity_that_a_configuration_names_and_that_is_not_there_is_no_error(
    testbed: Testbed, endpoint: SshEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    shutil.copy(testbed.ssh_key, tmp_path / ".ssh" / "id_ed25519")
    os.chmod(tmp_path / ".ssh" / "id_ed25519", 0o600)
    config = tmp_path / "config"
    config.write_text(f"Host *\n  IdentityFile {tmp_path}/nothing\n")
    end = replace(endpoint, identity_files=(), config_files=(str(config),))

    assert say_hi(SshTransport, end) == [b"hi\n"]
