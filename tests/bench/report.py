"""What was measured, as plain tables and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.harness import Row
from xmslurm_repro.model.canonical import Json, readable_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """
    Something counted, not timed.

    Attributes:
        is_promise: Whether the project promises it.
        holds: Whether it was so. A run in which a promise does not hold ends with 1.
    """

    name: str
    value: str
    is_promise: bool = False
    holds: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """
    One comparison.

    Attributes:
        note: What a reader has to know to read it.
    """

    title: str
    rows: tuple[Row, ...] = ()
    facts: tuple[Fact, ...] = ()
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether every promise in it held."""
        return all(fact.holds for fact in self.facts)


def render(table: Table) -> str:
    """Write a table as text, its columns under each other."""
    lines = [table.title, *([table.note] if table.note else [])]
    if table.rows:
        cells = [
            ("", "median", "minimum", "ratio", "CPU", "ratio", "peak RSS"),
            *map(_cells, table.rows),
        ]
        head, *body = _aligned(cells)
        lines.append(f"  {head}")
        for text, row in zip(body, table.rows, strict=True):
            lines.append(f"  {text}".rstrip())
            lines += [f"      {_seconds(took)}  {part}" for part, took in row.parts.items()]
    width = max((len(fact.name) for fact in table.facts), default=0)
    for fact in table.facts:
        verdict = "" if not fact.is_promise else "  (as promised)" if fact.holds else "  (BROKEN)"
        lines.append(f"  {fact.name.ljust(width)}  {fact.value}{verdict}")
    return "\n".join(lines) + "\n"


def document(tables: Iterable[Table], *, repetitions: int, began_at: datetime) -> Json:
    """Write what was measured, and on what, as JSON."""
    return {
        "began_at": began_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "repetitions": repetitions,
        "machine": machine(),
        "tables": [_table_json(table) for table in tables],
    }


def write(path: Path, value: Json) -> None:
    """Write JSON to a file."""
    path.write_text(readable_json(value) + "\n")


def machine() -> dict[str, Json]:
    """What this was measured on; nothing that names the machine."""
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


def say_bytes(count: float) -> str:
    """A number of bytes in decimal units."""
    for unit in ("bytes", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def _cells(row: Row) -> tuple[str, ...]:
    peak = "" if row.peak_rss_kib is None else f"{row.peak_rss_kib / 1024:.0f} MiB"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    cpu = "" if row.cpu_seconds is None else _seconds(row.cpu_seconds)
    cpu_ratio = "" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}"
    times = _seconds(row.median_seconds), _seconds(row.minimum_seconds)
    return (row.name, *times, ratio, cpu, cpu_ratio, peak)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s"


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells
    ]


def _table_json(table: Table) -> Json:
    return {
        "title": table.title,
        "note": table.note,
        "rows": [
            {
                "name": row.name,
                "median_seconds": row.median_seconds,
                "minimum_seconds": row.minimum_seconds,
                "ratio": row.ratio,
                "cpu_seconds": row.cpu_seconds,
                "cpu_ratio": row.cpu_ratio,
                "peak_rss_kib": row.peak_rss_kib,
                "parts": dict(row.parts),
                "samples": list(row.samples),
            }
            for row in table.rows
        ],
        "facts": [
            {
                "name": fact.name,
                "value": fact.value,
                "is_promise": fact.is_promise,
                "holds": fact.holds,
            }
            for fact in table.facts
        ],
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
