"""The tools of one experiment: kept open while it is entered, opened for a moment otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from xmslurm_repro.model.run import Receipt
from xmslurm_repro.ports.record import RunRow
from xmslurm_repro.services.logs import log
from xmslurm_repro.services.observe import refresh, wait
from xmslurm_repro.services.tools import Tools
from xmslurm_repro.xm.faults import ArgumentError
from xmslurm_repro.xm.session import Session, run_apart
from xmslurm_repro.xm.watcher import Watcher, WatcherClosedError

T = TypeVar("T")


class Access:
    """Gives an experiment its tools, from whatever thread or event loop it is asked in."""

    def __init__(self, session: Session) -> None:
        """Open nothing yet."""
        self.session = session
        self._stack = AsyncExitStack()
        self._tools: Tools | None = None
        self._watcher: Watcher | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Open the tools for the event loop that is running."""
        tools = await self._stack.enter_async_context(self.session.open_tools())
        self._loop, self._watcher = asyncio.get_running_loop(), Watcher(tools)
        self._tools = tools

    async def close(self, *, abandon: bool = False) -> None:
        """
        Close every connection. Idempotent; in the event loop that opened them.

        Args:
            abandon: Whether those who still wait for runs are cancelled, because something went
                wrong; otherwise they go on over connections of their own.
        """
        watcher, self._tools, self._watcher = self._watcher, None, None
        if watcher is not None:
            await watcher.close(abandon=abandon)
        await self._stack.aclose()

    @property
    def tools(self) -> Tools | None:
        """The tools while they are open."""
        return self._tools

    def demand(self) -> Tools:
        """
        The tools while they are open.

        Raises:
            ArgumentError: If they are not.
        """
        if self._tools is None:
            raise ArgumentError(
                "the experiment is not entered",
                hint="Add to it in a block: `with create_experiment(…) as experiment:`.",
            )
        return self._tools

    def now(self, body: Callable[[Tools], T]) -> T:
        """Call *body* with the tools and return what it returns; it must use no cluster."""
        if self._tools is not None:
            return body(self._tools)

        async def apart() -> T:
            async with self.session.open_tools() as tools:
                return body(tools)

        return run_apart(apart)

    async def run(self, body: Callable[[Tools], Coroutine[Any, Any, T]]) -> T:
        """Await *body* with the tools, in the event loop that their connections belong to."""
        tools, loop = self._tools, self._loop
        if tools is None or loop is None:
            async with self.session.open_tools() as fresh:
                return await body(fresh)
        if loop is asyncio.get_running_loop():
            return await body(tools)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(body(tools), loop))

    async def wait_for(self, receipt: Receipt) -> RunRow:
        """
        Wait for the end of a run, even beyond the end of the block that it was added in.

        Raises:
            SubmitUnknownError: If it is not known whether it was submitted.
        """
        watcher = self._watcher
        if watcher is not None:
            try:
                return await self.run(lambda _: watcher.wait(receipt))
            except WatcherClosedError:
                pass

        async def alone(tools: Tools) -> RunRow:
            (row,) = await wait(tools, [row_of(tools, receipt)])
            return row

        return await self.run(alone)

    async def look_at(self, receipt: Receipt) -> RunRow:
        """Where a run stands now."""

        async def look(tools: Tools) -> RunRow:
            (row,) = await refresh(tools, [row_of(tools, receipt)])
            return row

        return await self.run(look)

    async def look_at_all(self, receipts: Sequence[Receipt]) -> list[RunRow]:
        """Where runs stand now, by one question."""

        async def look(tools: Tools) -> list[RunRow]:
            return await refresh(tools, [row_of(tools, receipt) for receipt in receipts])

        return await self.run(look)

    async def logs(self, receipt: Receipt, *, follow: bool) -> AsyncIterator[bytes]:
        """What a run's command printed; with *follow* until the run has ended."""
        tools = self._tools
        if tools is not None and self._loop is asyncio.get_running_loop():
            async for chunk in log(tools, row_of(tools, receipt), follow=follow):
                yield chunk
            return
        async with self.session.open_tools() as fresh:
            async for chunk in log(fresh, row_of(fresh, receipt), follow=follow):
                yield chunk

    async def cancel(self, receipt: Receipt) -> None:
        """Cancel a run's job, if it has one and has not ended."""

        async def act(tools: Tools) -> None:
            row = row_of(tools, receipt)
            if row.receipt.job_id is not None and not row.state.is_final:
                await tools.site(receipt.cluster).cluster.cancel([row.receipt.job_id])

        await self.run(act)


def row_of(tools: Tools, receipt: Receipt) -> RunRow:
    """The run as the record has it."""
    return tools.record.run(receipt.run_id)
