"""
How one value of a configuration file is read.

Each reader raises `KindError` with what was expected, as it would follow the word "expected".
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from xmslurm_repro.model.quantity import parse_memory_mib, parse_time_limit_minutes
from xmslurm_repro.model.work import check_input_name, check_secret_name


class KindError(ValueError):
    """A value is not what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where a value stands.

    Attributes:
        name: The file, or the environment variable, as errors name it.
        folder: What relative paths are relative to.
        home: What ``~`` stands for.
    """

    name: str
    folder: Path
    home: Path


Kind: TypeAlias = Callable[[Any, Place], Any]


def text(value: Any, place: Place) -> str:
    """Read text that is not empty and has no control characters."""
    del place
    if not isinstance(value, str) or not value or not value.isprintable():
        raise KindError("text")
    return value


def any_text(value: Any, place: Place) -> str:
    """Read text, whatever it is, but for NUL, which no process can be given."""
    del place
    if not isinstance(value, str) or "\0" in value:
        raise KindError("text")
    return value


def commands(value: Any, place: Place) -> str:
    """Read bash commands: one text, or an array with a line in each."""
    del place
    lines = value if isinstance(value, list) else [value]
    if not all(isinstance(line, str) and "\0" not in line for line in lines):
        raise KindError("bash commands: text, or an array of lines")
    return "\n".join(lines).strip()


def path(value: Any, place: Place) -> Path:
    """Read a path: ``~`` is the home folder, a relative one starts at the file's folder."""
    try:
        written = text(value, place)
    except KindError:
        raise KindError("a path") from None
    if written == "~" or written.startswith("~/"):
        return place.home / written[2:]
    return place.folder / written


def url(value: Any, place: Place) -> str:
    """Read an ``http`` or ``https`` URL."""
    del place
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/]\S*", value):
        raise KindError("a URL that starts with https:// or http://")
    return value


def integer(low: int, high: int | None = None) -> Kind:
    """A reader of whole numbers from *low* to *high*."""
    span = f"from {low} to {high}" if high is not None else f"of at least {low}"

    def read(value: Any, place: Place) -> int:
        del place
        number = value
        if isinstance(number, bool) or not isinstance(number, int):
            raise KindError(f"a whole number {span}")
        if number < low or (high is not None and number > high):
            raise KindError(f"a whole number {span}")
        return number

    return read


def boolean(value: Any, place: Place) -> bool:
    """Read true or false."""
    del place
    if not isinstance(value, bool):
        raise KindError("true or false")
    return value


def choice(*known: str) -> Kind:
    """A reader of one of a few words."""
    words = ", ".join(f'"{word}"' for word in known[:-1]) + f' or "{known[-1]}"'

    def read(value: Any, place: Place) -> str:
        del place
        if not isinstance(value, str) or value not in known:
            raise KindError(words)
        return value

    return read


def memory(value: Any, place: Place) -> int:
    """Read an amount of memory in MiB."""
    del place
    expected = 'an amount of memory such as "16G", or a number of MiB'
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise KindError(expected)
    try:
        return parse_memory_mib(str(value))
    except ValueError:
        raise KindError(expected) from None


_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


def file_size(value: Any, place: Place) -> int:
    """Read a size in bytes: ``"100MB"`` counts in 1000s, ``"100MiB"`` in 1024s, 0 is no limit."""
    del place
    expected = 'a size such as "100MB", or a number of bytes (0 for no limit)'
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise KindError(expected)
    found = _SIZE.fullmatch(str(value))
    if found is None:
        raise KindError(expected)
    number, unit, binary = found.groups()
    power = " KMGT".index(unit.upper()) if unit else 0
    size: int = int(number) * (1024 if binary else 1000) ** power
    return size


def time_limit(value: Any, place: Place) -> int:
    """Read a time limit in minutes."""
    del place
    expected = 'a time limit such as "1-12:00", or a number of minutes'
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise KindError(expected)
    try:
        return parse_time_limit_minutes(str(value))
    except ValueError:
        raise KindError(expected) from None


def listed(kind: Kind, plural: str, *, lone: bool = False) -> Kind:
    """A reader of arrays of *kind*; with *lone* a single value will do."""

    def read(value: Any, place: Place) -> tuple[Any, ...]:
        items: Sequence[Any] = [value] if lone and not isinstance(value, list) else value
        if not isinstance(items, list):
            raise KindError(f"an array of {plural}")
        try:
            return tuple(kind(item, place) for item in items)
        except KindError as error:
            raise KindError(f"an array of {plural}, each {error}") from None

    return read


def gres(value: Any, place: Place) -> tuple[tuple[str, int], ...]:
    """Read a table of generic resources: how many of each name."""
    count = integer(1)
    if not isinstance(value, Mapping):
        raise KindError("a table of whole numbers")
    try:
        return tuple(sorted((name, count(item, place)) for name, item in value.items()))
    except KindError as error:
        raise KindError(f"a table with {error} for each name") from None


def option(value: Any, place: Place) -> str | None:
    """Read an option's value: ``true`` is a flag (an empty value), ``false`` takes it away."""
    del place
    if isinstance(value, bool):
        return "" if value else None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str) and value.isprintable():
        return value
    raise KindError("text, a whole number, true or false")


_OPTION_NAME = re.compile(r"[a-z][a-z0-9-]*")
_RESOURCE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VARIABLE_NAME = re.compile(r"[^=\0]+")


def option_name(name: str) -> None:
    """Refuse what is no long option's name without dashes."""
    if not _OPTION_NAME.fullmatch(name):
        raise KindError("a long option's name without dashes before it")


def resource_name(name: str) -> None:
    """Refuse what no kind of resource can be called."""
    if not _RESOURCE_NAME.fullmatch(name):
        raise KindError("a name of letters, digits and underscores")


def variable_name(name: str) -> None:
    """Refuse what no environment variable can be called."""
    if not _VARIABLE_NAME.fullmatch(name):
        raise KindError("the name of an environment variable")


def secret_name(name: str) -> None:
    """Refuse what no secret can be called."""
    try:
        check_secret_name(name)
    except ValueError:
        raise KindError("a name of letters, digits and underscores") from None


def input_name(name: str) -> None:
    """Refuse what no input can be called."""
    try:
        check_input_name(name)
    except ValueError:
        raise KindError("a name of letters, digits, dots, dashes and underscores") from None


def cluster_path(value: Any, place: Place) -> str:
    """Read an absolute path on a cluster."""
    written = text(value, place)
    if not written.startswith("/"):
        raise KindError("an absolute path on the cluster")
    return written


def secret(value: Any, place: Place) -> str:
    """Read the name of a secret."""
    name = text(value, place)
    secret_name(name)
    return name


def command(value: Any, place: Place) -> tuple[str, ...]:
    """Read a command: its words, or one text that is parted as a shell does."""
    del place
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError:
        raise KindError("a command") from None
    if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
        raise KindError("a command: text, or an array of words")
    return tuple(words)


def cluster_name(name: str) -> None:
    """Refuse names of clusters that would be hard to type or to print."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise KindError("a name of letters, digits, dots, dashes and underscores")
