"""Commands in Markdown, run as they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A command of a ``console`` block, and what the page says that it prints."""

    command: str
    output: tuple[str, ...]
    line: int


def examples(text: str) -> list[Example]:
    """All commands of a page: ``$`` begins one, ``>`` goes on with it, other lines are output."""
    found: list[Example] = []
    is_inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("```"):
            is_inside = line == "```console"
        elif not is_inside:
            continue
        elif line.startswith("$ "):
            found.append(Example(command=line[2:], output=(), line=number))
        elif line == ">" or line.startswith("> "):
            last = found.pop()
            command = f"{last.command}\n{line[2:]}"
            found.append(Example(command=command, output=(), line=last.line))
        else:
            last = found.pop()
            output = (*last.output, line)
            found.append(Example(command=last.command, output=output, line=last.line))
    return found


def matches(expected: tuple[str, ...], actual: str) -> bool:
    """Whether *actual* is what the page says; ``…`` alone stands for any one line or text."""
    pattern = "\n".join(".*".join(re.escape(part) for part in line.split("…")) for line in expected)
    return re.fullmatch(pattern, actual.rstrip("\n")) is not None
