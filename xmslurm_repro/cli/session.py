"""What every command needs: the settings, the tools, and one event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TypeVar, cast

from xmslurm_repro.cli.errors import echo_error, wants_json
from xmslurm_repro.ports.progress import Progress, SilentProgress
from xmslurm_repro.services.tools import Tools

if TYPE_CHECKING:
    from xmslurm_repro.config import Settings

T = TypeVar("T")


def run(body: Callable[[Tools], Awaitable[T]], *, is_quiet: bool = False) -> T:
    """
    Make the tools, run *body* with them in an event loop, and let go of every connection.

    Args:
        body: The command.
        is_quiet: Show no progress, as when JSON was asked for.
    """
    from xmslurm_repro.config import load_settings

    settings = load_settings(environ=os.environ, start=Path(os.curdir).absolute())
    return open_session(settings, body, is_quiet=is_quiet)


def open_session(
    settings: Settings, body: Callable[[Tools], Awaitable[T]], *, is_quiet: bool = False
) -> T:
    """As `run`, with settings that are there already."""
    from xmslurm_repro.wiring import open_tools

    progress = _progress(is_quiet=is_quiet or wants_json())

    # asyncio's own handler waits for the next await, and packing code or fetching packages is one
    # long step without any. With a handler in place asyncio leaves it alone.
    signal.signal(signal.SIGINT, _interrupt)

    async def with_tools() -> T:
        ask = _ask if sys.stdin.isatty() and sys.stderr.isatty() else None
        async with open_tools(settings, progress, ask=ask) as tools:
            return await body(tools)

    try:
        return asyncio.run(with_tools())
    except KeyboardInterrupt as error:
        _interrupted(error)
        raise


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


_watched: list[str] = []
"""What is watched just now. An interruption ends every task before it comes to light."""


@contextmanager
def while_watching(name: str | None) -> Iterator[None]:
    """
    While runs are only watched, an interruption ends the watching, and says that they go on.

    Args:
        name: What is watched, as people type it; ``None`` for nothing that goes on by itself.
    """
    if name is not None:
        _watched.append(name)
    yield
    _watched.clear()


def _interrupted(error: KeyboardInterrupt) -> None:
    for name in _watched:
        error.add_note(f"The runs of {name} go on.")
        error.add_note(f"  xmslurm-repro status {name}     where they stand")
        error.add_note(f"  xmslurm-repro logs {name} -f    what they print")
        error.add_note(f"  xmslurm-repro wait {name}       wait for their end")
        error.add_note(f"  xmslurm-repro cancel {name}     end them")
    _watched.clear()


async def beside(tools: Tools, cluster: str | None, work: Callable[[], T]) -> T:
    """
    Do *work* in a thread while a connection to *cluster* is opened.

    A person is asked what the host wants to know when the work is done: it may come to nothing,
    and its progress is drawn where the question would stand.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(outcome: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(T, outcome))

    def run_it() -> None:
        outcome, error = None, None
        try:
            outcome = work()
        except BaseException as caught:
            error = caught
        with suppress(RuntimeError):  # the loop is closed after an interruption
            loop.call_soon_threadsafe(settle, outcome, error)

    site = tools.site(cluster)
    _may_ask.clear()
    # Not one of asyncio's: those are waited for at the end, also after an interruption.
    threading.Thread(target=run_it, daemon=True).start()
    try:
        site.cluster.warm_up()
        return await done
    finally:
        _may_ask.set()


_may_ask = threading.Event()
_may_ask.set()


async def _ask(text: str, *, is_secret: bool) -> str | None:
    """Ask the person at the terminal what a host wants to know."""
    import click

    def prompt() -> str | None:
        _may_ask.wait()
        try:
            return str(
                click.prompt(
                    text.rstrip(": "),
                    hide_input=is_secret,
                    default="",
                    show_default=False,
                    err=True,
                )
            )
        except click.Abort:
            return None

    return await asyncio.to_thread(prompt)


def _progress(*, is_quiet: bool) -> Progress:
    if is_quiet or not sys.stderr.isatty():
        return SilentProgress()
    from xmslurm_repro.cli.progress import TerminalProgress

    return TerminalProgress()


async def settle_first(tools: Tools, *, experiment_id: int | None = None) -> None:
    """Finish what an earlier command could not confirm; say what stands in the way."""
    from xmslurm_repro.services.submit import settle

    for error in await settle(tools, experiment_id=experiment_id):
        echo_error(error, label="warning")
