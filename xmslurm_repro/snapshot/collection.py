"""Python's garbage collector, where there is no garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """
    Let the garbage collector rest: a quarter of the time would go into looking for cycles among
    hundreds of thousands of tuples, which have none.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
