"""A login node: an sshd on loopback, with the limits that sites have by default."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.testbed.ports import accepts
from tests.testbed.processes import (
    MARK,
    Process,
    Servers,
    children_of,
    name_of,
    program,
    wait_until,
)
from tests.testbed.users import USERS


class Login:
    """
    One sshd that lets `USERS` in with one key, or with any that `authority` signed; that signed
    its host key too.

    ``MaxSessions`` and ``MaxStartups`` are left at their defaults (10 and 10:30:100).
    """

    def __init__(
        self, servers: Servers, port: int, *, env: Mapping[str, str], inside: list[str]
    ) -> None:
        self._servers = servers
        self._folder = servers.root / "ssh"
        self._inside = inside
        self._env = env
        self.port = port
        self.user = USERS[0]
        self.key = self._folder / "id"
        self.host_key = self._folder / "host"
        self.known_hosts = self._folder / "known_hosts"
        self.config = self._folder / "config"
        self.authority = self._folder / "authority"

    def start(self) -> None:
        """Make keys and start; it accepts connections when it returns."""
        self._folder.mkdir()
        # sshd's privilege separation wants this folder; systemd would have made it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for key in (self.key, self.host_key, self.authority):
            make_key(key)
        sign_key(self.authority, self.host_key, "127.0.0.1", is_host=True)
        self._write_files()
        self.start_again()

    def start_again(self) -> None:
        """Start with the keys that are there."""
        words = [*self._inside, program("sshd"), "-D", "-e", "-f", f"{self._folder}/sshd_config"]
        self._servers.start("sshd", words, self._env)
        wait_until(lambda: accepts(self.port), "sshd listens", log=self._servers.log("sshd"))

    def stop(self) -> None:
        """Stop listening; sessions go on, as when a real sshd is restarted."""
        self._servers.stop("sshd")

    def sessions(self) -> list[Process]:
        """The sshd processes that serve connections, not the listening one."""
        listener = self._servers.find("sshd")
        if listener is None:
            return []
        monitors = children_of(listener.pid)
        workers = [child for monitor in monitors for child in children_of(monitor.pid)]
        # The workers' other children are what users run; those live on.
        return [process for process in [*monitors, *workers] if name_of(process).startswith("sshd")]

    def cut(self) -> int:
        """Break every connection; remote commands go on. Returns how many processes served."""
        sessions = self.sessions()
        for process in sessions:
            process.send(signal.SIGKILL)
        return len(sessions)

    def freeze(self) -> None:
        """Let every connection go silent without breaking it, as a vanished network does."""
        for process in self.sessions():
            process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        for process in self.sessions():
            process.send(signal.SIGCONT)

    def _write_files(self) -> None:
        folder = self._folder
        authorized = folder / "authorized_keys"
        authorized.write_text(self.key.with_suffix(".pub").read_text())
        authorized.chmod(0o644)
        given = " ".join(f"{name}={value}" for name, value in sorted(self._env.items()))
        # StrictModes would not let keys lie below /tmp; UsePAM would need a file under /etc.
        (folder / "sshd_config").write_text(f"""\
Port {self.port}
ListenAddress 127.0.0.1
HostKey {self.host_key}
HostCertificate {self.host_key}-cert.pub
TrustedUserCAKeys {self.authority}.pub
PidFile none
AuthorizedKeysFile {authorized}
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AllowUsers {" ".join(USERS)}
Subsystem sftp internal-sftp
SetEnv {given} {MARK}={self._servers.root}
""")
        kind, key = self.host_key.with_suffix(".pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        common = f"""\
  HostName 127.0.0.1
  Port {self.port}
  User {self.user}
  IdentityFile {self.key}
  IdentitiesOnly yes
  StrictHostKeyChecking yes
  UserKnownHostsFile {self.known_hosts}
  GlobalKnownHostsFile /dev/null
"""
        jump = f"Host testbed-behind\n  ProxyJump testbed\n{common}"
        self.config.write_text(f"Host testbed\n{common}\n{jump}")
        self.config.chmod(0o600)


def make_key(path: Path) -> None:
    """A fresh Ed25519 key pair without a passphrase, unless it is there."""
    if not path.exists():
        command = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "testbed"]
        subprocess.run([*command, "-f", str(path)], check=True)


def sign_key(authority: Path, key: Path, name: str, *, is_host: bool = False) -> None:
    """Make ``KEY-cert.pub``: the authority says that the key is *name*'s."""
    words = [program("ssh-keygen"), "-q", "-s", str(authority), "-I", "testbed", "-n", name]
    subprocess.run([*words, *(["-h"] if is_host else []), f"{key}.pub"], check=True)
