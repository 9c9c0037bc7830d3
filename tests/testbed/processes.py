"""Servers of a test bed: started in the foreground, written down, and stopped without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# In the environment of every process that a test bed starts, so that what outlives its parent
# can be found again. The value is the test bed's folder.
MARK = "TESTBED_ROOT"

PACKAGES = {
    "munged": "munge",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "mariadb": "mariadb-client-core",
    "slurmdbd": "slurmdbd slurm-wlm-mysql-plugin",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ssh-agent": "openssh-client",
    "docker-registry": "docker-registry",
    "useradd": "passwd",
    "nsenter": "util-linux",
    "faketime": "faketime",
}


def program(name: str) -> str:
    """The full path of a program; if it is missing, fail and say which package has it."""
    found = shutil.which(name, path=search_path())
    if found is None:
        package = PACKAGES.get(name, name)
        raise FileNotFoundError(
            f"the tests need the program `{name}`: "
            f"apt-get install --no-install-recommends {package}"
        )
    return found


def search_path() -> str:
    """Where the system's programs and servers lie, whatever our own PATH says."""
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def wait_until(
    is_ready: Callable[[], bool], what: str, *, seconds: float = 30, log: Path | None = None
) -> None:
    """Poll; if it takes too long, fail with the end of the log."""
    deadline = time.monotonic() + seconds
    while not is_ready():
        if time.monotonic() > deadline:
            said = f":\n{log.read_text(errors='replace')[-3000:]}" if log and log.exists() else ""
            raise TimeoutError(f"{what}: not within {seconds:g} s{said}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Process:
    """A process by number and start time: a number that is used again names another process."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this number now."""
        stat = _stat(pid)
        return None if stat is None else cls(pid, int(stat[19]))

    @property
    def is_alive(self) -> bool:
        """Whether it runs. A zombie does not."""
        stat = _stat(self.pid)
        return stat is not None and int(stat[19]) == self.start_ticks and stat[0] != "Z"

    def send(self, number: int) -> None:
        """Send a signal, unless it is gone."""
        if self.is_alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (proc(5): state is the third field)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def children_of(pid: int) -> list[Process]:
    """The direct children of a process."""
    return [process for process, parent in _table().items() if parent == pid]


def name_of(process: Process) -> str:
    """What the kernel calls it."""
    try:
        return Path(f"/proc/{process.pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _table() -> dict[Process, int]:
    """Every process of the machine, and its parent."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))) is not None:
            found[Process(int(name), int(stat[19]))] = int(stat[1])
    return found


def marked(root: Path) -> list[Process]:
    """
    Every process of the test bed: those that carry its mark, those that see its homes, and all
    their descendants.

    The mark is lost where an environment is cleaned; the homes are not, except in containers,
    whose keepers are found.
    """
    parents = _table()
    ours = {process.pid for process in parents if _is_marked(process.pid, root)}
    while grown := {p.pid for p, parent in parents.items() if parent in ours} - ours:
        ours |= grown
    return [process for process in parents if process.pid in ours and process.pid != os.getpid()]


def _is_marked(pid: int, root: Path) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        mounts = Path(f"/proc/{pid}/mountinfo").read_bytes()
    except OSError:
        return False
    # A mount namespace made from ours, as podman makes them, has a copy of our mounts.
    return f"{MARK}={root}".encode() in environment.split(b"\0") or (
        f"/{root.name}/home/".encode() in mounts
    )


def kill_all(processes: Iterable[Process]) -> None:
    """Kill at once."""
    for process in processes:
        process.send(signal.SIGKILL)


class Servers:
    """
    The servers of one test bed.

    Each runs in the foreground as our child, in a session of its own, and is written down in
    ``run/NAME`` as ``pid start-time`` so that another process can stop it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._notes = root / "run"
        self._logs = root / "log"
        self._children: list[subprocess.Popen[bytes]] = []

    def log(self, name: str) -> Path:
        """Where a server's words go."""
        return self._logs / f"{name}.log"

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> Process:
        """Start a server and write it down."""
        self._notes.mkdir(exist_ok=True)
        self._logs.mkdir(exist_ok=True)
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**env, MARK: str(self.root)},
                cwd="/",
                start_new_session=True,
            )
        self._children.append(child)
        process = Process.of(child.pid)
        assert process is not None
        (self._notes / name).write_text(f"{process.pid} {process.start_ticks}\n")
        return process

    def find(self, name: str) -> Process | None:
        """The server, if it was started, whoever started it."""
        try:
            pid, ticks = (self._notes / name).read_text().split()
        except FileNotFoundError:
            return None
        return Process(int(pid), int(ticks))

    def stop(self, name: str, *, number: int = signal.SIGTERM, seconds: float = 15) -> None:
        """Ask a server to end and wait until it has."""
        process = self.find(name)
        if process is None:
            return
        process.send(number)
        try:
            wait_until(lambda: not self._still_runs(process), f"{name} to end", seconds=seconds)
        except TimeoutError:
            process.send(signal.SIGKILL)
            wait_until(lambda: not self._still_runs(process), f"{name} to die", seconds=5)
        (self._notes / name).unlink()

    def stop_all(self) -> None:
        """Kill every server, and everything that any of them has started, until nothing is left."""
        deadline = time.monotonic() + 20
        while left := self._noted() + marked(self.root):
            kill_all(left)
            self._reap()
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes of {self.root} that cannot be killed: {left}")
            time.sleep(0.02)
        for child in self._children:
            child.wait()

    def _noted(self) -> list[Process]:
        names = [entry.name for entry in os.scandir(self._notes)] if self._notes.is_dir() else []
        noted = (self.find(name) for name in names)
        return [process for process in noted if process is not None and process.is_alive]

    def _still_runs(self, process: Process) -> bool:
        self._reap()
        return process.is_alive

    def _reap(self) -> None:
        """Let children that have ended go."""
        self._children = [child for child in self._children if child.poll() is None]
