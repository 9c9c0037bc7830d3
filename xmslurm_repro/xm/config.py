"""Clusters as values of a launch script, in place of names of configured ones."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from xmanager import xm

from xmslurm_repro.config import ClusterSettings
from xmslurm_repro.config.kinds import KindError, cluster_name
from xmslurm_repro.errors import NotSupportedError
from xmslurm_repro.xm.accelerators import FeatureType, NVGPUAcceleratorType, ResourceType
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError

if TYPE_CHECKING:
    from xmslurm_repro.xm.executors import Slurm

_Amounts: TypeAlias = "Mapping[ResourceType, int | float]"
RecommendedResourcesType: TypeAlias = "Mapping[ResourceType, _Amounts | Callable[[], _Amounts]]"


class ContainerRuntime(enum.Enum):
    """
    What runs containers. Of Singularity and Apptainer nothing shows in a job: where one of them
    is named, the first runtime that works on the cluster is taken.
    """

    SINGULARITY = "singularity"
    APPTAINER = "apptainer"
    DOCKER = "docker"
    PODMAN = "podman"

    @classmethod
    def from_string(cls, runtime: str) -> ContainerRuntime:
        """
        Find one by its name.

        Raises:
            ArgumentError: If there is none of that name.
        """
        try:
            return cls(runtime)
        except ValueError:
            known = ", ".join(member.value for member in cls)
            raise ArgumentError(
                f"{runtime!r} is no container runtime", hint=f"There are {known}."
            ) from None

    def __str__(self) -> str:
        """Its name."""
        return self.value


_RUNTIMES = {ContainerRuntime.DOCKER: "docker", ContainerRuntime.PODMAN: "podman"}
"""In the configuration's words; `auto` for the others."""


class Endpoint(NamedTuple):
    """A host, and its port where that is not 22."""

    hostname: str
    port: int | None = None

    def __str__(self) -> str:
        """As ``known_hosts`` has it."""
        plain = self.port is None or self.port == 22
        return self.hostname if plain else f"[{self.hostname}]:{self.port}"


class PublicKey(NamedTuple):
    """A host's key as ``known_hosts`` has it: ``ssh-ed25519`` and the Base64 after it."""

    algorithm: str
    key: str


@dataclass(frozen=True)
class SSHConfig:
    """
    How a cluster is reached.

    Attributes:
        endpoints: Hosts, tried in this order.
        public_key: Their key, and nothing else is accepted; ``None``: the key that the user's
            ``known_hosts`` has. A host without any known key is refused.
        user: ``None`` for what the SSH configuration says.
    """

    endpoints: tuple[Endpoint, ...]
    public_key: PublicKey | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        """
        Check every field.

        Raises:
            ArgumentError: If there is no endpoint.
            ArgumentTypeError: If one is no `Endpoint`, or the key is no `PublicKey`.
        """
        object.__setattr__(self, "endpoints", tuple(self.endpoints))
        if not self.endpoints:
            raise ArgumentError("an SSHConfig needs at least one endpoint")
        for endpoint in self.endpoints:
            if not isinstance(endpoint, Endpoint):
                raise ArgumentTypeError(f"{endpoint!r} is no config.Endpoint")
        if self.public_key is not None and not isinstance(self.public_key, PublicKey):
            raise ArgumentTypeError(f"{self.public_key!r} is no config.PublicKey")

    @property
    def port(self) -> int | None:
        """
        The port of all endpoints.

        Raises:
            NotSupportedError: If they have several.
        """
        ports = {endpoint.port or 22 for endpoint in self.endpoints}
        if len(ports) > 1:
            raise NotSupportedError(
                f"the endpoints {', '.join(map(str, self.endpoints))} have several ports",
                hint="Give each host its Port in ~/.ssh/config, and leave it out here.",
            )
        return self.endpoints[0].port

    def __str__(self) -> str:
        """The hosts, with the user where there is one."""
        who = f"{self.user}@" if self.user else ""
        return "|".join(f"{who}{endpoint}" for endpoint in self.endpoints)


class MountKind(enum.StrEnum):
    """What is mounted."""

    FILE = "file"
    DIR = "dir"


