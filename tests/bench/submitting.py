"""One job and an array of a thousand, through us and through others, to one Slurm."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench import base
from tests.bench.bench import Bench
from tests.bench.disk import need
from tests.bench.harness import BenchError, Contender, measure
from tests.bench.report import Fact, Table
from tests.bench.trees import WorkTree, make_quickstart
from tests.testbed.bed import Parts, Testbed, start_testbed

UNITS = 1000

_PEERS = {"submitit": ("submitit",), "xm_slurm": ("xmanager-slurm==0.5.0", "xmanager<0.8")}
"""What is installed into an environment of its own."""

_ACCEPTED = "Accepted publickey"
_BY_USER = re.compile(
    r"^\t(\S+)\s+\(\s*\d+\) count:(\d+)\s+ave_time:\d+\s+total_time:(\d+)", re.MULTILINE
)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Somebody's work tree, their way to the cluster, and the others' programs."""

    bench: Bench
    bed: Testbed
    tree: WorkTree
    env: Mapping[str, str]
    peers: Mapping[str, Path]

    def run(self, *words: str) -> str:
        """Run a command of theirs in the tree, over SSH if it uses that."""
        done = subprocess.run(
            words,
            cwd=self.tree.path,
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BenchError(f"{words} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout

    def on_login_node(self, *words: str) -> str:
        """Run a command as the user on the login node, without SSH."""
        return self.bed.run_as(self.bed.ssh_user, words)


def run(bench: Bench) -> list[Table]:
    """Measure both."""
    need("git", "bwrap", "ssh")
    env = bench.env("submitting")
    folder = bench.folder / "submitting"
    folder.mkdir(exist_ok=True)
    tree = make_quickstart(folder / "quickstart", env)
    (folder / "units.jsonl").write_text("".join(f'["--unit={n}"]\n' for n in range(UNITS)))
    peers = _install(bench)
    bed = start_testbed(Parts(accounting=True, registry=False, nodes=2))
    try:
        # Nobody's job runs, so that none disturbs the next. xm_slurm knows no other way to hold one.
        bed.run(["scontrol", "update", "nodename=n[1-2]", "state=drain", "reason=bench"])
        home, config = folder / "home", folder / "config.toml"
        base.copy_home(bench, home)
        config.write_text(_config(bed))
        files = {"XMSLURM_REPRO_HOME": home, "XMSLURM_REPRO_CONFIG": config}
        named = {name: os.fspath(path) for name, path in files.items()}
        # For xm_slurm.
        login = folder / "ssh_config"
        login.write_text(
            f"Host {bed.ssh_host}\n User {bed.ssh_user}\n IdentityFile {bed.ssh_key}\n"
        )
        named["XM_SLURM_SSH_CONFIG"] = os.fspath(login)
        named["XM_SLURM_STATE_DIR"] = os.fspath(folder / "xm_slurm")
        desk = Desk(bench=bench, bed=bed, tree=tree, env={**env, **named}, peers=peers)
        return [_one(desk), _many(desk)]
    finally:
        bed.stop()


def _config(bed: Testbed) -> str:
    return f"""\
default_cluster = "bed"

[clusters.bed]
transport = "ssh"
hosts = ["{bed.ssh_host}"]
port = {bed.ssh_port}
user = "{bed.ssh_user}"
known_hosts = "{bed.ssh_known_hosts}"
identity_files = ["{bed.ssh_key}"]
"""


def _install(bench: Bench) -> Mapping[str, Path]:
    """The Python of each of the others that could be installed."""
    found = {}
    for name, packages in _PEERS.items():
        # Where the user of the login node may read it.
        folder = bench.folder / "peers" / name
        python = folder / "bin" / "python"
        if not python.exists():
            bench.log(f"installing {name} …")
            uv = [sys.executable, "-m", "uv"]
            words = ([*uv, "venv", "-q", "--python", "/usr/bin/python3", os.fspath(folder)],)
            pip = [*uv, "pip", "install", "-q", "--python", os.fspath(python), *packages]
            if any(subprocess.run(each, check=False).returncode for each in (*words, pip)):
                shutil.rmtree(folder, ignore_errors=True)
                bench.log(f"{name} cannot be installed, and is left out")
                continue
        found[name] = python
    return found


def _one(desk: Desk) -> Table:
    ours = (desk.bench.ours, "launch", "--", "echo", "hello")
    script = "sbatch --parsable --output=/dev/null --wrap='echo hello'"
    contenders = {
        "xmslurm-repro launch, over SSH": lambda: desk.run(*ours),
        "ssh, sbatch": lambda: _over_ssh(desk, script),
        "sbatch, on the login node": lambda: desk.on_login_node("sh", "-c", script),
        **_peers(desk, 1),
    }
    return _measured(desk, "One job, submitted", contenders)


def _many(desk: Desk) -> Table:
    units = os.fspath(desk.bench.folder / "submitting" / "units.jsonl")
    ours = (desk.bench.ours, "launch", "--sweep-file", units, "--", "echo")
    script = (
        f"sbatch --parsable --output=/dev/null --array=0-{UNITS - 1}"
        " --wrap='echo $SLURM_ARRAY_TASK_ID'"
    )
    loop = (
        "i=0; while [ $i -lt 100 ]; do sbatch --parsable --output=/dev/null"
        " --wrap='echo hello'; i=$((i+1)); done"
    )
    contenders = {
        "xmslurm-repro launch --sweep-file, over SSH": lambda: desk.run(*ours),
        "ssh, sbatch --array": lambda: _over_ssh(desk, script),
        "sbatch --array, on the login node": lambda: desk.on_login_node("sh", "-c", script),
        "a loop of 100 sbatch, on the login node": lambda: desk.on_login_node("sh", "-c", loop),
        **_peers(desk, UNITS),
    }
    return _measured(desk, f"{UNITS} units, submitted", contenders)


def _over_ssh(desk: Desk, command: str) -> str:
    return desk.run("ssh", "-F", os.fspath(desk.bed.ssh_config), "testbed", command)


def _peers(desk: Desk, count: int) -> dict[str, Callable[[], str]]:
    found: dict[str, Callable[[], str]] = {}
    program = desk.bench.program("submit_by_submitit.py")[1]
    if "submitit" in desk.peers:
        python = os.fspath(desk.peers["submitit"])
        # It reads itself and writes its pickles where the user may.
        text = Path(program).read_text()
        found["submitit, on the login node"] = lambda: desk.on_login_node(
            python, "-c", text, str(count)
        )
    if "xm_slurm" in desk.peers:
        theirs = desk.bench.program("submit_by_xm_slurm.py")[1]
        known = desk.bed.ssh_known_hosts.read_text().splitlines()[0].split()
        words = (os.fspath(desk.peers["xm_slurm"]), "-W", "ignore", theirs, str(count))
        where = (desk.bed.ssh_host, str(desk.bed.ssh_port), known[1], known[2])
        found["xm_slurm, over SSH, image given"] = lambda: desk.run(*words, *where)
    return found


def _measured(desk: Desk, title: str, contenders: Mapping[str, Callable[[], str]]) -> Table:
    def timed(submit: Callable[[], str]) -> Callable[[], None]:
        def once() -> None:
            submit()

        return once

    def cancel() -> None:
        desk.bed.run(["scancel", "--state=PENDING"])

    reference = next(name for name in contenders if name.startswith("sbatch"))
    rows = measure(
        [
            Contender(name=name, run=timed(submit), after=cancel)
            for name, submit in contenders.items()
        ],
        repetitions=desk.bench.repetitions,
        reference=reference,
    )
    facts = [_asked(desk, name, submit) for name, submit in contenders.items()]
    cancel()
    note = (
        "No job runs: the nodes are drained. What was asked of slurmctld is by sdiag, for this "
        "user, in one more turn."
    )
    return Table(title=title, note=note, rows=rows, facts=tuple(facts))


def _asked(desk: Desk, name: str, submit: Callable[[], str]) -> Fact:
    """What one submission asks of the controller, and how many connections it opens."""
    log = desk.bed.root / "log" / "sshd.log"
    before = log.read_text(errors="replace").count(_ACCEPTED)
    desk.bed.run(["sdiag", "--reset"])
    submit()
    said = desk.bed.run(["sdiag"])
    connections = log.read_text(errors="replace").count(_ACCEPTED) - before
    by_user = said.partition("statistics by user")[2].partition("\n\n")[0]
    mine = [found for found in _BY_USER.findall(by_user) if found[0] == desk.bed.ssh_user]
    count, busy = (int(mine[0][1]), int(mine[0][2])) if mine else (0, 0)
    value = f"{count} requests, {busy / 1000:.1f} ms of slurmctld, {connections} SSH connections"
    return Fact(name=name, value=value)
