"""
The command line, in a process that is killed at a step of its own choosing.

    python -m tests.support.dying before:cluster.submit launch -- python3 main.py

The step is ``before`` or ``after`` a method of the record or of the cluster.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

STEPS = (
    "before:cluster.deliver",
    "after:cluster.deliver",
    "before:record.promise",
    "after:record.promise",
    "before:cluster.submit",
    "after:cluster.submit",
    "before:record.confirm",
    "after:record.confirm",
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Dying:
    """Passes everything on to *inner*, and dies at *method*."""

    def __init__(self, inner: object, when: str, method: str) -> None:
        self._inner, self._when, self._method = inner, when, method

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        if name != self._method:
            return found
        if inspect.iscoroutinefunction(found):

            async def later(*args: object, **named: object) -> object:
                if self._when == "before":
                    die()
                result = await found(*args, **named)
                die()
                return result

            return later

        def now(*args: object, **named: object) -> object:
            if self._when == "before":
                die()
            result = found(*args, **named)
            die()
            return result

        return now


def main() -> None:
    step = sys.argv.pop(1)
    when, _, place = step.partition(":")
    part, _, method = place.partition(".")
    from xmslurm_repro import wiring
    from xmslurm_repro.cli import main as run_command_line

    real = wiring.open_tools

    @asynccontextmanager
    async def dying_tools(*args, **named):
        async with real(*args, **named) as tools:
            if part == "record":
                yield replace(tools, record=Dying(tools.record, when, method))
                return

            def site(name):
                found = tools.site(name)
                return replace(found, cluster=Dying(found.cluster, when, method))

            yield replace(tools, site=site)

    wiring.open_tools = dying_tools
    run_command_line()


if __name__ == "__main__":
    main()
