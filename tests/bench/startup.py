"""How long one waits before anything happens."""

from __future__ import annotations

import sys

from tests.bench.bench import Bench
from tests.bench.harness import Command, Contender, measure
from tests.bench.report import Table


def run(bench: Bench) -> list[Table]:
    """Measure the start of the interpreter, of the command line and of the XManager adapter."""
    env = bench.env("startup")
    words = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "xmslurm-repro --version": (bench.ours, "--version"),
        "xmslurm-repro --help": (bench.ours, "--help"),
        "xmslurm-repro list, empty store": (bench.ours, "list"),
        "import xmanager.xm": (sys.executable, "-c", "import xmanager.xm"),
        "import xmslurm_repro.xm": (sys.executable, "-c", "import xmslurm_repro.xm"),
    }
    contenders = [
        Contender(name=name, run=Command(argv=argv, cwd=bench.folder, env=env))
        for name, argv in words.items()
    ]
    rows = measure(contenders, repetitions=bench.repetitions, reference="python -c pass")
    note = "Goal: --help under 0.15 s."
    return [Table(title="Start-up", rows=rows, note=note)]
