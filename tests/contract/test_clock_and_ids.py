"""The clock and the source of names: the real ones, and those of the tests."""

import asyncio
from datetime import UTC

import pytest

from tests.support.world import CountingIds, SteppingClock
from xmslurm_repro.model.run import RunId
from xmslurm_repro.wiring.system import RandomIds, SystemClock


@pytest.fixture(params=[SystemClock, SteppingClock])
def clock(request):
    return request.param()


@pytest.fixture(params=[RandomIds, CountingIds])
def ids(request):
    return request.param()


def test_the_time_is_in_utc_and_says_so(clock):
    assert clock.now().tzinfo is UTC


def test_sleeping_takes_at_least_as_long_as_asked(clock):
    before = clock.now()

    asyncio.run(clock.sleep(0.02))

    assert (clock.now() - before).total_seconds() >= 0.02


def test_tokens_are_tokens_and_never_the_same(ids):
    tokens = [ids.token() for _ in range(1000)]

    assert len(set(tokens)) == 1000
    assert all(RunId(token=token, task=0) for token in tokens)
