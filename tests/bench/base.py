"""A base image, made once for each folder of the bench."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.disk import link_copy, need, remove
from tests.bench.harness import BenchError


def copy_home(bench: Bench, target: Path) -> None:
    """Let *target* be a data folder of ours that holds a base image, and nothing else."""
    remove(target)
    link_copy(home_with_base(bench), target)


def home_with_base(bench: Bench) -> Path:
    """
    A data folder of ours that holds a base image called ``default``. Not to be written to.

    Raises:
        BenchError: If it cannot be made.
    """
    home = bench.folder / "base"
    if home.exists():
        return home
    need("mmdebstrap")
    bench.log("making a base image …")
    fresh = home.with_suffix(".fresh")
    remove(fresh)
    done = subprocess.run(
        [bench.ours, "base", "create"],
        env={**bench.env("base"), "XMSLURM_REPRO_HOME": os.fspath(fresh)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"cannot make a base image:\n{done.stderr[-2000:]}")
    fresh.rename(home)
    return home
