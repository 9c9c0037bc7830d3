"""The console of launch scripts: plain text, because `rich` belongs to the command line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from xmslurm_repro.errors import NotSupportedError

# Tags as Rich's manual has them ("Console Markup"): [bold], [/], [bold red on white], [link=…].
_TAG = re.compile(r"(\\*)\[([a-z#/@][^\[\]]*)\]")


class Verbatim(str):
    """Text whose square brackets are what a program printed, and no markup."""

    __slots__ = ()


class Console:
    """Prints text without its markup."""

    def print(self, *objects: object, sep: str = " ", end: str = "\n", **style: object) -> None:
        """Write *objects* to standard output; *style* is without effect."""
        del style
        sys.stdout.write(sep.join(_plain(each) for each in objects) + end)

    def log(self, *objects: object, sep: str = " ", end: str = "\n", **style: object) -> None:
        """Write *objects* to standard error; *style* is without effect."""
        del style
        sys.stderr.write(sep.join(_plain(each) for each in objects) + end)

    def rule(self, title: str = "", **style: object) -> None:
        """Write a line with *title* on it."""
        del style
        sys.stdout.write(f"--- {_plain(title)} ---\n" if title else "---\n")

    @contextmanager
    def status(self, status: object, **style: object) -> Iterator[Console]:
        """Say what is being done."""
        del style
        self.log(status)
        yield self

    def __getattr__(self, name: str) -> NoReturn:
        """
        Refuse what a `rich.console.Console` has beyond this.

        Raises:
            NotSupportedError: Unless it is a name of Python's own, which is just not there.
        """
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotSupportedError(
            f"the console prints plain text and has no {name}",
            hint="Make a rich.console.Console of your own.",
        )


def _plain(value: Any) -> str:
    if not isinstance(value, str) or isinstance(value, Verbatim):
        return str(value)
    return _TAG.sub(lambda tag: f"[{tag[2]}]" if len(tag[1]) % 2 else "", value)


console = Console()
"""The one that launch scripts share."""
