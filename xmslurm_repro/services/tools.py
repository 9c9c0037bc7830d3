"""Everything that the services need of the world, in one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from xmslurm_repro.model.work import Network, Resources
from xmslurm_repro.ports.clock import Clock
from xmslurm_repro.ports.cluster import Cluster
from xmslurm_repro.ports.ids import IdSource
from xmslurm_repro.ports.images import (
    BaseSource,
    ImageBuilder,
    LockSource,
    Publisher,
    Snapshotter,
    WheelBuilder,
)
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.record import Record
from xmslurm_repro.ports.secrets import NoSecrets, SecretSource
from xmslurm_repro.ports.store import BlobStore, ObjectStore
from xmslurm_repro.ports.upkeep import NoGuard, StoreGuard, Upkeep


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSite:
    """
    A configured cluster as the services see it.

    Attributes:
        cluster: How to reach it.
        options: What it is told by default beyond the work unit (account, partition, …).
        env: Variables that every job launched on it gets.
        inputs: Where data is on it, by name.
        repository: Where images for it are published, or ``None``: sent over the connection.
        architecture: Of its compute nodes, as OCI says it; ``None`` where nobody said.
    """

    cluster: Cluster
    options: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    repository: str | None = None
    architecture: str | None = None
    inputs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What is meant when a launch does not say."""

    base: str | None = None
    lock: str | None = None
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    build_sdists: bool = False
    system_packages: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    network: Network = Network.NONE
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """
    The world, as arguments. `wiring` makes it; tests make their own.

    Attributes:
        fresh_builder: As *builder*, but past every cache of layers.
        site: The cluster of a name, or the default one for ``None``; raises
            `UnknownClusterError`. Gives the same object each time, so that one connection serves
            a whole command.
        defaults: What is meant when a launch does not say.
        version: Ours.
        guard: Keeps those who clear up the stores away from those who use them.
        secrets: Where the values of secrets come from.
        upkeep: Clears up; ``None`` for stores that need no clearing up.
        wheels: Builds source distributions; ``None`` where that is not to be had.
    """

    store: ObjectStore
    blobs: BlobStore
    snapshots: Snapshotter
    bases: BaseSource
    locks: LockSource
    builder: ImageBuilder
    fresh_builder: ImageBuilder
    publisher: Publisher
    record: Record
    site: Callable[[str | None], ClusterSite]
    defaults: Defaults
    clock: Clock
    ids: IdSource
    progress: Progress
    version: str
    guard: StoreGuard = field(default_factory=NoGuard)
    secrets: SecretSource = field(default_factory=NoSecrets)
    upkeep: Upkeep | None = None
    wheels: WheelBuilder | None = None

    def now(self) -> str:
        """The time now, RFC 3339 in UTC, to the second."""
        return self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