class MountMode(enum.StrEnum):
    """How it is mounted."""

    RO = "ro"
    RW = "rw"


@dataclass(frozen=True, init=False)
class MountSpec:
    """
    A file or folder of the host that a container shows. It can be named; a cluster that has one
    is refused, because a job would see what nobody recorded.
    """

    host: Path
    container: Path
    kind: MountKind
    mode: MountMode
    selector: Callable[[Slurm], bool] | None

    def __init__(
        self,
        host: os.PathLike[str] | str,
        container: os.PathLike[str] | str | None = None,
        *,
        kind: MountKind,
        mode: MountMode = MountMode.RW,
        selector: Callable[[Slurm], bool] | None = None,
    ) -> None:
        """Name it; without *container* it has the same path in there."""
        values = {
            "host": Path(host),
            "container": Path(host if container is None else container),
            "kind": MountKind(kind),
            "mode": MountMode(mode),
            "selector": selector,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        """As container runtimes write it."""
        return f"{self.host}:{self.container}:{self.mode.value}"


@dataclass(frozen=True, kw_only=True, eq=False)
class SlurmClusterConfig:
    """
    A cluster with Slurm.

    Attributes:
        name: How the record and every later command call it.
        ssh: How it is reached.
        runtime: What runs containers.
        cwd: Without effect, as in ``xm_slurm``.
        prolog: Bash commands that jobs run first on their node, outside the container.
        epilog: Bash commands that jobs run last, there too.
        account: What jobs are told where the executor does not say; likewise *partition*, *qos*.
        proxy: Must be empty.
        host_environment: Variables of the prolog and the container runtime, not of the job; the
            node's own are put in for ``$NAME``, as in ``xm_slurm``.
        container_environment: Variables that every job gets.
        mounts: Must be empty.
        resources: What the cluster calls a GPU.
        features: Without effect, as in ``xm_slurm``.
        validate: Called with each job before it is submitted; what it raises stops the launch.
        recommended_resources: What a job gets for each GPU, where it does not say.
    """

    name: str
    ssh: SSHConfig
    runtime: ContainerRuntime = ContainerRuntime.APPTAINER
    cwd: str | None = None
    prolog: str | None = None
    epilog: str | None = None
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    proxy: str | None = None
    host_environment: Mapping[str, str] = field(default_factory=dict)
    container_environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Iterable[MountSpec] = field(default_factory=frozenset)
    resources: Mapping[ResourceType, str] = field(default_factory=dict)
    features: Mapping[FeatureType, str] = field(default_factory=dict)
    validate: Callable[[xm.Job], None] | None = None
    recommended_resources: RecommendedResourcesType = field(default_factory=dict)

    def __post_init__(self) -> None:
        """
        Check every field.

        Raises:
            ArgumentError: If the name is none.
            ArgumentTypeError: If a field is of the wrong type.
            NotSupportedError: If it asks for what would let a job see more than was recorded.
        """
        if not isinstance(self.name, str) or not isinstance(self.ssh, SSHConfig):
            raise ArgumentTypeError("a cluster needs a name, which is text, and an SSHConfig")
        if not isinstance(self.runtime, ContainerRuntime):
            raise ArgumentTypeError(f"{self.runtime!r} is no config.ContainerRuntime")
        try:
            cluster_name(self.name)
        except KindError as error:
            raise ArgumentError(f"cluster {self.name!r}: expected {error}") from error
        object.__setattr__(self, "mounts", frozenset(self.mounts))
        for what, value, hint in _refusals(self):
            if value:
                raise NotSupportedError(f"cluster {self.name}: {what}", hint=hint)

    def options(self) -> tuple[tuple[str, str], ...]:
        """What each submission is told, by the long names of ``sbatch``'s options."""
        said = {"account": self.account, "partition": self.partition, "qos": self.qos}
        return tuple((name, value) for name, value in sorted(said.items()) if value)

    def to_settings(self) -> ClusterSettings:
        """The same in the configuration's words."""
        key = self.ssh.public_key
        return ClusterSettings(
            name=self.name,
            transport="ssh",
            hosts=tuple(endpoint.hostname for endpoint in self.ssh.endpoints),
            user=self.ssh.user,
            port=self.ssh.port,
            host_keys=(f"{key.algorithm} {key.key}",) if key else (),
            setup=self._setup(),
            teardown=(self.epilog or "").strip(),
            runtime=_RUNTIMES.get(self.runtime, "auto"),
            gpu_types=tuple(sorted((kind.name, name) for kind, name in self.resources.items())),
            options=self.options(),
            env=tuple(sorted(self.container_environment.items())),
        )

    def _setup(self) -> str:
        variables = sorted(self.host_environment.items())
        lines = [f"export {name}={_expanding(value)}" for name, value in variables]
        return "\n".join([*lines, self.prolog or ""]).strip()

    def recommended(self, accelerator: object) -> Mapping[ResourceType, int | float]:
        """What goes with one GPU of that kind."""
        if not isinstance(accelerator, ResourceType):
            return {}
        found = self.recommended_resources.get(accelerator, {})
        return found() if callable(found) else found


def _expanding(value: str) -> str:
    # In double quotes: ``$NAME`` is the one thing that bash replaces.
    return '"' + re.sub(r'[\\"`]', r"\\\g<0>", value).replace("$(", "\\$(") + '"'


def _refusals(config: SlurmClusterConfig) -> Iterable[tuple[str, object, str]]:
    mounts = ", ".join(sorted(map(str, config.mounts)))
    hermetic = "A job sees its image, its code and its outputs folder, and nothing else of the host"
    yield (
        f"mounts would show jobs what nobody recorded: {mounts}",
        mounts,
        f"{hermetic}: put what it reads into the project or the base image. GPU drivers come in.",
    )
    yield (
        "no proxy is set up through the submission host",
        config.proxy,
        'Give the executor network="host", and set HTTPS_PROXY in container_environment.',
    )


def as_toml(settings: ClusterSettings) -> str:
    """The settings of `SlurmClusterConfig.to_settings` as a section of a configuration file."""
    head = (
        f'[clusters."{settings.name}"]' if "." in settings.name else f"[clusters.{settings.name}]"
    )
    values: dict[str, Any] = {"hosts": list(settings.hosts)}
    if settings.user:
        values["user"] = settings.user
    if settings.port:
        values["port"] = settings.port
    if settings.host_keys:
        values["host_key"] = list(settings.host_keys)
    for name in ("setup", "teardown"):
        if getattr(settings, name):
            values[name] = getattr(settings, name)
    if settings.runtime != "auto":
        values["runtime"] = settings.runtime
    lines = [head, *(f"{name} = {_toml(value)}" for name, value in values.items())]
    for name in ("gpu_types", "options", "env"):
        pairs = getattr(settings, name)
        if pairs:
            inner = ", ".join(f"{_toml(key)} = {_toml(value)}" for key, value in pairs)
            lines.append(f"{name} = {{ {inner} }}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int):
        return str(value)
    # toml.io, "String": quotes and backslashes are escaped, other characters go by numbers.
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text) + '"'


def nvidia_gpu_selector(executor: Slurm, *, include_generic: bool = False) -> bool:
    """Whether an executor asks for a GPU of NVIDIA, or with *include_generic* for any GPU."""
    kind = executor.requirements.accelerator
    return kind in NVGPUAcceleratorType or (include_generic and kind is ResourceType.GPU)


def nvidia_mounts(
    *,
    prefix: os.PathLike[str] | str = "/usr/bin",
    selector: Callable[[Slurm], bool] | None = nvidia_gpu_selector,
) -> set[MountSpec]:
    """Nothing: jobs that ask for GPUs find the node's driver and its programs by themselves."""
    del prefix, selector
    return set()


def infiniband_mounts(selector: Callable[[Slurm], bool] | None = None) -> set[MountSpec]:
    """
    Refuse: jobs see no InfiniBand devices.

    Raises:
        NotSupportedError: Always.
    """
    del selector
    raise NotSupportedError(
        "InfiniBand devices cannot be shown to jobs",
        hint='Leave infiniband_mounts out; with network="host" jobs reach other nodes over IP.',
    )
