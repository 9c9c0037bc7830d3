"""Two unprivileged users, and a home of their own in every test bed."""

from __future__ import annotations

import fcntl
import os
import pwd
import subprocess
import tempfile
from pathlib import Path

from tests.testbed.processes import program

USERS = ("xsalice", "xsbob")


def make_users() -> None:
    """Make sure that the users exist, may log in with keys, and may use user namespaces."""
    with open(os.path.join(tempfile.gettempdir(), "xstestbed-users"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in USERS:
            _make_user(name)


def _make_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        # useradd gives them ranges in /etc/subuid and /etc/subgid where those files exist.
        for path in ("/etc/subuid", "/etc/subgid"):
            Path(path).touch()
        command = [program("useradd"), "--create-home", "--shell", "/bin/bash", name]
        subprocess.run(command, check=True, capture_output=True)
        # An account locked by "!" is refused by sshd even with a key, unless PAM is used.
        subprocess.run([program("usermod"), "--password", "*", name], check=True)
    for path in ("/etc/subuid", "/etc/subgid"):
        if not any(line.startswith(f"{name}:") for line in Path(path).read_text().splitlines()):
            raise RuntimeError(f"{name} has no range in {path}: userdel -r {name}, and try again")


def make_homes(root: Path) -> dict[str, Path]:
    """Empty homes below *root*; what makes them the users' homes is `home_mounts`."""
    homes = {}
    for name in USERS:
        entry = pwd.getpwnam(name)
        home = root / "home" / name
        home.mkdir(parents=True)
        os.chown(home, entry.pw_uid, entry.pw_gid)
        home.chmod(0o755)
        homes[name] = home
    return homes


def namespace_keeper(root: Path, homes: dict[str, Path]) -> list[str]:
    """
    A command that makes a mount namespace in which *homes* are the users' homes, and keeps it.

    So test beds that run side by side, or one after another, do not share what users keep in
    their homes. It writes ``namespace.ready`` when the namespace can be entered.
    """
    mounts = [
        f"mount --bind {home} {pwd.getpwnam(name).pw_dir}" for name, home in sorted(homes.items())
    ]
    script = " && ".join([*mounts, f"touch {root}/namespace.ready", "exec sleep infinity"])
    return [program("unshare"), "--mount", "--propagation", "private", "sh", "-c", script]
