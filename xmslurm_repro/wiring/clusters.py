"""From a configured cluster to a connection, a scheduler and a runtime."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Protocol

from xmslurm_repro.config import ClusterSettings, Settings
from xmslurm_repro.errors import ConfigError, ConnectionLostError, HostKeyError, ReproError
from xmslurm_repro.ports.clock import Clock
from xmslurm_repro.ports.transport import Transport
from xmslurm_repro.services.tools import ClusterSite

if TYPE_CHECKING:
    from xmslurm_repro.cluster.runtime import Runtime
    from xmslurm_repro.cluster.scheduler import Scheduler
    from xmslurm_repro.cluster.shell import RegistryTarget
    from xmslurm_repro.transport.ssh import HostKey, SshEndpoint

_STATE_DIR = "~/.xmslurm"


class Ask(Protocol):
    """Asks the person a question that a host asked."""

    async def __call__(self, text: str, *, is_secret: bool) -> str | None:
        """Show *text*, return the answer, or ``None`` to give up."""
        ...


class Sites:
    """The clusters of one command: each is made once, when it is first asked for."""

    def __init__(self, settings: Settings, clock: Clock, ask: Ask | None) -> None:
        self._settings, self._clock, self._ask = settings, clock, ask
        self._made: dict[str, ClusterSite] = {}

    def site(self, name: str | None) -> ClusterSite:
        """
        The cluster called *name*, or the default one.

        Raises:
            UnknownClusterError: If there is none.
        """
        configured = self._settings.cluster(name)
        if configured.name not in self._made:
            self._made[configured.name] = self._make(configured)
        return self._made[configured.name]

    async def close(self) -> None:
        """Let go of every connection."""
        for site in self._made.values():
            await site.cluster.close()

    def _make(self, configured: ClusterSettings) -> ClusterSite:
        # Imported when a cluster is asked for: most commands ask for none.
        from xmslurm_repro.cluster.script import Surroundings
        from xmslurm_repro.cluster.shell import ShellCluster

        cluster = ShellCluster(
            configured.name,
            self._transport(configured),
            _scheduler(configured),
            _runtime(configured),
            clock=self._clock,
            state_dir=configured.state_dir or self._default_state_dir(configured),
            registry=self._registry(configured),
            surroundings=Surroundings(setup=configured.setup, teardown=configured.teardown),
        )
        return ClusterSite(
            cluster=cluster,
            options=configured.options,
            env=configured.env,
            repository=configured.registry,
            architecture=configured.architecture,
            inputs=configured.inputs,
        )

    def _default_state_dir(self, configured: ClusterSettings) -> str:
        """This machine as a cluster keeps its state with everything else of ours."""
        if configured.scheduler == "local" and configured.transport == "local":
            return str(self._settings.home / "local")
        return _STATE_DIR

    def _registry(self, configured: ClusterSettings) -> RegistryTarget | None:
        if configured.registry is None:
            return None
        from xmslurm_repro.cluster.shell import RegistryTarget

        host = configured.registry.split("/")[0]
        is_insecure = host in self._settings.registry.insecure_hosts
        return RegistryTarget(repository=configured.registry, is_insecure=is_insecure)

    def _transport(self, configured: ClusterSettings) -> Transport:
        if configured.transport == "local":
            from xmslurm_repro.transport.local import LocalTransport

            return LocalTransport()
        endpoints = self._endpoints(configured)
        if configured.transport == "openssh":
            from xmslurm_repro.transport.openssh import OpenSshTransport

            return OpenSshTransport(*endpoints)
        from xmslurm_repro.transport.ssh import SshTransport

        return SshTransport(*endpoints)

    async def host_keys(self, name: str | None) -> list[tuple[str, HostKey | ReproError]]:
        """
        The key that each host of a cluster shows, or why it shows none.

        Nobody logs in but to the hosts on the way. Nothing for clusters that are reached by
        other means than our own SSH.
        """
        configured = self._settings.cluster(name)
        if configured.transport != "ssh":
            return []
        from xmslurm_repro.transport.ssh import read_host_key

        async def ask(endpoint: SshEndpoint) -> HostKey | ReproError:
            try:
                return await read_host_key(endpoint)
            except (ConnectionLostError, HostKeyError) as error:
                return error

        endpoints = self._endpoints(configured)
        found = await asyncio.gather(*map(ask, endpoints))
        return [(str(end), key) for end, key in zip(endpoints, found, strict=True)]

    def _endpoints(self, configured: ClusterSettings) -> tuple[SshEndpoint, ...]:
        from xmslurm_repro.transport.ssh import SshEndpoint

        known_hosts, config = configured.known_hosts, configured.ssh_config
        return tuple(
            SshEndpoint(
                host=host,
                user=configured.user,
                port=configured.port,
                config_files=(str(config),) if config else (),
                proxy_jump=configured.proxy_jump,
                known_hosts=str(known_hosts) if known_hosts else None,
                host_key=key,
                identity_files=tuple(str(path) for path in configured.identity_files),
                agent_socket=self._settings.ssh_agent,
                prompt=self._ask,
            )
            for host, key in zip(configured.hosts, _host_keys(configured), strict=True)
        )


async def read_host_keys(
    settings: Settings, name: str, *, ask: Ask | None
) -> list[tuple[str, HostKey | ReproError]]:
    """The key that each host of a cluster shows; see `Sites.host_keys`."""
    from xmslurm_repro.wiring.system import SystemClock

    return await Sites(settings, SystemClock(), ask).host_keys(name)


def _host_keys(configured: ClusterSettings) -> tuple[str | None, ...]:
    """The key that each host must have: one for all, or one for each; none where none is pinned."""
    keys, hosts = configured.host_keys, configured.hosts
    if not keys:
        return (None,) * len(hosts)
    if len(keys) == 1:
        return keys * len(hosts)
    if len(keys) != len(hosts):
        raise ConfigError(
            f"cluster {configured.name} has {len(hosts)} hosts and {len(keys)} host keys",
            hint="Give one key for all hosts, or one for each in their order.",
        )
    return keys


def _scheduler(configured: ClusterSettings) -> Scheduler:
    if configured.scheduler == "slurm":
        from xmslurm_repro.cluster.slurm import SlurmScheduler

        return SlurmScheduler()
    from xmslurm_repro.cluster.local import LocalScheduler

    return LocalScheduler()


_OF_THE_ENGINE = frozenset({"config", "context", "host"})
"""Options of docker that stand before ``run``."""


def _runtime(configured: ClusterSettings) -> Runtime | None:
    """The runtime that the configuration names; ``None`` to choose on the cluster."""
    options = configured.runtime_options
    joined = tuple(_option(name, value) for name, value in options)
    match configured.runtime:
        case "podman":
            from xmslurm_repro.cluster.podman import Podman

            return Podman(run_options=joined)
        case "docker":
            from xmslurm_repro.cluster.docker import Docker

            first = tuple(_option(*pair) for pair in options if pair[0] in _OF_THE_ENGINE)
            return Docker(options=first, run_options=tuple(o for o in joined if o not in first))
        case "apptainer" | "singularity":
            from xmslurm_repro.cluster.apptainer import Apptainer

            return Apptainer(options=joined, program=configured.runtime)
        case "charliecloud":
            from xmslurm_repro.cluster.charliecloud import Charliecloud

            return Charliecloud(options=joined)
        case "enroot":
            from xmslurm_repro.cluster.enroot import Enroot

            return Enroot(options=joined)
        case "pyxis":
            from xmslurm_repro.cluster.pyxis import Pyxis

            return Pyxis(options=joined)
        case "bubblewrap":
            # bwrap takes the values of an option as words of their own: --ro-bind FROM TO.
            from xmslurm_repro.cluster.runtime import Bubblewrap

            words = ((f"--{name}", *shlex.split(value)) for name, value in options)
            return Bubblewrap(options=tuple(word for group in words for word in group))
    if options:
        raise ConfigError(
            f"cluster {configured.name}: runtime_options without a runtime",
            hint="Name the runtime that they are for, or leave them out: then the first runtime "
            "that works on the cluster is taken.",
        )
    return None


def _option(name: str, value: str) -> str:
    return f"--{name}={value}" if value else f"--{name}"
