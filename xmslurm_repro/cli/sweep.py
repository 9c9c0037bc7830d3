"""Sweeps: from ``--sweep lr=0.1,0.2`` and files of trials to one command for each unit."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmslurm_repro.errors import UsageError

if TYPE_CHECKING:
    from xmslurm_repro.services.launch import Trial

_NUMBERS = {"parse_int": str, "parse_float": str, "parse_constant": str}
"""Numbers stay as they were written: 1e-3 is not 0.001 to every program."""


def read_sweep(argv: Sequence[str], axes: Sequence[str], file: Path | None) -> tuple[Trial, ...]:
    """
    Every unit of a sweep, in order: the trials of *file*, each with all combinations of *axes*.

    Args:
        argv: The command. ``{name}`` in it stands for a value; what stands nowhere follows as
            ``--name=value``.
        axes: As ``name=value,value``; the last one changes fastest.
        file: JSON lines: an object of names and values, an object of ``args`` and ``env_vars`` as
            XManager has them, or a list of words.

    Returns:
        Nothing if no sweep was asked for.

    Raises:
        UsageError: If an axis or a line is not of its form.
    """
    if not axes and file is None:
        return ()
    pairs = [_axis(text) for text in axes]
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise UsageError(f"an argument is swept twice: {', '.join(names)}")
    lines = _read_lines(file) if file is not None else [({}, (), {})]
    return tuple(
        _trial(argv, {**named, **dict(zip(names, values, strict=True))}, words, env)
        for named, words, env in lines
        for values in itertools.product(*(values for _, values in pairs))
    )


def _axis(text: str) -> tuple[str, list[str]]:
    name, equals, values = text.partition("=")
    name = name.lstrip("-")
    if not name or not equals:
        raise UsageError(f"{text!r} is no sweep", hint="Write it like `--sweep lr=0.1,0.2`.")
    return name, values.split(",")


_Line = tuple[Mapping[str, Any], tuple[str, ...], Mapping[str, str]]
"""Arguments by name, words, variables."""


def _read_lines(file: Path) -> list[_Line]:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the sweep {file} cannot be read: {error}") from error
    # Not splitlines(): JSON may hold other line separators as they are.
    lines = [
        _read_line(line, f"{file}, line {number}")
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not lines:
        raise UsageError(f"the sweep {file} has no lines")
    return lines


def _read_line(line: str, where: str) -> _Line:
    try:
        found = json.loads(line, **_NUMBERS)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(f"{where} is no JSON: {error}") from error
    env: dict[str, str] = {}
    if isinstance(found, dict) and found and set(found) <= {"args", "env_vars"}:
        variables = found.get("env_vars", {})
        if not isinstance(variables, dict):
            raise UsageError(f"{where}: env_vars is no object")
        env = {name: _text(value, where) for name, value in variables.items()}
        found = found.get("args", {})
    if isinstance(found, list):
        return {}, tuple(_text(word, where) for word in found), env
    if isinstance(found, dict):
        return found, (), env
    raise UsageError(f"{where} is neither an object nor a list")


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str):
        raise UsageError(f"{where}: {json.dumps(value)} is neither text nor a number")
    return value


def _trial(
    argv: Sequence[str], named: Mapping[str, Any], words: Sequence[str], env: Mapping[str, str]
) -> Trial:
    from xmslurm_repro.services.launch import Trial

    used: set[str] = set()

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        if name not in named:
            return found[0]
        used.add(name)
        return _text(named[name], f"argument {name}")

    # Once over each word: what a value holds stays as it is.
    command = [re.sub(r"\{([^{}]+)\}", fill, word) for word in argv]
    for name, value in named.items():
        if name not in used:
            command += _flags(name, value)
    return Trial(argv=(*command, *words), env=tuple(sorted(env.items())))


def _flags(name: str, value: Any) -> list[str]:
    """As XManager writes them."""
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no{name}"]
    if isinstance(value, list):
        return [flag for item in value for flag in _flags(name, item)]
    return [f"--{name}={_text(value, f'argument {name}')}"]
