"""
A test bed: Slurm, a login node and a registry, real and on one host.

It lives in a folder of its own, on ports that were free, and is gone without a trace afterwards.
It needs root, and changes nothing of the host but to add two users.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.testbed.login import Login
from tests.testbed.ports import port_block
from tests.testbed.processes import MARK, Servers, program, search_path, wait_until
from tests.testbed.registry import start_registry
from tests.testbed.roots import cache_folder, debian_root, root_keeper
from tests.testbed.slurm import Slurm
from tests.testbed.users import USERS, make_homes, make_users, namespace_keeper

PREFIX = "xstestbed-"
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """
    What a test bed is made of.

    Attributes:
        enforce_memory: Let Slurm kill jobs that use more memory than they asked for. Without
            control groups it looks once a second.
        suite: Run Slurm and sshd of this Debian release, in a root of its own; ``None`` for this
            machine's.
    """

    slurm: bool = True
    accounting: bool = True
    ssh: bool = True
    registry: bool = True
    nodes: int = 4
    enforce_memory: bool = False
    suite: str | None = None


class Guard:
    """
    A process that ends the test bed when we are gone.

    It waits for the end of a pipe that only we hold, so that it learns of our end even if we are
    killed.
    """

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.testbed.orphan", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=REPOSITORY,
            start_new_session=True,
        )

    def release(self) -> None:
        """Let it look once more, and go. Idempotent."""
        self._process.communicate(timeout=30)


@dataclass(frozen=True, kw_only=True)
class Testbed:
    """
    A running test bed. Fields of parts that were left out are empty.

    Attributes:
        root: Its folder.
        slurm_conf: What `SLURM_CONF` has to say.
        ssh_host: Where the login node listens: 127.0.0.1.
        ssh_port: And on which port.
        ssh_user: Who may log in, as may any of `users`.
        ssh_key: With which private key.
        ssh_known_hosts: A file that holds the login node's key.
        ssh_authority: The private key that signed the login node's key, and may sign users'.
        ssh_config: A file for `ssh -F`, with the hosts `testbed` and `testbed-behind`; the
            second is reached by ProxyJump through the first.
        registry: ``127.0.0.1:PORT``, plain HTTP.
        users: The unprivileged users.
        homes: Where the users' homes are seen from outside. In sessions and jobs they are
            where passwd(5) says.
        nodes: The names of the compute nodes; the first two have GPUs (``gpu:fake:2``).
        has_accounting: Whether there is a slurmdbd.
        suite: Whose Slurm and sshd these are; ``None`` for this machine's.
    """

    __test__ = False

    root: Path
    slurm_conf: Path
    ssh_host: str
    ssh_port: int
    ssh_user: str
    ssh_key: Path
    ssh_known_hosts: Path
    ssh_authority: Path
    ssh_config: Path
    registry: str
    users: tuple[str, ...]
    homes: Mapping[str, Path]
    nodes: tuple[str, ...]
    has_accounting: bool
    suite: str | None
    _servers: Servers = field(repr=False)
    _slurm: Slurm | None = field(repr=False)
    _login: Login | None = field(repr=False)
    _guard: Guard | None = field(repr=False)

    # --- running things ------------------------------------------------------------------------

    @property
    def env(self) -> dict[str, str]:
        """The environment for commands on this machine, as root: Slurm's, and an empty home."""
        home = self.root / "home" / "root"
        home.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": search_path(),
            "SLURM_CONF": str(self.slurm_conf),
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            MARK: str(self.root),
        }

    def run(self, argv: Sequence[str], *, timeout: float = 60) -> str:
        """Run a command as root on the login node; its output. A non-zero end fails the test."""
        return _output_of([*self.enter, *argv], self.env, timeout)

    def run_as(self, user: str, argv: Sequence[str], *, timeout: float = 60) -> str:
        """Run a command as a user, in their home, as on the login node, without SSH."""
        entry = pwd.getpwnam(user)
        env = {**self.env, "HOME": entry.pw_dir, "USER": user, "LOGNAME": user, "SHELL": "/bin/sh"}
        who = ["setpriv", f"--reuid={user}", f"--regid={entry.pw_gid}", "--init-groups"]
        words = [*self._inside_words(entry.pw_dir), *who, *argv]
        return _output_of(words, env, timeout)

    @property
    def enter(self) -> list[str]:
        """Words before a command that has to see the Slurm of another Debian; none for ours."""
        return [] if self.suite is None else self._inside_words("/")

    def _inside_words(self, cwd: str) -> list[str]:
        keeper = self._servers.find("namespace")
        assert keeper is not None
        return [*inside(keeper.pid), "--wdns=" + cwd]

    # --- Slurm ---------------------------------------------------------------------------------

    def jobs_named(self, name: str) -> int:
        """How many jobs of that name there are or were; an array counts once."""
        format_words = ["-h", "-t", "all", f"--name={name}", "-o", "%F"]
        found = set(self.run(["squeue", *format_words]).split())
        if self.has_accounting:
            # Without -S it shows those of today only, and without -a only root's.
            words = ["sacct", "-n", "-X", "-P", "-a", "-S", "now-7days", f"--name={name}"]
            ids = self.run([*words, "--format=JobID"]).split()
            found |= {job_id.partition("_")[0].partition("+")[0] for job_id in ids}
        return len(found)

    def wait_for_job(self, job_id: str, *, timeout: float = 60) -> str:
        """Wait until a job, and every task of it, has ended; the states that squeue shows."""
        busy = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED"}
        words = ["squeue", "-h", "-r", "-t", "all", "-j", job_id, "-o", "%T"]
        wait_until(
            lambda: not busy & set(self.run(words).split()), f"job {job_id}", seconds=timeout
        )
        return " ".join(self.run(words).split())

    def stop_controller(self) -> None:
        """Stop slurmctld. Commands then say that they cannot contact it, after about 9 s."""
        self._real_slurm.stop_controller()

    def kill_controller(self) -> None:
        """Kill slurmctld, as a machine that loses power does: it saves nothing."""
        self._signal("slurmctld", signal.SIGKILL)

    def start_controller(self) -> None:
        """Start slurmctld again, and wait until nodes are there."""
        self._real_slurm.start_controller()

    def pause_controller(self) -> None:
        """Let slurmctld hang: commands time out after about 10 s, and may take effect later."""
        self._signal("slurmctld", signal.SIGSTOP)

    def resume_controller(self) -> None:
        """Undo `pause_controller`."""
        self._signal("slurmctld", signal.SIGCONT)

    def stop_accounting(self) -> None:
        """Stop slurmdbd: sacct fails at once, jobs go on."""
        self._real_slurm.stop_accounting()

    def start_accounting(self) -> None:
        """Start slurmdbd again."""
        self._real_slurm.start_accounting()

    def stop_node(self, node: str) -> None:
        """Stop a node's slurmd: after 10 s the node is DOWN and its jobs are requeued."""
        self._real_slurm.stop_node(node)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd again, and wait until all nodes are there."""
        self._real_slurm.start_node(node)
        self._real_slurm.wait_for_nodes()

    def cancel_all(self) -> None:
        """Cancel every job, so that tests leave nothing to each other."""
        self.run(["scancel", "--state=PENDING"])
        self.run(["scancel", "--state=RUNNING"])
        words = ["squeue", "-h", "-o", "%i"]
        wait_until(lambda: not self.run(words).split(), "all jobs to end", seconds=60)

    # --- SSH -----------------------------------------------------------------------------------

    def cut_connections(self) -> int:
        """Break every SSH connection; what runs at their ends goes on."""
        return self._real_login.cut()

    def freeze_connections(self) -> None:
        """Let every SSH connection go silent without breaking it."""
        self._real_login.freeze()

    def thaw_connections(self) -> None:
        """Undo `freeze_connections`."""
        self._real_login.thaw()

    def count_connections(self) -> int:
        """How many sshd processes serve connections; two for each one that is logged in."""
        return len(self._real_login.sessions())

    def stop_ssh(self) -> None:
        """Stop listening for SSH connections; those that are there go on."""
        self._real_login.stop()

    def start_ssh(self) -> None:
        """Listen again."""
        self._real_login.start_again()

    # -------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Kill everything that the test bed started, and remove its folder. Idempotent."""
        _remove(self._servers)
        if self._guard is not None:
            self._guard.release()

    def _signal(self, server: str, number: int) -> None:
        process = self._servers.find(server)
        assert process is not None, f"{server} does not run"
        process.send(number)

    @property
    def _real_slurm(self) -> Slurm:
        assert self._slurm is not None, "this test bed has no Slurm"
        return self._slurm

    @property
    def _real_login(self) -> Login:
        assert self._login is not None, "this test bed has no sshd"
        return self._login


