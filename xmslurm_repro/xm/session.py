"""From a launch script to the tools: launch scripts have no other way to get at them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from xmslurm_repro.config import ClusterSettings, load_settings
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.services.tools import Tools
from xmslurm_repro.wiring import open_tools
from xmslurm_repro.xm.scripts import launch_folder

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """
    What experiments are made with.

    Attributes:
        open_tools: Opens the tools; every connection is closed when its block ends.
        cluster: The settings of a cluster, or of the default one; raises `UnknownClusterError`.
    """

    open_tools: Callable[[], AbstractAsyncContextManager[Tools]]
    cluster: Callable[[str | None], ClusterSettings]


def environment_session() -> Session:
    """
    The session that the environment and the configuration files around the launch script ask for.

    Raises:
        ConfigError: If they are wrong.
    """
    # XManager's own `launch` runs scripts too, and hands over no environment.
    settings = load_settings(environ=os.environ, start=launch_folder())  # noqa: TID251
    return Session(
        open_tools=lambda: open_tools(settings, SilentProgress()),
        cluster=settings.cluster,
    )


def run_apart(body: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a thread and an event loop of its own, and wait for it."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(lambda: asyncio.run(body())).result()
