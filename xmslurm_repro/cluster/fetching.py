"""Outputs of many attempts, over one channel."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from xmslurm_repro.cluster.program import compose, readable_lines, run_program, stream_program
from xmslurm_repro.cluster.records import OutputRecord, read_outputs
from xmslurm_repro.errors import ClusterError, NotFoundError
from xmslurm_repro.model.run import RunId
from xmslurm_repro.ports.cluster import WantedFile
from xmslurm_repro.ports.transport import Transport

_Attempt = tuple[RunId, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """Reads output files on one cluster."""

    transport: Transport
    state_dir: str

    async def fetch(self, wanted: Sequence[WantedFile]) -> AsyncIterator[tuple[WantedFile, bytes]]:
        """
        Yield each file from its offset on, piece by piece, at least one piece for each, in order.

        Raises:
            NotFoundError: If an attempt left no such file, or it is there no more.
        """
        if not wanted:
            return
        lists = await self._lists(list(dict.fromkeys((w.run_id, w.attempt) for w in wanted)))
        lines = [_line(file, _record(file, lists)) for file in wanted]
        stream = stream_program(
            self.transport,
            compose("common", "fetch-many"),
            self.state_dir,
            payload="".join(lines).encode("ascii"),
        )
        async with aclosing(stream) as pieces:
            async for number, piece in _frames(pieces, wanted):
                yield wanted[number], piece

    async def _lists(
        self, attempts: Sequence[_Attempt]
    ) -> Mapping[_Attempt, Mapping[str, OutputRecord]]:
        done = await run_program(
            self.transport,
            compose("common", "outputs-many"),
            self.state_dir,
            payload="".join(f"{r.token} {r.task} {name}\n" for r, name in attempts).encode(),
            timeout_seconds=600,
        )
        if done.exit_status != 0:
            raise ClusterError(
                f"the records on {self.transport.description} cannot be read",
                details=readable_lines(done.stderr),
            )
        found = {}
        for attempt, listed in zip(attempts, _sections(done.stdout), strict=True):
            where = f"attempt {attempt[1]} of run {attempt[0]}"
            if listed is None:
                raise NotFoundError(f"{where} left no list of outputs")
            found[attempt] = {record.path: record for record in read_outputs(listed, where)}
        return found


def _record(file: WantedFile, lists: Mapping[_Attempt, Mapping[str, OutputRecord]]) -> OutputRecord:
    try:
        return lists[file.run_id, file.attempt][file.path]
    except KeyError:
        raise NotFoundError(
            f"attempt {file.attempt} of run {file.run_id} left no output {file.path}"
        ) from None


def _line(file: WantedFile, record: OutputRecord) -> str:
    path = "".join(f"\\0{byte:03o}" for byte in record.raw_path)
    where = f"{file.run_id.token} {file.run_id.task} {file.attempt}"
    return f"{where} {record.kind} {file.offset} {path}\n"


def _sections(output: bytes) -> Iterator[bytes | None]:
    while output:
        header, _, output = output.partition(b"\n")
        name, _, length = header.partition(b" ")
        size = int(length)
        yield output[:size] if name == b"list" else None
        output = output[size:]


async def _frames(
    pieces: AsyncGenerator[bytes], wanted: Sequence[WantedFile]
) -> AsyncIterator[tuple[int, bytes]]:
    held, number, left = b"", -1, 0
    async for piece in pieces:
        held += piece
        while held:
            if left:
                part, held = held[:left], held[left:]
                left -= len(part)
                yield number, part
                continue
            line, line_end, rest = held.partition(b"\n")
            if not line_end:
                break
            held, number = rest, number + 1
            if not line.isdigit():
                file = wanted[number]
                raise NotFoundError(
                    f"the output {file.path} of run {file.run_id} is not on the cluster any more",
                    hint="Replay the run to have it again.",
                )
            left = int(line)
            if not left:
                yield number, b""