def start_testbed(
    parts: Parts = Parts(), *, root: Path | None = None, tied: bool = True
) -> Testbed:
    """
    Start a test bed and wait until all its parts are ready.

    Args:
        parts: What to start.
        root: Its folder; a fresh one by default. Has to be short: sockets lie in it.
        tied: Whether it shall end with this process, however that ends.
    """
    if os.geteuid() != 0:
        raise PermissionError("the test bed starts servers and adds users: run the tests as root")
    root = Path(tempfile.mkdtemp(prefix=PREFIX)) if root is None else root
    root.mkdir(exist_ok=True)
    root.chmod(0o755)
    old_mask = os.umask(0o022)
    guard = Guard(root) if tied else None
    servers = Servers(root)
    try:
        with port_block() as ports:
            return _start_parts(parts, servers, ports, guard)
    except BaseException:
        _remove(servers)
        if guard is not None:
            guard.release()
        raise
    finally:
        os.umask(old_mask)


def _start_parts(parts: Parts, servers: Servers, ports: range, guard: Guard | None) -> Testbed:
    root = servers.root
    make_users()
    homes = make_homes(root)
    other = debian_root(parts.suite, cache_folder(os.environ)) if parts.suite else None
    words = root_keeper(other, root, homes) if other else namespace_keeper(root, homes)
    keeper = servers.start("namespace", words, {"PATH": search_path()})
    ready = root / "namespace.ready"
    wait_until(ready.exists, "the mount namespace", log=servers.log("namespace"))
    enter = inside(keeper.pid)
    slurm = Slurm(
        servers,
        ports[3:],
        nodes=parts.nodes,
        accounting=parts.accounting,
        inside=enter,
        is_elsewhere=other is not None,
        enforce_memory=parts.enforce_memory,
    )
    # As on most sites, nobody chooses a locale for those who log in.
    given = {"SLURM_CONF": str(slurm.conf)} if parts.slurm else {}
    login = Login(servers, ports[0], env={"PATH": "/usr/bin:/bin", **given}, inside=enter)
    if parts.ssh:
        login.start()
    registry = start_registry(servers, ports[1]) if parts.registry else ""
    if parts.slurm:
        slurm.start()
    return Testbed(
        root=root,
        slurm_conf=slurm.conf,
        ssh_host="127.0.0.1",
        ssh_port=login.port,
        ssh_user=login.user,
        ssh_key=login.key,
        ssh_known_hosts=login.known_hosts,
        ssh_authority=login.authority,
        ssh_config=login.config,
        registry=registry,
        users=USERS,
        homes=homes,
        nodes=slurm.nodes,
        has_accounting=parts.slurm and parts.accounting,
        suite=parts.suite,
        _servers=servers,
        _slurm=slurm if parts.slurm else None,
        _login=login if parts.ssh else None,
        _guard=guard,
    )


def inside(keeper_pid: int) -> list[str]:
    """The words that run a command where the users' homes are the test bed's."""
    return [program("nsenter"), f"--mount=/proc/{keeper_pid}/ns/mnt"]


def stop_testbed(root: Path) -> None:
    """Kill everything that the test bed in *root* started, whoever started it; remove *root*."""
    _remove(Servers(root))


def _remove(servers: Servers) -> None:
    servers.stop_all()
    if servers.root.exists():
        shutil.rmtree(servers.root)


def _output_of(argv: Sequence[str], env: Mapping[str, str], timeout: float) -> str:
    done = subprocess.run(
        list(argv),
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"{list(argv)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
