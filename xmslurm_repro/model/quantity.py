"""Amounts as people write them: memory and time limits. `str` of a parsed amount is not kept."""

from __future__ import annotations

import re

_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_BINARY = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_MIB = 1 << 20


def parse_memory_mib(text: str) -> int:
    """
    Read an amount of memory or disk, such as ``16G``, ``512 MiB`` or ``1.5TB``.

    A lone number is MiB, and ``K M G T P`` count in 1024s, as they do to ``sbatch --mem``
    (sbatch(1)); so do ``KiB`` to ``PiB``. ``KB`` to ``PB`` count in 1000s. Rounded up to a MiB.

    Raises:
        ValueError: If *text* is none of these, or zero.
    """
    match = _MEMORY.fullmatch(text.strip())
    size_bytes = None
    if match is not None:
        unit = match[2].lower() or "m"
        if unit in _BINARY:
            size_bytes = float(match[1]) * 1024 ** _BINARY[unit]
        elif unit[0] in _BINARY and unit[1:] == "ib":
            size_bytes = float(match[1]) * 1024 ** _BINARY[unit[0]]
        elif unit[0] in _BINARY and unit[1:] == "b":
            size_bytes = float(match[1]) * 1000 ** _BINARY[unit[0]]
    if size_bytes is None or size_bytes <= 0:
        raise ValueError(f"{text!r} is no amount of memory such as 16G, 512MiB or 2000 (MiB)")
    return -int(-size_bytes // _MIB)


def parse_time_limit_minutes(text: str) -> int:
    """
    Read a time limit the way ``sbatch --time`` does.

    Six forms are accepted (sbatch(1), ``--time``), from ``minutes`` to
    ``days-hours:minutes:seconds``. A lone number is minutes, not seconds. Seconds are rounded up
    to a minute, which is as fine as Slurm counts.

    Raises:
        ValueError: If *text* has none of the six forms, or is zero: a run without a limit cannot
            be asked for.
    """
    match = re.fullmatch(r"(?:([0-9]+)-)?([0-9]+)(?::([0-9]+))?(?::([0-9]+))?", text.strip())
    seconds = 0
    if match is not None:
        days, *rest = (int(group) if group else None for group in match.groups())
        numbers = [number for number in rest if number is not None]
        if days is not None:
            seconds = days * 86400 + _sum(numbers, (3600, 60, 1))
        elif len(numbers) == 3:
            seconds = _sum(numbers, (3600, 60, 1))
        else:
            seconds = _sum(numbers, (60, 1))
    if seconds <= 0:
        raise ValueError(f"{text!r} is no time limit such as 90 (minutes), 2:30:00 or 1-12:00")
    return -(-seconds // 60)


def _sum(numbers: list[int], weights: tuple[int, ...]) -> int:
    return sum(number * weight for number, weight in zip(numbers, weights, strict=False))
