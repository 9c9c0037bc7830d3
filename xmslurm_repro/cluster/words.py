"""Command lines that bash fills in: literal words and named variables, never joined text."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TypeAlias

_NAME = re.compile(r"[a-z_][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Var:
    """The value of the job's variable *name*, as one word or a part of one."""

    name: str

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable of ours."""
        if not _NAME.match(self.name):
            raise ValueError(f"{self.name!r} is no variable name")


@dataclass(frozen=True, slots=True)
class Words:
    """All elements of the job's array *name*, a word each."""

    name: str

    def __post_init__(self) -> None:
        """Refuse what is no name of a variable of ours."""
        if not _NAME.match(self.name):
            raise ValueError(f"{self.name!r} is no variable name")


@dataclass(frozen=True, slots=True)
class Joined:
    """One word made of several parts, such as ``src=$dir,dst=/out``."""

    parts: tuple[str | Var, ...]


Word: TypeAlias = "str | Var | Words | Joined"


def quote(word: Word) -> str:
    """Write *word* so that bash reads it back exactly."""
    match word:
        case str():
            return shlex.quote(word)
        case Var(name):
            return f'"${{{name}}}"'
        case Words(name):
            return f'"${{{name}[@]}}"'
        case Joined(parts):
            return "".join(quote(part) for part in parts)


def assign_array(name: str, words: tuple[Word, ...], *, indent: str = "") -> str:
    """Write the assignment of *words* to the array *name*, a word to a line."""
    lines = "".join(f"{indent}    {quote(word)}\n" for word in words)
    return f"{indent}{name}=(\n{lines}{indent})\n"
