"""HTTP: several transfers at once end together."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from tests.support.loopback import Reply, serve
from tests.support.wheels import artifact
from xmslurm_repro.lock.fetch import fetch_artifacts
from xmslurm_repro.store.memory_blobs import MemoryBlobStore
from xmslurm_repro.transport.http import Http
from xmslurm_repro.transport.http_parallel import for_each


def test_results_come_in_the_order_of_the_items() -> None:
    def job(number: int, check) -> int:
        check()
        time.sleep(0.02 * (number % 3))
        return number * 2

    assert [0, 2, 4, 6, 8, 10] == for_each(job, range(6), workers=3)
    assert [] == for_each(job, [], workers=3)


def test_a_failure_leaves_the_others_alone_and_the_first_is_raised() -> None:
    done = []

    def job(number: int, check) -> None:
        check()
        if number in {1, 3}:
            raise ValueError(f"job {number}")
        done.append(number)

    with pytest.raises(ValueError, match="job 1"):
        for_each(job, range(6), workers=2)
    assert [0, 2, 4, 5] == sorted(done)


def interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


class Items(list[int]):
    """Ten items; says when the last one was taken."""

    def __init__(self, taken: threading.Event) -> None:
        super().__init__(range(10))
        self.taken = taken

    def __iter__(self):
        yield from super().__iter__()
        self.taken.set()


def test_an_interrupt_ends_what_runs_and_drops_what_waits() -> None:
    started, ended = [], []
    submitted = threading.Event()

    def job(number: int, check) -> None:
        started.append(number)
        if number == 1:
            submitted.wait(10)
            time.sleep(0.05)
            interrupt()
        try:
            for _ in range(1000):
                check()
                time.sleep(0.01)
        finally:
            ended.append(number)

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        for_each(job, Items(submitted), workers=2)
    assert time.monotonic() - begun < 5
    assert [0, 1] == sorted(started) == sorted(ended)


def test_an_interrupted_fetch_ends_at_once_and_keeps_nothing_by_halves() -> None:
    """A server that sends for ever: without the interrupt this test would not end."""
    data = b"x" * 50_000_000
    blobs = MemoryBlobStore()

    class Interrupting:
        def start(self, label: str, *, total: int | None = None, unit: str = "bytes"):
            del label, total, unit
            return self

        def advance(self, amount: int) -> None:
            del amount
            interrupt()
            time.sleep(0.05)

        def finish(self) -> None:
            pass

    with serve(lambda _: Reply(body=data)) as server:
        one = artifact("a-1-py3-none-any.whl", data, url=server.url)
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            fetch_artifacts(
                [one], blobs=blobs, http=Http(user_agent="test"), progress=Interrupting()
            )

    assert time.monotonic() - begun < 5
    assert [] == list(blobs.digests())
