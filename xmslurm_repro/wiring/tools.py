"""All the tools, made when they are first needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from xmslurm_repro import __version__
from xmslurm_repro.config import Settings
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.services.tools import Defaults, Tools
from xmslurm_repro.store.guard import FileGuard
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.objects import DiskObjectStore
from xmslurm_repro.wiring.clusters import Ask, Sites
from xmslurm_repro.wiring.images import (
    Connections,
    LazyBases,
    LazyBuilder,
    LazyLocks,
    LazyPublisher,
    LazyWheels,
    Snapshots,
)
from xmslurm_repro.wiring.record import open_record
from xmslurm_repro.wiring.secrets import ConfiguredSecrets
from xmslurm_repro.wiring.system import RandomIds, SystemClock
from xmslurm_repro.wiring.upkeep import LazyUpkeep


@asynccontextmanager
async def open_tools(
    settings: Settings, progress: Progress, *, ask: Ask | None = None
) -> AsyncIterator[Tools]:
    """
    The tools that *settings* ask for; when the block ends, every connection is closed.

    Args:
        settings: What is configured.
        progress: Where long steps report.
        ask: Asks the person for what a host wants to know; ``None`` when nobody is there.

    Raises:
        StoreError: If the data folder cannot be made or read.
    """
    home, cache = settings.home, settings.cache_dir
    store, blobs = DiskObjectStore(home / "objects"), DiskBlobStore(home / "oci")
    clock, connections = SystemClock(), Connections(settings)
    guard = FileGuard(home / "in-use.lock")
    record = open_record(home, store, guard)
    sites = Sites(settings, clock, ask)
    locks = LazyLocks(settings, connections, store=store, blobs=blobs, cache_dir=cache / "locks")
    try:
        yield Tools(
            store=store,
            blobs=blobs,
            snapshots=Snapshots(
                store=store,
                cache_dir=cache / "snapshots",
                git_environment=settings.git_environment,
                choice=settings.choice,
            ),
            bases=LazyBases(
                connections,
                blobs=blobs,
                cache_dir=cache / "bases",
                docker_host=settings.docker_host,
            ),
            locks=locks,
            builder=LazyBuilder(blobs=blobs, cache_dir=cache / "layers"),
            fresh_builder=LazyBuilder(blobs=blobs, cache_dir=None),
            publisher=LazyPublisher(connections, blobs=blobs),
            record=record,
            site=sites.site,
            defaults=Defaults(
                base=settings.base,
                lock=settings.lock,
                extras=settings.extras,
                groups=settings.groups,
                build_sdists=settings.build_sdists,
                system_packages=settings.extra_system_packages,
                resources=settings.resources,
                network=settings.network,
                secrets=settings.secrets,
            ),
            clock=clock,
            ids=RandomIds(),
            progress=progress,
            version=__version__,
            guard=guard,
            secrets=ConfiguredSecrets(settings),
            upkeep=LazyUpkeep(store, blobs, home),
            wheels=LazyWheels(blobs, cache / "wheels"),
        )
    finally:
        await sites.close()
        record.close()
        guard.close()
