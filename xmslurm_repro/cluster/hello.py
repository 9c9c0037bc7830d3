"""The first words with a cluster: where its state is, and which runtime works there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from xmslurm_repro.cluster.program import compose, readable_lines, run_program
from xmslurm_repro.cluster.runtime import Runtime
from xmslurm_repro.cluster.scheduler import Scheduler
from xmslurm_repro.errors import ClusterError
from xmslurm_repro.ports.transport import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFinding:
    """What trying a runtime gave: its version if it works, else why not."""

    name: str
    works: bool
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """
    What a cluster told of itself.

    Attributes:
        state_dir: Absolute path of the state folder, links resolved.
        kill_wait_seconds: Between SIGTERM and SIGKILL.
        missing: Tools that we need and that are not there.
        runtimes: Those that were tried, in order.
        complaints: What the site's setup printed.
    """

    state_dir: str
    kill_wait_seconds: int
    missing: tuple[str, ...]
    runtimes: tuple[RuntimeFinding, ...]
    complaints: tuple[str, ...] = ()


async def say_hello(
    transport: Transport,
    scheduler: Scheduler,
    state_dir: str,
    runtimes: Sequence[Runtime],
    *,
    setup: str = "",
    try_all: bool = False,
) -> Hello:
    """
    Make the state folder and try *runtimes* in order, until one works or all were tried; before
    them the bash commands *setup*.

    Raises:
        ClusterError: If there is no state folder to be had.
    """
    tries = "".join(f"try {r.name} {shlex.quote(r.probe)}\n" for r in runtimes)
    prepare = f"prepare {shlex.quote(setup)}\n" if setup else ""
    program = compose("common", scheduler.name, "hello") + prepare + tries + "exit 0\n"
    done = await run_program(transport, program, state_dir, "all" if try_all else "")
    if done.exit_status != 0:
        raise ClusterError(
            f"the state folder {state_dir} on {transport.description} cannot be used",
            hint="Set `state_dir` of the cluster to a folder that jobs can write to as well.",
            details=readable_lines(done.stderr),
        )
    hello = _read(done.stdout.decode("utf-8", "replace"))
    return replace(hello, complaints=readable_lines(done.stderr)) if setup else hello


def _read(output: str) -> Hello:
    state_dir, grace, missing, findings = "", 30, [], []
    for line in output.splitlines():
        name, _, value = line.partition(" ")
        match name:
            case "state":
                state_dir = value
            case "grace":
                grace = int(value)
            case "missing":
                missing.append(value)
            case "runtime":
                tried, answer, *said = value.split(" ", 2)
                findings.append(
                    RuntimeFinding(name=tried, works=answer == "yes", said="".join(said))
                )
    return Hello(
        state_dir=state_dir,
        kill_wait_seconds=grace,
        missing=tuple(missing),
        runtimes=tuple(findings),
    )
