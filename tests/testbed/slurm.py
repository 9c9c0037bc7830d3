"""A real Slurm on one host: munge, MariaDB and slurmdbd, slurmctld, and several slurmd."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping

from tests.testbed.processes import Servers, program, search_path, wait_until
from tests.testbed.users import USERS

CLUSTER = "xstest"
CPUS_PER_NODE = 4
MEMORY_MIB_PER_NODE = 4000


class Slurm:
    """
    The servers of one Slurm.

    It keeps to its own folder and ports; munge too is its own (`AuthInfo=socket=`), so that the
    host's key, if there is one, is neither needed nor read.
    """

    def __init__(
        self,
        servers: Servers,
        ports: range,
        *,
        nodes: int,
        accounting: bool,
        inside: list[str],
        is_elsewhere: bool = False,
        enforce_memory: bool = False,
    ) -> None:
        self._servers = servers
        self._root = servers.root
        self._ports = ports
        self.nodes = tuple(f"n{number}" for number in range(1, nodes + 1))
        self.has_accounting = accounting
        self._inside = inside
        self._is_elsewhere = is_elsewhere
        self._enforce_memory = enforce_memory
        self.conf = self._root / "etc" / "slurm.conf"
        self._munge_socket = self._root / "munge" / "socket"

    @property
    def env(self) -> Mapping[str, str]:
        """What the commands of Slurm need."""
        return {"PATH": search_path(), "SLURM_CONF": str(self.conf), "LC_ALL": "C.UTF-8"}

    def start(self) -> None:
        """Start everything; nodes are idle when it returns."""
        (self._root / "etc").mkdir()
        self._write_conf()
        if self.has_accounting:
            self._start_database()
        self._start_munge()
        if self.has_accounting:
            self._await_database()
            self.start_accounting()
            self._ask("sacctmgr", "-iQ", "add", "cluster", CLUSTER)
        self.start_controller(wait_for_nodes=False)
        for node in self.nodes:
            self.start_node(node)
        if self.has_accounting:
            self._ask("sacctmgr", "-iQ", "add", "account", "lab", "Description=x", "Organization=x")
            self._ask("sacctmgr", "-iQ", "add", "user", ",".join(USERS), "Account=lab")
        self.wait_for_nodes()

    def _ask(self, *argv: str, timeout: float = 30) -> str:
        done = subprocess.run(
            [*self._words(argv[0]), *argv[1:]],
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{argv}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def _words(self, name: str, *, anyway: bool = False) -> list[str]:
        """The words that start a program of Slurm: this machine's, or the other Debian's."""
        if self._is_elsewhere:
            return [*self._inside, name]
        return [*self._inside, program(name)] if anyway else [program(name)]

    def _version(self) -> tuple[int, int]:
        said = subprocess.run(
            [*self._words("slurmctld"), "-V"],
            env=dict(self.env),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
        major, minor = said.split()[-1].split(".")[:2]
        return int(major), int(minor)

    def _answers(self, *argv: str) -> str | None:
        try:
            return self._ask(*argv)
        except RuntimeError:
            return None

    # --- munge ---------------------------------------------------------------------------------

    def _start_munge(self) -> None:
        folder = self._munge_socket.parent
        folder.mkdir(mode=0o755)
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        self._servers.start(
            "munged",
            [
                *self._words("munged"),
                "--foreground",
                "--force",  # its complaint about /tmp being writable by all, sticky or not
                f"--socket={self._munge_socket}",
                f"--key-file={key}",
                f"--pid-file={folder}/pid",
                f"--seed-file={folder}/seed",
                f"--log-file={self._servers.log('munged-own')}",
            ],
            self.env,
        )
        log = self._servers.log("munged")
        wait_until(self._munge_socket.exists, "munged listens", log=log)

    # --- accounting ----------------------------------------------------------------------------

    def _start_database(self) -> None:
        data = self._root / "mysql"
        common = [f"--datadir={data}", "--user=root", "--innodb-flush-method=nosync"]
        common.append("--innodb-log-file-size=8M")
        install = [program("mariadb-install-db"), "--no-defaults", "--skip-test-db", *common]
        install.append("--auth-root-authentication-method=normal")
        subprocess.run(install, check=True, capture_output=True, timeout=120, env=self.env)
        words = [program("mariadbd"), "--no-defaults", *common, "--skip-networking"]
        words += [f"--socket={self._root}/mysql.sock", f"--pid-file={data}/pid"]
        words += ["--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0"]
        words += ["--innodb-lock-wait-timeout=900", "--performance-schema=OFF", "--skip-log-bin"]
        self._servers.start("mariadbd", words, self.env)

    def _await_database(self) -> None:
        # The database is this machine's in any case.
        client = [program("mariadb"), "--no-defaults", "-uroot"]
        client += [f"--socket={self._root}/mysql.sock", "-e"]
        make = "create database if not exists slurm_acct"
        wait_until(
            lambda: (
                subprocess.run([*client, make], capture_output=True, check=False).returncode == 0
            ),
            "mariadbd answers",
            log=self._servers.log("mariadbd"),
        )

    def start_accounting(self) -> None:
        """Start slurmdbd and wait until it answers."""
        # There is no key for the socket; libmariadb takes it from this variable.
        env = {**self.env, "MYSQL_UNIX_PORT": f"{self._root}/mysql.sock"}
        self._servers.start("slurmdbd", [*self._words("slurmdbd"), "-D"], env)
        log = self._servers.log("slurmdbd")
        wait_until(
            lambda: self._answers("sacctmgr", "-n", "list", "cluster") is not None,
            "slurmdbd answers",
            seconds=60,
            log=log,
        )

    def stop_accounting(self) -> None:
        """Stop slurmdbd, as a site's failing database would."""
        self._servers.stop("slurmdbd")

    # --- controller and nodes ------------------------------------------------------------------

    def start_controller(self, *, wait_for_nodes: bool = True) -> None:
        """Start slurmctld and wait until it answers."""
        self._servers.start("slurmctld", [*self._words("slurmctld"), "-D"], self.env)
        wait_until(
            lambda: "is UP" in (self._answers("scontrol", "ping") or ""),
            "slurmctld answers",
            log=self._servers.log("slurmctld"),
        )
        if wait_for_nodes:
            self.wait_for_nodes()

    def stop_controller(self) -> None:
        """Stop slurmctld; it saves its state first."""
        self._servers.stop("slurmctld")

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node."""
        (self._root / "spool" / node).mkdir(parents=True, exist_ok=True)
        words = [*self._words("slurmd", anyway=True), "-D", "-N", node]
        self._servers.start(f"slurmd-{node}", words, self.env)

    def stop_node(self, node: str) -> None:
        """Stop a node's slurmd. What runs there goes on, as on a node that lost its network."""
        self._servers.stop(f"slurmd-{node}")

    def wait_for_nodes(self) -> None:
        """Wait until every node takes jobs."""

        def is_ready() -> bool:
            said = self._answers("sinfo", "-hN", "-p", "debug", "-o", "%t") or ""
            good = [word for word in said.split() if word in ("idle", "mix", "alloc", "comp")]
            return len(good) == len(self.nodes)

        wait_until(is_ready, "all nodes ready", log=self._servers.log("slurmctld"), seconds=60)

    # --- configuration -------------------------------------------------------------------------

    def _write_conf(self) -> None:
        etc = self._root / "etc"
        for folder in ("state", "spool", "gpu", "log", "pid"):
            (self._root / folder).mkdir(exist_ok=True)
        devices = self._root / "gpu"
        for number in (0, 1):
            # No hardware, but device files: enough for Slurm to hand them out by number.
            os.mknod(devices / f"fake{number}", 0o020666, os.makedev(240, number))
        gres = f"NodeName=n[1-{len(self.nodes[:2])}] Name=gpu Type=fake File={devices}/fake[0-1]\n"
        (etc / "gres.conf").write_text(gres)
        self.conf.write_text(self._conf())
        if self._version() >= (23, 11):
            # It looks for systemd otherwise, although nothing here uses cgroups.
            (etc / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        if self.has_accounting:
            secret = etc / "slurmdbd.conf"
            secret.touch(mode=0o600)
            secret.write_text(self._dbd_conf())

    def _dbd_conf(self) -> str:
        root = self._root
        return f"""\
AuthType=auth/munge
AuthInfo=socket={self._munge_socket}
DbdHost=localhost
DbdPort={self._ports[1]}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
LogFile={root}/log/slurmdbd-own.log
PidFile={root}/pid/slurmdbd
"""

    def _accounting_conf(self) -> str:
        if not self.has_accounting:
            return "AccountingStorageType=accounting_storage/none\n"
        # Before 21.08 there were no such flags.
        flags = "AccountingStoreFlags=job_comment,job_env,job_script\n"
        return f"""\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={self._ports[1]}
AccountingStoragePass={self._munge_socket}
{flags if self._version() >= (21, 8) else ""}\
AccountingStorageTRES=gres/gpu
"""

    def _conf(self) -> str:
        root, host = self._root, socket.gethostname().partition(".")[0]
        with_gpu, without = self.nodes[:2], self.nodes[2:]
        nodes = [self._node_conf(host, with_gpu, 2, "Gres=gpu:fake:2 Feature=gpu")]
        nodes += [self._node_conf(host, without, 2 + len(with_gpu), "Feature=cpu")]
        partition = "Nodes=ALL MaxTime=1-0 DefaultTime=10 State=UP"
        # cred_expire: a requeued job waits that long (the default is two minutes).
        return f"""\
ClusterName={CLUSTER}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={self._ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={self._munge_socket},cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/pid/slurmctld
SlurmdPidFile={root}/pid/slurmd-%n
SlurmctldLogFile={root}/log/slurmctld-own.log
SlurmdLogFile={root}/log/slurmd-%n-own.log
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,bf_interval=1,batch_sched_delay=0,requeue_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=2
MinJobAge=300
MaxArraySize=1001
MaxJobCount=10000
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=10
InactiveLimit=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
{"JobAcctGatherParams=OverMemoryKill" if self._enforce_memory else ""}
GresTypes=gpu
{self._accounting_conf()}{"".join(nodes)}\
PartitionName=debug {partition} Default=YES PriorityTier=5
PartitionName=low {partition} PriorityTier=1 GraceTime=0
PartitionName=high {partition} PriorityTier=10 PreemptMode=OFF
"""

    def _node_conf(self, host: str, nodes: tuple[str, ...], first_port: int, more: str) -> str:
        if not nodes:
            return ""
        ports = self._ports[first_port : first_port + len(nodes)]
        numbers = f"{nodes[0][1:]}-{nodes[-1][1:]}"
        return (
            f"NodeName=n[{numbers}] NodeHostname={host} NodeAddr=127.0.0.1 "
            f"Port=[{ports[0]}-{ports[-1]}] CPUs={CPUS_PER_NODE} "
            f"RealMemory={MEMORY_MIB_PER_NODE} {more} State=UNKNOWN\n"
        )
