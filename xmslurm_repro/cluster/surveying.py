"""What inputs on a cluster are."""

from __future__ import annotations

from collections.abc import Sequence

from xmslurm_repro.cluster.program import compose, readable_lines, run_program
from xmslurm_repro.errors import ClusterError, InputError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.work import Input, InputKind
from xmslurm_repro.ports.transport import Transport


async def survey_inputs(
    transport: Transport, state_dir: str, paths: Sequence[tuple[str, str]]
) -> tuple[Input, ...]:
    """
    Name what is at *paths* by its content, sorted by name.

    Raises:
        InputError: Naming all that cannot be an input.
    """
    ordered = sorted(paths)
    faults = [
        f"{name}: {path!r} is no absolute path"
        for name, path in ordered
        if not path.startswith("/") or not path.isprintable()
    ]
    if faults:
        raise _error(faults)
    done = await run_program(
        transport,
        compose("common", "listing", "inputs", "survey"),
        state_dir,
        payload="".join(f"{path}\0" for _, path in ordered).encode(),
        timeout_seconds=None,
    )
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    if done.exit_status != 0 or len(lines) != len(ordered):
        raise ClusterError(
            f"the inputs on {transport.description} cannot be looked at",
            details=readable_lines(done.stderr),
        )
    found = []
    for (name, _), line in zip(ordered, lines, strict=True):
        word, _, said = line.partition(" ")
        kind, _, digits = said.partition(" ")
        if word == "ok":
            found.append(Input(name=name, kind=InputKind(kind), digest=Digest.sha256(digits)))
        else:
            faults.append(f"{name}: {said}")
    if faults:
        raise _error(faults)
    return tuple(found)


def _error(faults: Sequence[str]) -> InputError:
    names = ", ".join(fault.partition(":")[0] for fault in faults)
    return InputError(f"these inputs cannot be had: {names}", details=faults)
