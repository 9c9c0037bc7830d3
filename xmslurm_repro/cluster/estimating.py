"""When a job would start, as its scheduler expects it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from xmslurm_repro.cluster.program import compose, readable_lines, run_program
from xmslurm_repro.cluster.scheduler import Scheduler
from xmslurm_repro.cluster.submitting import read_sections
from xmslurm_repro.errors import ClusterError, SubmitRefusedError
from xmslurm_repro.ports.cluster import Estimate
from xmslurm_repro.ports.transport import Transport

_REFUSED = 1
"""How sbatch ends when it says no."""

# sbatch.c: "Job %u to start at %s using %u processors on nodes %s in partition %s".
_START = re.compile(
    r"to start at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d) using (\d+) processors on (?:nodes )?(\S+)"
    r"(?: in partition (\S+))?"
)


async def estimate_start(
    transport: Transport, scheduler: Scheduler, state_dir: str, directives: Sequence[str]
) -> Estimate:
    """
    Ask for the start of a job with *directives*.

    Raises:
        SubmitRefusedError: If it would never start.
        ClusterError: If the scheduler did not say.
    """
    script = "".join(("#!/bin/bash\n", *(f"{line}\n" for line in directives), "true\n"))
    done = await run_program(
        transport,
        compose("common", scheduler.name, "estimate"),
        state_dir,
        payload=script.encode("utf-8"),
    )
    sections, _ = read_sections(done.stdout)
    said = sections.get("said", b"")
    words = readable_lines(said) + readable_lines(done.stderr)
    if done.exit_status == _REFUSED:
        raise SubmitRefusedError(
            f"{scheduler.name} would refuse the job on {transport.description}", details=words
        )
    if done.exit_status != 0 or "now" not in sections:
        raise ClusterError(
            f"{scheduler.name} on {transport.description} does not say when the job would start",
            details=words,
        )
    return read_estimate(said.decode("utf-8", "replace"), int(sections["now"]))


def read_estimate(said: str, now: int) -> Estimate:
    """
    Read what the scheduler said, in UTC, at *now* by the clock of its login node.

    Raises:
        ClusterError: If it says no time.
    """
    if said.strip() == "now":
        return Estimate(starts_in_seconds=0)
    found = _START.search(said)
    if not found:
        raise ClusterError(
            "the scheduler does not say when the job would start",
            details=readable_lines(said.encode()),
        )
    start = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    return Estimate(
        starts_in_seconds=max(0, int(start.timestamp()) - now), nodes=found[3], partition=found[4]
    )
