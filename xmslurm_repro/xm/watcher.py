"""Waiting for many runs at once, with one question to each cluster however many wait."""

from __future__ import annotations

import asyncio

from xmslurm_repro.errors import SubmitUnknownError
from xmslurm_repro.model.run import Receipt, RunId, RunState
from xmslurm_repro.ports.record import RunRow
from xmslurm_repro.services.observe import refresh
from xmslurm_repro.services.tools import Tools

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_LOOKS_BEFORE_LOST = 5


class WatcherClosedError(Exception):
    """The watcher was closed while somebody waited."""


class Watcher:
    """Asks about the runs that somebody waits for, as long as somebody does."""

    def __init__(self, tools: Tools) -> None:
        """Watch with *tools*, in the event loop that is running."""
        self._tools = tools
        self._waiting: dict[RunId, tuple[RunRow, list[asyncio.Future[RunRow]]]] = {}
        self._lost_looks: dict[RunId, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait(self, receipt: Receipt) -> RunRow:
        """
        Wait for the end of a run.

        Raises:
            SubmitUnknownError: If it is not known whether it was submitted.
        """
        row = self._row(receipt)
        if row.state.is_final:
            return row
        if row.receipt.job_id is None:
            raise SubmitUnknownError(
                f"it is not known whether run {receipt.run_id} was submitted",
                hint=f"Run `xmslurm-repro status {receipt.experiment_id}` to find out.",
            )
        future: asyncio.Future[RunRow] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(receipt.run_id, (row, []))[1].append(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        return await future

    async def close(self, *, abandon: bool) -> None:
        """
        Stop asking.

        Args:
            abandon: Whether those who still wait are cancelled; otherwise they get
                `WatcherClosedError`.
        """
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if abandon:
            for _, futures in self._waiting.values():
                for future in futures:
                    future.cancel()
            # Let them take notice while there is an event loop.
            await asyncio.sleep(0)
        self._fail(WatcherClosedError())

    def _row(self, receipt: Receipt) -> RunRow:
        return self._tools.record.run(receipt.run_id)

    async def _watch(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        try:
            while self._waiting:
                if await self._look():
                    pause = _FIRST_PAUSE_SECONDS
                if self._waiting:
                    await self._tools.clock.sleep(pause)
                    pause = min(pause * 1.3, _LONGEST_PAUSE_SECONDS)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        waiting = [future for _, futures in self._waiting.values() for future in futures]
        self._waiting.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # Nobody may be left to take it.

    async def _look(self) -> bool:
        """Ask once; return whether anything changed."""
        before = {run_id: row for run_id, (row, _) in self._waiting.items()}
        now = await refresh(self._tools, list(before.values()))
        for row in now:
            self._take(row)
        return any(before[row.receipt.run_id].state is not row.state for row in now)

    def _take(self, row: RunRow) -> None:
        run_id = row.receipt.run_id
        _, futures = self._waiting[run_id]
        if row.state is RunState.LOST and not self._is_given_up(run_id):
            return
        if row.state is RunState.LOST:
            # A file system may be late in showing an end record, so `refresh` keeps no LOST.
            self._tools.record.set_states([(run_id, row.state, row.reason)])
        if not row.state.is_final:
            self._waiting[run_id] = (row, futures)
            return
        del self._waiting[run_id]
        for future in futures:
            if not future.done():
                future.set_result(row)

    def _is_given_up(self, run_id: RunId) -> bool:
        self._lost_looks[run_id] = self._lost_looks.get(run_id, 0) + 1
        return self._lost_looks[run_id] >= _LOOKS_BEFORE_LOST
