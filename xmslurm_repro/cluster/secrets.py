"""Values of secrets on their way to a cluster, and their end there."""

from __future__ import annotations

from collections.abc import Sequence

from xmslurm_repro.cluster.program import compose, readable_lines, run_program
from xmslurm_repro.cluster.scheduler import JOB_NAME_PREFIX, Scheduler
from xmslurm_repro.errors import ClusterError, ConnectionLostError
from xmslurm_repro.ports.transport import Transport


async def send_secrets(
    transport: Transport,
    scheduler: Scheduler,
    state_dir: str,
    token: str,
    values: Sequence[tuple[str, str]],
) -> None:
    """
    Have *values* in a file that only this user can read, before the job is submitted.

    Sending again is safe. Nothing is left of a submission that has arrived already.

    Raises:
        ConnectionLostError: Nothing was submitted.
        ClusterError: If they cannot be kept there.
    """
    fields = [*(f"{name}={value}" for name, value in values), "."]
    try:
        done = await run_program(
            transport,
            compose("common", scheduler.name, "secrets"),
            *(state_dir, token, JOB_NAME_PREFIX),
            payload=b"".join(field.encode("utf-8", "surrogateescape") + b"\0" for field in fields),
        )
    except ConnectionLostError as error:
        raise ConnectionLostError(
            error.message, may_have_run=False, hint=error.hint, details=error.details
        ) from error
    if done.exit_status != 0:
        raise ClusterError(
            f"the job's secrets cannot be kept on {transport.description}",
            details=readable_lines(done.stderr),
        )


async def forget_secrets(transport: Transport, state_dir: str, tokens: Sequence[str]) -> None:
    """Remove what was sent for submissions of which nothing goes on any more."""
    await run_program(
        transport,
        compose("common", "forget"),
        state_dir,
        payload="".join(f"{token}\n" for token in tokens).encode(),
    )
