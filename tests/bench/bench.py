"""What every part of the bench is given."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.trees import clean_environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """
    One run of the bench.

    Attributes:
        folder: For whatever is made.
        repetitions: How many are counted.
        sizes: Of the work trees to take snapshots of; none for all.
        scenarios: What to take snapshots after; none for all.
    """

    folder: Path
    repetitions: int
    sizes: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()

    @property
    def ours(self) -> str:
        """The command line, as it is installed beside the Python that runs this."""
        return os.fspath(Path(sys.executable).parent / "xmslurm-repro")

    def program(self, name: str) -> tuple[str, str]:
        """The first words of a program of the bench."""
        return sys.executable, os.fspath(Path(__file__).parent / "programs" / name)

    def env(self, name: str) -> dict[str, str]:
        """An environment with an empty home of that name."""
        return clean_environment(self.folder / "homes" / name)

    def log(self, text: str) -> None:
        """Say what goes on, on standard error."""
        print(text, file=sys.stderr, flush=True)
