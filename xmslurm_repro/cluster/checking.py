"""What a launch would need of a cluster, and what is there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from xmslurm_repro.cluster.hello import say_hello
from xmslurm_repro.cluster.program import bash_text, compose, readable_lines, run_program
from xmslurm_repro.cluster.runtime import Runtime
from xmslurm_repro.cluster.scheduler import Scheduler
from xmslurm_repro.errors import ClusterError
from xmslurm_repro.ports.cluster import Fact
from xmslurm_repro.ports.transport import Completed, Transport

_PROBE_SECONDS = 120
"""How long a tiny job is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checker:
    """
    Asks a cluster what it can do.

    Attributes:
        setup: What the site wants done before a job.
        registry: ``host:port`` from which jobs would pull images, if any.
    """

    transport: Transport
    scheduler: Scheduler
    state_dir: str
    runtimes: tuple[Runtime, ...]
    setup: str = ""
    registry: str | None = None

    async def check(self, *, options: Sequence[tuple[str, str]], with_job: bool) -> Sequence[Fact]:
        """Everything, with every runtime tried; on a compute node too, where asked for."""
        words = tuple(f"--{name}={value}" if value else f"--{name}" for name, value in options)
        hello = await say_hello(
            *(self.transport, self.scheduler, self.state_dir, self.runtimes),
            setup=self.setup,
            try_all=True,
        )
        facts = [Fact(name="state folder", value=hello.state_dir, is_good=True)]
        facts += (Fact(name="tool", value=f"no {tool}", is_good=False) for tool in hello.missing)
        works = any(finding.works for finding in hello.runtimes)
        facts += (
            Fact(
                name=f"runtime {found.name}",
                value=found.said if found.works else f"no: {found.said}",
                is_good=found.works or works,
            )
            for found in hello.runtimes
        )
        facts += (Fact(name="setup", value=line, is_good=False) for line in hello.complaints)
        facts += await self._ask("features", "check", arguments=words)
        if with_job:
            facts += await self._probe(hello.state_dir, words)
        return tuple(facts)

    async def charges(self) -> Sequence[Fact]:
        """Partitions, accounts that may be charged, and limits."""
        return await self._ask("features", "charges")

    async def _probe(self, state_dir: str, options: Sequence[str]) -> list[Fact]:
        head = f"STATE={shlex.quote(state_dir)} REGISTRY={shlex.quote(self.registry or '')}\n"
        tries = "".join(f"try {r.name} {shlex.quote(r.probe)}\n" for r in self.runtimes)
        setup = f". /etc/profile\n{self.setup}\n" if self.setup else ""
        tell = "for ((i = 0; i < ${#lines[@]}; i += 2)); do\n"
        tell += "    [[ ${lines[i+1]} != no:* ]] && good=1 || good=$works\n"
        tell += '    fact "runtime ${lines[i]}" "$good" "${lines[i+1]}"\ndone\n'
        job = setup + head + bash_text("features") + bash_text("node") + tries + tell
        arguments = (str(_PROBE_SECONDS), *options)
        return await self._ask("features", "probe", arguments=arguments, payload=job.encode())

    async def _ask(
        self, *names: str, arguments: Sequence[str] = (), payload: bytes = b""
    ) -> list[Fact]:
        scheduler = self.scheduler.name
        program = compose("common", scheduler, f"{scheduler}-check", *names)
        done = await run_program(
            self.transport,
            program,
            self.state_dir,
            *arguments,
            payload=payload,
            timeout_seconds=_PROBE_SECONDS + 180,
        )
        return _read(done, self.transport.description)


def _read(done: Completed, where: str) -> list[Fact]:
    if done.exit_status != 0:
        raise ClusterError(
            f"{where} could not be asked what it can do", details=readable_lines(done.stderr)
        )
    rows = [line.split("\t") for line in done.stdout.decode("utf-8", "replace").splitlines()]
    return [
        Fact(name=row[1], value=row[3], is_good=row[2] == "1")
        for row in rows
        if len(row) == 4 and row[0] == "fact"
    ]
