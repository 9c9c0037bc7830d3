"""The settings as values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xmslurm_repro.errors import UnknownClusterError
from xmslurm_repro.model.choice import Choice
from xmslurm_repro.model.work import Network, Resources

LOCAL = "local"
"""The cluster that is always there: this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """
    One cluster, as configured.

    Attributes:
        name: As people type it.
        scheduler: ``slurm`` or ``local``.
        transport: ``local`` (commands run on this machine), ``ssh`` or ``openssh``.
        hosts: Tried in this order; an ``ssh_config`` alias will do. Empty only for ``local``.
        host_keys: Public keys, as a line of ``known_hosts`` has them without the host; where
            given, nothing else is accepted.
        known_hosts: A file of its own; ``None`` for the user's.
        proxy_jump: Hosts to go through, each as ``[user@]host[:port]``; in place of what the SSH
            configuration says.
        state_dir: Where our files are on the cluster; ``None`` for ``~/.xmslurm``.
        setup: Bash commands that jobs run before anything else on their node (``module load
            apptainer``), and that we run before we look for runtimes; empty for none.
        teardown: Bash commands that jobs run last.
        runtime: One of `schema.RUNTIMES`.
        runtime_options: Further options of the runtime, by name; an empty value is a flag.
        registry: A repository's name, to which images are pushed and from which the cluster
            pulls; ``None``: images are sent over the connection.
        architecture: Of its compute nodes, as OCI says it: base images have to be for it, and of
            one for several that part is taken; ``None``: for amd64 where there is a choice.
        gpu_types: What the cluster calls a GPU in ``gres``, by the name that launch scripts use.
        options: What each submission is told (``partition``, ``account``); an empty value is a
            flag.
        env: Variables that every job on it gets.
        inputs: Where data is on it, by name.
    """

    name: str
    scheduler: str = "slurm"
    transport: str = "local"
    hosts: tuple[str, ...] = ()
    user: str | None = None
    port: int | None = None
    host_keys: tuple[str, ...] = ()
    known_hosts: Path | None = None
    identity_files: tuple[Path, ...] = ()
    ssh_config: Path | None = None
    proxy_jump: tuple[str, ...] = ()
    state_dir: str | None = None
    setup: str = ""
    teardown: str = ""
    runtime: str = "auto"
    runtime_options: tuple[tuple[str, str], ...] = ()
    registry: str | None = None
    architecture: str | None = None
    gpu_types: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """
    How registries are reached.

    Attributes:
        insecure_hosts: ``host`` or ``host:port``, spoken to without TLS.
        ca_file: Certificates to trust beside the system's.
        auth_files: Credentials files of Podman and Docker, in the order in which they are asked.
    """

    insecure_hosts: tuple[str, ...] = ()
    ca_file: Path | None = None
    auth_files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """HTTP proxies as ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` say."""

    http: str | None = None
    https: str | None = None
    exceptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    All that is configured.

    Attributes:
        home: The data folder.
        cache_dir: What may be deleted at any time.
        base: The base image to use when none is named.
        lock: The lock file to use when none is named, from the folder of the launch.
        extras: Optional dependencies to install when no launch names any.
        groups: Dependency groups to install when no launch names any.
        build_sdists: Whether launches build source distributions without being told.
        extra_system_packages: Debian packages to install when no launch names any.
        default_cluster: The cluster to use when none is named; ``None`` when several are
            configured and none is chosen.
        clusters: By name, with `LOCAL`.
        choice: What snapshots let in and leave out beyond git's rules.
        files: The configuration files that were read, the weakest first.
        ssh_agent: The agent's socket, or ``None``.
        docker_host: URL of the Docker engine; ``None`` for the usual socket.
        user_home: The user's home folder.
        secrets: Names of variables that every job gets, whose values are recorded nowhere.
        secret_commands: What prints the value of a secret, by name.
        environ: The environment, where the values of all other secrets are looked for.
        git_environment: The variables that say where git's own configuration is.
    """

    home: Path
    cache_dir: Path
    user_home: Path
    base: str | None = None
    lock: str | None = None
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    build_sdists: bool = False
    extra_system_packages: tuple[str, ...] = ()
    default_cluster: str | None = LOCAL
    clusters: Mapping[str, ClusterSettings] = field(
        default_factory=lambda: {LOCAL: implicit_cluster()}
    )
    index_urls: tuple[str, ...] = ()
    wheelhouses: tuple[Path, ...] = ()
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    proxies: ProxySettings = field(default_factory=ProxySettings)
    choice: Choice = field(default_factory=Choice)
    resources: Resources = field(default_factory=Resources)
    network: Network = Network.NONE
    ssh_agent: str | None = None
    docker_host: str | None = None
    git_environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    secret_commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    files: tuple[Path, ...] = ()

    def cluster(self, name: str | None) -> ClusterSettings:
        """
        The cluster called *name*, or the default one.

        Raises:
            UnknownClusterError: If there is none, or no default one.
        """
        known = ", ".join(sorted(self.clusters))
        if name is None:
            name = self.default_cluster
        if name is None:
            raise UnknownClusterError(
                "several clusters are configured and none of them is the default",
                hint="Name one with `--cluster`, or set `default_cluster` in a configuration file.",
                details=(f"known: {known}",),
            )
        if name not in self.clusters:
            close = difflib.get_close_matches(name, self.clusters, n=1)
            raise UnknownClusterError(
                f"no cluster is called {name!r}",
                hint=f"Did you mean `{close[0]}`?"
                if close
                else f"Describe it as [clusters.{name}] in {self._file_to_edit()}.",
                details=(f"known: {known}",),
            )
        return self.clusters[name]

    def _file_to_edit(self) -> str:
        return str(self.files[-1]) if self.files else "xmslurm-repro.toml"


def implicit_cluster() -> ClusterSettings:
    """This machine, as a cluster that needs no configuration."""
    return ClusterSettings(name=LOCAL, scheduler="local", transport="local")
