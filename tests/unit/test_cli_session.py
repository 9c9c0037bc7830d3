"""What every command needs: work beside a connection that is being opened."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.support.world import make_world
from xmslurm_repro.cli.session import beside


def test_work_is_done_beside_a_connection_that_is_opened():
    tools, cluster = make_world()

    is_daemon = asyncio.run(beside(tools, "alpha", lambda: threading.current_thread().daemon))

    assert is_daemon
    assert cluster.asked == ["warm_up"]


def test_what_goes_wrong_in_the_work_comes_through():
    tools, _ = make_world()

    def fail():
        raise KeyError("the work")

    with pytest.raises(KeyError, match="the work"):
        asyncio.run(beside(tools, "alpha", fail))


def test_an_unknown_cluster_is_said_before_any_work_is_done():
    def no_such(name):
        raise LookupError(name)

    tools, _ = make_world(site=no_such)

    with pytest.raises(LookupError, match="alpha"):
        asyncio.run(beside(tools, "alpha", lambda: pytest.fail("worked")))
