"""From an edit to the first line that a Slurm job prints, over SSH, beside bare ``sbatch``."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tests.bench import base
from tests.bench.bench import Bench
from tests.bench.disk import need
from tests.bench.harness import BenchError, Contender, Timing, measure
from tests.bench.report import Table, say_bytes
from tests.bench.trees import WorkTree, make_quickstart, make_work_tree
from tests.testbed.bed import Parts, Testbed, start_testbed

_COMMAND = ("date", "+%s.%N")
"""What is run: it prints when it printed. Cluster and laptop are one machine with one clock."""

_REFERENCE = "ssh, sbatch"


@dataclass(frozen=True, kw_only=True)
class Desk:
    """
    Somebody's work tree, and how they reach the cluster.

    Attributes:
        name: What to call the tree.
        env: The environment of their commands.
        project: The folder on the cluster, below the home, to which the tree is copied by hand.
    """

    bench: Bench
    bed: Testbed
    name: str
    tree: WorkTree
    env: Mapping[str, str]
    project: str

    def run(self, *words: str) -> str:
        """Run one of their commands in the tree; what it prints."""
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

    def on_cluster(self, command: str) -> str:
        """Run a command on the login node, over a connection of its own."""
        return self.run("ssh", "-F", os.fspath(self.bed.ssh_config), "testbed", command)


def run(bench: Bench) -> list[Table]:
    """Measure it for a small project and for one of 5,000 files."""
    need("git", "bwrap", "rsync", "ssh")
    env = bench.env("turnaround")
    folder = bench.folder / "turnaround"
    folder.mkdir(exist_ok=True)
    trees = {
        "quickstart": make_quickstart(folder / "quickstart", env),
        "": make_work_tree(folder / "tree", env),
    }
    bed = start_testbed(Parts(accounting=False, registry=False, nodes=2))
    try:
        home, config = folder / "home", folder / "config.toml"
        base.copy_home(bench, home)
        config.write_text(_config(bed))
        env = {
            **env,
            "XMSLURM_REPRO_HOME": os.fspath(home),
            "XMSLURM_REPRO_CONFIG": os.fspath(config),
        }
        return [_measured(_desk(bench, bed, name, tree, env)) for name, tree in trees.items()]
    finally:
        bed.stop()


def _config(bed: Testbed) -> str:
    return f"""\
default_cluster = "bed"

[clusters.bed]
scheduler = "slurm"
transport = "ssh"
hosts = ["{bed.ssh_host}"]
port = {bed.ssh_port}
user = "{bed.ssh_user}"
known_hosts = "{bed.ssh_known_hosts}"
identity_files = ["{bed.ssh_key}"]
"""


def _desk(bench: Bench, bed: Testbed, name: str, tree: WorkTree, env: Mapping[str, str]) -> Desk:
    return Desk(
        bench=bench,
        bed=bed,
        name=name or f"{tree.file_count} files, {say_bytes(tree.size_bytes)}",
        tree=tree,
        env=env,
        project=f"by-hand/{tree.path.name}",
    )


def _measured(desk: Desk) -> Table:
    desk.on_cluster(f"mkdir -p {desk.project}")
    _copy(desk)
    contenders = [
        _contender(desk, "xmslurm-repro launch", _launch),
        _contender(desk, _REFERENCE, _sbatch),
        _contender(desk, "rsync, ssh, sbatch", _copy_and_sbatch),
    ]
    rows = measure(contenders, repetitions=desk.bench.repetitions, reference=_REFERENCE)
    return Table(
        title=f"From an edit to the first line of output: {desk.name}",
        note="A Slurm of two nodes behind an SSH server, all on this machine.",
        rows=rows,
    )


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """
    A job that was submitted.

    Attributes:
        steps: Seconds of the steps so far, as far as they are known.
        output: Waits for its end; what it printed.
    """

    steps: Mapping[str, float]
    output: Callable[[], str]


def _contender(desk: Desk, name: str, submit: Callable[[Desk], Submitted]) -> Contender:
    def edit_to_output() -> Timing:
        begin = time.time()
        job = submit(desk)
        submitting = time.time() - begin
        printed = float(job.output().split()[0]) - begin
        # What is left of submitting: programs that start and end.
        steps = {**job.steps, "rest": submitting - sum(job.steps.values())}
        return Timing(seconds=printed, parts={**steps, "until it prints": printed - submitting})

    return Contender(name=name, run=edit_to_output, setup=desk.tree.edit)


def _launch(desk: Desk) -> Submitted:
    info_file = os.fspath(desk.bench.folder / "turnaround" / "info")
    said = desk.run(*desk.bench.program("launch.py"), info_file, "submit", "bed", *_COMMAND)
    steps = json.loads(said.splitlines()[-1])
    del steps["rest"]
    return Submitted(
        steps=steps, output=lambda: desk.run(desk.bench.ours, "logs", "latest", "--follow")
    )


def _sbatch(desk: Desk) -> Submitted:
    """Without what carries the edit there: it would run the code of before."""
    command, begin = " ".join(_COMMAND), time.time()
    submit = f"cd {desk.project} && sbatch --parsable --output=out.%j --wrap='{command}'"
    job_id = desk.on_cluster(submit).strip()
    seconds = time.time() - begin

    def output() -> str:
        desk.bed.wait_for_job(job_id)
        out = desk.bed.homes[desk.bed.ssh_user] / desk.project / f"out.{job_id}"
        text = out.read_text()
        out.unlink()
        return text

    return Submitted(steps={"submit": seconds}, output=output)


def _copy_and_sbatch(desk: Desk) -> Submitted:
    begin = time.time()
    _copy(desk)
    copying = time.time() - begin
    job = _sbatch(desk)
    return replace(job, steps={"copy": copying, **job.steps})


def _copy(desk: Desk) -> None:
    remote = f"ssh -F {desk.bed.ssh_config}"
    target = f"testbed:{desk.project}/"
    desk.run("rsync", "--archive", "--delete", "--exclude=.git", "--rsh", remote, "./", target)
