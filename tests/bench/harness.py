"""Contenders measured side by side: interleaved, after a warm-up, with setup outside the timing."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SPAWN = Path(__file__).with_name("spawn.py")

Parts = Mapping[str, float]


class BenchError(Exception):
    """A contender did not do what it was to do: then its time means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """
    A process to be timed from its start to its end.

    Attributes:
        argv: Its words.
        cwd: Where it runs.
        env: Its whole environment.
        has_parts: Whether the last line that it prints is a JSON object of seconds by name.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    has_parts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """
    What one repetition of a contender took.

    Attributes:
        seconds: Wall time.
        peak_rss_kib: Of the largest process among it and its children; ``None`` where it was no
            process of its own.
        cpu_seconds: Of all its processes, in user code and in the kernel; ``None`` as above.
        parts: Seconds of the steps that it consists of, in their order.
    """

    seconds: float
    peak_rss_kib: int | None = None
    cpu_seconds: float | None = None
    parts: Parts = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """
    One way of doing a thing.

    Attributes:
        name: In tables.
        run: What is timed: a process, or a function. A function may return a `Timing` that it
            took itself.
        setup: Called before each repetition, outside the timing.
        after: Called after each repetition, outside the timing; raises `BenchError` if the
            contender did not do what it was to do.
    """

    name: str
    run: Command | Callable[[], Timing | None]
    setup: Callable[[], None] | None = None
    after: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    What came of one contender.

    Attributes:
        ratio: The median, over the repetitions, of its time divided by the reference's time in
            the same repetition. ``None`` where there is no reference.
        cpu_seconds: The median of its time on CPUs, ``None`` where it was not taken.
        cpu_ratio: Like *ratio*, of that.
        parts: The median of each step; one that was not taken took 0.
        samples: Seconds of each repetition.
    """

    name: str
    median_seconds: float
    minimum_seconds: float
    ratio: float | None
    peak_rss_kib: int | None
    parts: Parts
    samples: tuple[float, ...]
    cpu_seconds: float | None = None
    cpu_ratio: float | None = None


def measure(
    contenders: Sequence[Contender],
    *,
    repetitions: int,
    warm_ups: int = 1,
    reference: str | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Row, ...]:
    """
    Let every contender run once in each repetition, each time another one first.

    So what else the machine does meets all of them alike; ratios hold even where the times
    themselves do not.

    Args:
        contenders: With names of their own.
        repetitions: How many are counted; at least one.
        warm_ups: Further repetitions before those, not counted.
        reference: The contender whose time is 1 in the ratios.
        clock: Seconds from any beginning; only functions are timed by it.

    Raises:
        BenchError: If one of them failed.
    """
    names = [contender.name for contender in contenders]
    if len(set(names)) != len(names) or repetitions < 1:
        raise ValueError("contenders need names of their own, and at least one repetition")
    if reference is not None and reference not in names:
        raise ValueError(f"no contender is called {reference!r}")
    timings: dict[str, list[Timing]] = {name: [] for name in names}
    for number in range(-warm_ups, repetitions):
        for contender in _rotated(contenders, number):
            timing = run_once(contender, clock)
            if number >= 0:
                timings[contender.name].append(timing)
    return tuple(
        _row(name, timings[name], timings[reference] if reference else None) for name in names
    )


def _rotated(contenders: Sequence[Contender], number: int) -> Iterator[Contender]:
    first = number % len(contenders)
    yield from contenders[first:]
    yield from contenders[:first]


def run_once(contender: Contender, clock: Callable[[], float] = time.perf_counter) -> Timing:
    """Set up, run, look after; the timing of the middle one."""
    if contender.setup is not None:
        contender.setup()
    if isinstance(contender.run, Command):
        timing = run_command(contender.run, contender.name)
    else:
        begin = clock()
        told = contender.run()
        timing = told or Timing(seconds=clock() - begin)
    if contender.after is not None:
        contender.after()
    return timing


def run_command(command: Command, name: str) -> Timing:
    """
    Run a process to its end.

    Raises:
        BenchError: If it did not end with 0, with the end of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="xmsbench-") as folder:
        report, out = Path(folder, "report"), Path(folder, "out")
        words = [sys.executable, "-I", "-S", os.fspath(SPAWN), os.fspath(report), *command.argv]
        with out.open("wb") as target:
            # Both streams into one file: nobody has to read while the clock runs.
            spawned = subprocess.run(
                words,
                cwd=command.cwd,
                env=dict(command.env),
                stdin=subprocess.DEVNULL,
                stdout=target,
                stderr=subprocess.STDOUT,
                check=False,
            )
        said = out.read_text(errors="replace")
        if spawned.returncode != 0:
            raise BenchError(f"{name}: cannot run {command.argv[0]}:\n{said[-2000:]}")
        seconds, peak, code, cpu = report.read_text().split()
    if code != "0":
        raise BenchError(f"{name}: {command.argv} ended with {code}:\n{said[-2000:]}")
    parts = json.loads(said.splitlines()[-1]) if command.has_parts else {}
    return Timing(
        seconds=float(seconds), peak_rss_kib=int(peak), cpu_seconds=float(cpu), parts=parts
    )


def _row(name: str, timings: Sequence[Timing], reference: Sequence[Timing] | None) -> Row:
    samples = tuple(timing.seconds for timing in timings)
    peaks = [timing.peak_rss_kib for timing in timings if timing.peak_rss_kib is not None]
    ratio = cpu_ratio = None
    if reference is not None:
        pairs = list(zip(timings, reference, strict=True))
        ratio = statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)
        cpu_ratios = [
            ours.cpu_seconds / theirs.cpu_seconds
            for ours, theirs in pairs
            if ours.cpu_seconds is not None and theirs.cpu_seconds
        ]
        cpu_ratio = statistics.median(cpu_ratios) if cpu_ratios else None
    cpu = [timing.cpu_seconds for timing in timings if timing.cpu_seconds is not None]
    return Row(
        name=name,
        median_seconds=statistics.median(samples),
        minimum_seconds=min(samples),
        ratio=ratio,
        peak_rss_kib=max(peaks) if peaks else None,
        parts={
            part: statistics.median(timing.parts.get(part, 0.0) for timing in timings)
            for part in dict.fromkeys(part for timing in timings for part in timing.parts)
        },
        samples=samples,
        cpu_seconds=statistics.median(cpu) if cpu else None,
        cpu_ratio=cpu_ratio,
    )
