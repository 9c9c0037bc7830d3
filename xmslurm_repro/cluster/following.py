"""What many runs printed, over one channel, through connections that break."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from xmslurm_repro.cluster.program import compose, stream_program
from xmslurm_repro.cluster.scheduler import Scheduler
from xmslurm_repro.errors import ClusterError, ConnectionLostError
from xmslurm_repro.model.run import RunId
from xmslurm_repro.ports.clock import Clock
from xmslurm_repro.ports.transport import Transport

_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Between attempts to follow on after the connection broke."""


@dataclass(slots=True)
class _Place:
    """How far a run's log was read: the attempt, ``-`` for none yet, and bytes of it."""

    attempt: str = "-"
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """Reads the logs of runs on one cluster."""

    transport: Transport
    scheduler: Scheduler
    clock: Clock
    state_dir: str

    async def follow(
        self, runs: Sequence[RunId], *, attempt: str | None, follow: bool, last_lines: int | None
    ) -> AsyncIterator[tuple[RunId, bytes]]:
        """
        Yield what runs printed, piece by piece; see `ports.cluster.Cluster.follow`.

        Raises:
            ConnectionLostError: If the connection is lost and cannot be made again for half a
                minute; without *follow* at once.
        """
        places = {run_id: _Place() for run_id in runs}
        failures = 0
        while True:
            try:
                async with aclosing(
                    self._frames(places, attempt, last_lines, follow=follow)
                ) as frames:
                    async for run_id, piece in frames:
                        failures = 0
                        yield run_id, piece
            except ConnectionLostError:
                if not follow or failures == len(_PAUSES_SECONDS):
                    raise
                await self.clock.sleep(_PAUSES_SECONDS[failures])
                failures += 1
            else:
                return

    async def _frames(
        self,
        places: dict[RunId, _Place],
        attempt: str | None,
        last_lines: int | None,
        *,
        follow: bool,
    ) -> AsyncGenerator[tuple[RunId, bytes]]:
        asked = "".join(
            f"{run_id.token} {run_id.task} {attempt or '-'} {place.attempt} {place.offset}\n"
            for run_id, place in places.items()
        )
        stream = stream_program(
            self.transport,
            compose("common", self.scheduler.name, "follow"),
            *(
                self.state_dir,
                "1" if follow else "0",
                "" if last_lines is None else str(last_lines),
            ),
            payload=asked.encode(),
        )
        held = b""
        run_id, left = None, 0
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                held += piece
                while held:
                    if not left:
                        line, line_end, rest = held.partition(b"\n")
                        if not line_end:
                            break
                        run_id, left = self._header(line, places)
                        held = rest
                        continue
                    assert run_id is not None  # noqa: S101 (set with what is left)
                    wanted, held = held[:left], held[left:]
                    left -= len(wanted)
                    places[run_id].offset += len(wanted)
                    yield run_id, wanted

    def _header(self, line: bytes, places: dict[RunId, _Place]) -> tuple[RunId, int]:
        words = line.decode("ascii", "replace").split()
        try:
            token, task, attempt, at, count = words
            run_id = RunId(token=token, task=int(task))
            places[run_id] = _Place(attempt=attempt, offset=int(at))
            return run_id, int(count)
        except (ValueError, KeyError) as error:
            raise ClusterError(
                f"logs on {self.transport.description} cannot be read: {line[:200]!r}"
            ) from error
