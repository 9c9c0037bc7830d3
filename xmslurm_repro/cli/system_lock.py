"""``base lock``: system packages, pinned in a file of the project."""

from __future__ import annotations

from pathlib import Path

import click

from xmslurm_repro.cli.output import print_fields, print_json
from xmslurm_repro.errors import UsageError
from xmslurm_repro.model.system import SystemLock
from xmslurm_repro.services.prepare import base_reference
from xmslurm_repro.services.system_packages import SystemSources, lock_system
from xmslurm_repro.services.tools import Tools


def write_system_lock(
    tools: Tools,
    packages: tuple[str, ...],
    reference: str | None,
    file: Path,
    sources: SystemSources,
    *,
    as_json: bool,
) -> int:
    """Resolve, write *file*, and say what it holds now."""
    requested = packages or tools.defaults.system_packages
    if not requested:
        raise UsageError(
            "no packages are named",
            hint="Name them, or set `extra_system_packages` in xmslurm-repro.toml.",
        )
    before = SystemLock.parse(file.read_bytes(), str(file)) if file.exists() else SystemLock()
    base = tools.bases.resolve(base_reference(tools, reference), progress=tools.progress)
    locked = lock_system(tools, requested, base, sources)
    try:
        file.write_bytes(before.with_set(locked).render())
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error
    remarks = tools.builder.script_remarks(locked.packages)
    if as_json:
        print_json({"file": str(file), "set": locked.to_json(), "remarks": list(remarks)})
        return 0
    size = sum(package.size_bytes or 0 for package in locked.packages)
    for package in locked.packages:
        click.echo(f"{package.name}={package.version}")
    count = f"{len(locked.packages)}, {size / 1e6:.1f} MB"
    print_fields([("base", str(locked.base)), ("packages", count), ("lock", str(file))])
    for remark in remarks:
        click.echo(f"note: {remark}", err=True)
    return 0
