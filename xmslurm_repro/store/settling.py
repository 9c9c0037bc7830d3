"""Writing to disk while something else goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from xmslurm_repro.errors import ReproError


class Settling:
    """Calls *settle* in a thread, at once. The process does not wait for it when it ends."""

    def __init__(self, settle: Callable[[], object]) -> None:
        self._settle = settle
        self._error: ReproError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """
        Return when it is done.

        Raises:
            ReproError: What *settle* raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._settle()
        except ReproError as error:
            self._error = error
