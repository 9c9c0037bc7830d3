"""
Measure ourselves beside others, in one run: ``python -m tests.bench``.

What each figure means stands in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import report, snapshot
from tests.bench.bench import Bench
from tests.bench.harness import BenchError

PARTS = ("startup", "snapshot", "image", "engines", "turnaround", "submitting")


def main() -> int:
    asked = _arguments()
    began_at, tables = report.now(), []
    with _folder(asked.folder) as folder:
        bench = Bench(
            folder=folder,
            repetitions=asked.repetitions,
            sizes=tuple(asked.sizes),
            scenarios=tuple(asked.scenarios),
        )
        for part in asked.parts or PARTS:
            module = importlib.import_module(f"tests.bench.{part}")
            for table in module.run(bench):
                tables.append(table)
                print(report.render(table), flush=True)
    if asked.json:
        made = report.document(tables, repetitions=asked.repetitions, began_at=began_at)
        report.write(asked.json, made)
    return 0 if all(table.holds for table in tables) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    # choices= would refuse "none given" (https://github.com/python/cpython/issues/53780).
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there too")
    parser.add_argument(
        "--folder", type=Path, help="work here and leave it for the next time; else a fresh one"
    )
    sizes = {"nargs": "*", "default": [], "choices": snapshot.SIZES}
    parser.add_argument("--sizes", help="which work trees to take snapshots of; all", **sizes)
    scenarios = {"nargs": "*", "default": [], "choices": snapshot.SCENARIOS}
    parser.add_argument("--scenarios", help="what to take snapshots after; all", **scenarios)
    asked = parser.parse_args()
    unknown = sorted(set(asked.parts) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    if asked.repetitions < 1:
        parser.error("--repetitions has to be at least 1")
    return asked


@contextmanager
def _folder(asked: Path | None) -> Iterator[Path]:
    if asked is not None:
        asked.mkdir(parents=True, exist_ok=True)
        yield asked.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="xmsbench-") as fresh:
        yield Path(fresh)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BenchError, PermissionError, FileNotFoundError) as error:
        # The last two: what the test bed says of a missing program, or when it is not root.
        sys.exit(f"error: {error}")
