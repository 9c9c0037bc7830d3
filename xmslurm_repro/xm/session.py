"""From a launch script to the tools: launch scripts have no other way to get at them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from xmslurm_repro.config import ClusterSettings, load_settings
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.services.tools import Tools
from xmslurm_repro.wiring import open_tools
from xmslurm_repro.xm.faults import ArgumentError
from xmslurm_repro.xm.scripts import launch_folder

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """
    What experiments are made with.

    Attributes:
        open_tools: Opens the tools; every connection is closed when its block ends.
        cluster: The settings of a cluster, or of the default one; raises `UnknownClusterError`.
        describe: Makes a cluster known that no configuration file names, and returns whether it
            was new; raises `ArgumentError` if another one of that name was described before.
    """

    open_tools: Callable[[], AbstractAsyncContextManager[Tools]]
    cluster: Callable[[str | None], ClusterSettings]
    describe: Callable[[ClusterSettings], bool] = lambda _: False


def process_environment() -> Mapping[str, str]:
    """The environment: XManager's own `launch` runs scripts too, and hands none over."""
    return os.environ  # noqa: TID251


def environment_session() -> Session:
    """
    The session that the environment and the configuration files around the launch script ask for.

    Raises:
        ConfigError: If they are wrong.
    """
    loaded = load_settings(environ=process_environment(), start=launch_folder())
    # Tools that are open already look clusters up in it, so that a script may describe one later.
    clusters = dict(loaded.clusters)
    settings = replace(loaded, clusters=clusters)
    return Session(
        open_tools=lambda: open_tools(settings, SilentProgress()),
        cluster=settings.cluster,
        describe=lambda described: describe_in(clusters, described, known=loaded.clusters),
    )


def describe_in(
    clusters: dict[str, ClusterSettings],
    described: ClusterSettings,
    *,
    known: Mapping[str, ClusterSettings],
) -> bool:
    """
    Add a cluster that a launch script describes to *clusters*; return whether it was new.

    What the configuration *known* has under that name stays: later commands go by it.

    Raises:
        ArgumentError: If the script describes two of one name.
    """
    if described.name in known:
        return False
    before = clusters.setdefault(described.name, described)
    if before == described:
        return before is described
    raise ArgumentError(
        f"two different clusters are called {described.name}",
        hint="Describe each once and use it everywhere, or give them names of their own.",
    )


def run_apart(body: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a thread and an event loop of its own, and wait for it."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(lambda: asyncio.run(body())).result()
