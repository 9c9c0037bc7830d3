"""Ending the process, without a wait for Python to be taken apart."""

from __future__ import annotations

import atexit
import os
import sys


def leave(code: object) -> None:
    """
    End the process with the status *code*, or return where only Python itself may do that.

    To take all modules apart takes 15 ms, for nothing: what was opened is closed, and nobody is
    left to see it. Where another thread runs, or code of the user's did (a launch script may
    have left a file open, which only that closes), it is done all the same.
    """
    threading = sys.modules.get("threading")
    has_threads = threading is not None and threading.active_count() > 1
    if has_threads or "xmslurm_repro.xm" in sys.modules or not isinstance(code, int | None):
        return
    try:
        # What was registered to be done at the end, by libraries.
        atexit._run_exitfuncs()  # noqa: SLF001 (there is no other name for it)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BaseException:
        return
    os._exit(code or 0)
