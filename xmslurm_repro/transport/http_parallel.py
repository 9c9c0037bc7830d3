"""Several transfers at once, that end together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class TransferAbandonedError(Exception):
    """Another transfer was interrupted, so this one ends too. Never seen outside of `for_each`."""


def for_each(
    job: Callable[[_Item, Callable[[], None]], _Result], items: Sequence[_Item], *, workers: int
) -> list[_Result]:
    """
    Run *job* for every item in threads; return what they return, in the order of *items*.

    An error of one job leaves the others alone; when all have ended, the first one is raised.
    When this thread is interrupted (Ctrl-C), jobs that wait are dropped, and those that run end
    at their next call of their second argument, which every transfer calls for each piece.
    """
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise TransferAbandonedError

    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        futures = [pool.submit(job, item, check) for item in items]
        for future in futures:
            future.exception()
    except BaseException:
        stop.set()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
    return [future.result() for future in futures]
