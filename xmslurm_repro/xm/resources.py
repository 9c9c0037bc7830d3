"""What a job asks of a cluster, in XManager's words."""

from __future__ import annotations

import datetime as dt
import enum
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from xmslurm_repro.model.work import Resources
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError

_MIB = 1 << 20


class ResourceType(enum.Enum):
    """
    Kinds of resources. GPUs with a slice are MIG instances (NVIDIA's MIG user guide).

    The value of a GPU is what it is called in ``gres`` where a cluster's ``gpu_types`` says
    nothing else.
    """

    CPU = "cpu"
    MEMORY = RAM = "memory"
    EPHEMERAL_STORAGE = DISK = "disk"

    GPU = "gpu"
    RTX8000 = "rtx8000"
    P4 = "p4"
    P100 = P100_16GIB = "p100"
    V100 = "v100"
    V100_32GIB = "v100_32gb"

    A100 = A100_40GIB = A100_7G_40GIB = "a100"
    A100_1G_5GIB = A100_40GIB_1G_5GIB = "a100_1g.5gb"
    A100_1G_10GIB = A100_40GIB_1G_10GIB = "a100_1g.10gb"
    A100_2G_10GIB = A100_40GIB_2G_10GIB = "a100_2g.10gb"
    A100_3G_20GIB = A100_40GIB_3G_20GIB = "a100_3g.20gb"
    A100_4G_20GIB = A100_40GIB_4G_20GIB = "a100_4g.20gb"
    A100_80GIB = A100_80GIB_7G_80GIB = "a100_80gb"
    A100_80GIB_1G_10GIB = "a100_80gb_1g.10gb"
    A100_80GIB_1G_20GIB = "a100_80gb_1g.20gb"
    A100_80GIB_2G_20GIB = "a100_80gb_2g.20gb"
    A100_80GIB_3G_40GIB = "a100_80gb_3g.40gb"
    A100_80GIB_4G_40GIB = "a100_80gb_4g.40gb"

    A5000 = "a5000"
    A6000 = "a6000"

    H100 = H100_80GIB = H100_80GIB_7G_80GIB = "h100"
    H100_1G_10GIB = H100_80GIB_1G_10GIB = "h100_1g.10gb"
    H100_1G_20GIB = H100_80GIB_1G_20GIB = "h100_1g.20gb"
    H100_2G_20GIB = H100_80GIB_2G_20GIB = "h100_2g.20gb"
    H100_3G_40GIB = H100_80GIB_3G_40GIB = "h100_3g.40gb"
    H100_4G_40GIB = H100_80GIB_4G_40GIB = "h100_4g.40gb"

    H200 = H200_141GIB = H200_141GIB_7G_141GIB = "h200"
    H200_1G_18GIB = H200_141GIB_1G_18GIB = "h200_1g.18gb"
    H200_1G_35GIB = H200_141GIB_1G_35GIB = "h200_1g.35gb"
    H200_2G_35GIB = H200_141GIB_2G_35GIB = "h200_2g.35gb"
    H200_3G_71GIB = H200_141GIB_3G_71GIB = "h200_3g.71gb"
    H200_4G_71GIB = H200_141GIB_4G_71GIB = "h200_4g.71gb"

    L40S = L40S_48GIB = "l40s"

    B200 = B200_180GIB = B200_180GIB_7G_180GIB = "b200"
    B200_1G_23GIB = B200_180GIB_1G_23GIB = "b200_1g.23gb"
    B200_1G_45GIB = B200_180GIB_1G_45GIB = "b200_1g.45gb"
    B200_2G_45GIB = B200_180GIB_2G_45GIB = "b200_2g.45gb"
    B200_3G_90GIB = B200_180GIB_3G_90GIB = "b200_3g.90gb"
    B200_4G_90GIB = B200_180GIB_4G_90GIB = "b200_4g.90gb"

    @property
    def is_accelerator(self) -> bool:
        """Whether it is a GPU, or part of one."""
        return self not in {ResourceType.CPU, ResourceType.MEMORY, ResourceType.DISK}


class InvalidTopologyError(ArgumentError):
    """A topology is not of the form ``2`` or ``2x4``."""


class Topology:
    """
    How GPUs are spread: ``"2x4"`` is two in each of four replicas.

    Attributes:
        mesh: As written.
        dimensions: The numbers in it.
        switches: How many leaf switches at most the nodes may hang on.
        switches_grace_period: How long to wait for so few.
    """

    def __init__(
        self,
        mesh: str,
        /,
        *,
        switches: int | None = None,
        switches_grace_period: dt.timedelta | None = None,
    ) -> None:
        """
        Read *mesh*.

        Raises:
            InvalidTopologyError: If it is no topology.
        """
        if not isinstance(mesh, str) or not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*)?", mesh):
            raise InvalidTopologyError(
                f"{mesh!r} is no topology", hint='Write "2" or "2x4": GPUs, then replicas.'
            )
        if switches is not None and (not isinstance(switches, int) or switches < 1):
            raise ArgumentError(f"switches must be a positive whole number, not {switches!r}")
        if switches_grace_period is not None and not isinstance(
            switches_grace_period, dt.timedelta
        ):
            raise ArgumentTypeError(
                f"switches_grace_period must be a timedelta, not {switches_grace_period!r}"
            )
        self.mesh = mesh
        self.dimensions = [int(number) for number in mesh.split("x")]
        self.switches = switches
        self.switches_grace_period = switches_grace_period

    @property
    def chip_count(self) -> int:
        """How many GPUs there are in all."""
        return math.prod(self.dimensions)

    @property
    def ndim(self) -> int:
        """How many numbers the mesh has."""
        return len(self.dimensions)

    def _key(self) -> tuple[object, ...]:
        return (self.mesh, self.switches, self.switches_grace_period)

    def __eq__(self, other: object) -> bool:
        """Whether all is the same."""
        return isinstance(other, Topology) and self._key() == other._key()

    def __hash__(self) -> int:
        """By all that is compared."""
        return hash(self._key())

    def __repr__(self) -> str:
        """As it would be written."""
        return f"Topology({self.mesh!r})"


ResourceQuantity: TypeAlias = "int | float | str | Topology"
ResourceKey: TypeAlias = "ResourceType | str"


class JobRequirements:
    """
    What a job asks of a cluster: ``JobRequirements(cpu=4, ram=16 * xm.GiB, a100=2)``.

    Memory and disk are in bytes. Names that are no `ResourceType` are generic resources of the
    cluster by their own name; ``gpu:TYPE`` is a GPU by the cluster's own name for it.

    Attributes:
        task_requirements: What was asked for, as given.
        replicas: How many copies of the command.
        location: Nodes, as ``sbatch --nodelist`` takes them.
        cluster: By name; ``None`` for the default one.
        accelerator: The GPU that was asked for.
        topology: How GPUs are spread, where that was said.
    """

    def __init__(
        self,
        resources: Mapping[ResourceKey, ResourceQuantity] | None = None,
        *,
        replicas: int | None = None,
        location: str | Iterable[str] | None = None,
        cluster: str | None = None,
        **kw_resources: ResourceQuantity,
    ) -> None:
        """
        Check what is asked for.

        Raises:
            ArgumentError: If a quantity makes no sense, or something is said twice.
        """
        if cluster is not None and not isinstance(cluster, str):
            raise ArgumentTypeError(
                f"cluster must be the name of a configured cluster, not {cluster!r}",
                hint="Describe it in xmslurm-repro.toml; `xmslurm-repro clusters list` shows all.",
            )
        self.cluster = cluster
        self.location = (
            location if location is None or isinstance(location, str) else ",".join(location)
        )
        self.task_requirements: dict[ResourceKey, int | float] = {}
        self.accelerator: ResourceKey | None = None
        self.topology: Topology | None = None
        for name, value in [*(resources or {}).items(), *kw_resources.items()]:
            self._ask(_resource(name), value)
        self.replicas = self._checked_replicas(replicas)

    def _ask(self, resource: ResourceKey, value: ResourceQuantity) -> None:
        if resource in self.task_requirements:
            raise ArgumentError(f"{_name(resource)} is asked for twice")
        quantity, topology = _quantity(resource, value)
        if _is_accelerator(resource):
            if self.accelerator is not None:
                raise ArgumentError(
                    f"both {_name(self.accelerator)} and {_name(resource)} are asked for",
                    hint="A job gets one kind of GPU.",
                )
            self.accelerator, self.topology = resource, topology
        elif topology is not None:
            raise ArgumentError(f"a topology spreads GPUs, and {_name(resource)} is none")
        self.task_requirements[resource] = quantity

    def _checked_replicas(self, replicas: int | None) -> int:
        if replicas is not None and (isinstance(replicas, bool) or not isinstance(replicas, int)):
            raise ArgumentTypeError(f"replicas must be a whole number, not {replicas!r}")
        spread = self.topology.dimensions[1] if self.topology and self.topology.ndim == 2 else None
        if replicas is not None and spread is not None and replicas != spread:
            raise ArgumentError(f"{self.topology} has {spread} replicas, not {replicas}")
        replicas = replicas if replicas is not None else spread or 1
        if replicas < 1:
            raise ArgumentError(f"replicas must be at least 1, not {replicas}")
        return replicas

    def to_resources(
        self,
        defaults: Resources,
        *,
        gpu_types: Mapping[str, str],
        time_limit_minutes: int | None,
        nodes: int | None,
    ) -> Resources:
        """
        The same in our words, over *defaults*.

        Args:
            defaults: What holds where nothing is asked for.
            gpu_types: The cluster's names of GPUs, by the name of a `ResourceType`.
            time_limit_minutes: Wall clock, where said.
            nodes: Over how many nodes, where said.

        Raises:
            ArgumentError: If GPUs cannot be dealt evenly to the replicas.
        """
        said: dict[str, object] = {"replicas": self.replicas}
        for resource, field in (
            (ResourceType.CPU, "cpus"),
            (ResourceType.MEMORY, "memory_mib"),
            (ResourceType.DISK, "disk_mib"),
        ):
            if resource in self.task_requirements:
                said[field] = _whole(resource, self.task_requirements[resource])
        if self.accelerator is not None:
            said["gpus"] = self._gpus_per_replica()
            said["gpu_type"] = _gpu_type(self.accelerator, gpu_types)
        if time_limit_minutes is not None:
            said["time_limit_minutes"] = time_limit_minutes
        if nodes is not None:
            said["nodes"] = nodes
        generic = {**dict(defaults.gres), **self._generic()}
        return replace(defaults, gres=tuple(sorted(generic.items())), **said)  # type: ignore[arg-type]

    def _gpus_per_replica(self) -> int:
        assert self.accelerator is not None  # noqa: S101 (asked by the caller)
        if self.topology is not None:
            return self.topology.dimensions[0]
        count = _whole(self.accelerator, self.task_requirements[self.accelerator])
        if count % self.replicas:
            raise ArgumentError(
                f"{count} GPUs cannot be dealt evenly to {self.replicas} replicas",
                hint='Write a topology such as "2x4": two in each of four replicas.',
            )
        return count // self.replicas

    def _generic(self) -> dict[str, int]:
        return {
            resource: _whole(resource, value)
            for resource, value in self.task_requirements.items()
            if isinstance(resource, str) and not _is_accelerator(resource)
        }

    def options(self) -> dict[str, str]:
        """What of it only the scheduler understands: options of ``sbatch`` by their long names."""
        options = {}
        if self.location:
            options["nodelist"] = self.location
        if self.topology is not None and self.topology.switches is not None:
            wait = self.topology.switches_grace_period
            options["switches"] = f"{self.topology.switches}" + (
                f"@{_minutes(wait)}" if wait else ""
            )
        return options

    def replace(
        self,
        replicas: int | None = None,
        location: str | Iterable[str] | None = None,
        cluster: str | None = None,
        **kw_resources: ResourceQuantity,
    ) -> JobRequirements:
        """The same with some things said anew; another GPU takes the place of the one before."""
        fresh = {_resource(name): value for name, value in kw_resources.items()}
        kept: dict[ResourceKey, ResourceQuantity] = dict(self.task_requirements)
        if self.accelerator is not None and self.topology is not None:
            kept[self.accelerator] = self.topology
        if self.accelerator is not None and any(_is_accelerator(name) for name in fresh):
            del kept[self.accelerator]
        has_spread = any(
            isinstance(v, Topology) and v.ndim == 2 for v in {**kept, **fresh}.values()
        )
        return JobRequirements(
            {**kept, **fresh},
            replicas=replicas if replicas is not None or has_spread else self.replicas,
            location=location if location is not None else self.location,
            cluster=cluster if cluster is not None else self.cluster,
        )

    def __repr__(self) -> str:
        """As it would be written."""
        said = [f"{_name(name).lower()}={v!r}" for name, v in self.task_requirements.items()]
        said += [f"replicas={self.replicas}"] if self.replicas != 1 else []
        said += [f"cluster={self.cluster!r}"] if self.cluster else []
        return f"JobRequirements({', '.join(said)})"


def _resource(name: ResourceKey) -> ResourceKey:
    if isinstance(name, str):
        return ResourceType.__members__.get(name.upper(), name)
    if not isinstance(name, ResourceType):
        raise ArgumentTypeError(f"{name!r} is no resource: give a ResourceType or a name")
    return name


def _name(resource: ResourceKey) -> str:
    return resource.name if isinstance(resource, ResourceType) else resource


def _is_accelerator(resource: ResourceKey) -> bool:
    if isinstance(resource, ResourceType):
        return resource.is_accelerator
    return resource.lower().startswith("gpu:")


def _gpu_type(resource: ResourceKey, gpu_types: Mapping[str, str]) -> str | None:
    if isinstance(resource, str):
        return resource.partition(":")[2]
    if resource is ResourceType.GPU:
        return None
    named = {ResourceType.__members__.get(key.upper()): value for key, value in gpu_types.items()}
    return named.get(resource, str(resource.value))


def _quantity(
    resource: ResourceKey, value: ResourceQuantity
) -> tuple[int | float, Topology | None]:
    value = _number_or_topology(value)
    if isinstance(value, Topology):
        return value.chip_count, value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentTypeError(f"{_name(resource)} must be a number or a Topology, not {value!r}")
    if not math.isfinite(value) or value <= 0:
        raise ArgumentError(f"{_name(resource)} must be more than zero, not {value!r}")
    if resource in {ResourceType.MEMORY, ResourceType.DISK} and value < _MIB:
        raise ArgumentError(
            f"{_name(resource)} is {value} bytes, which is less than a MiB",
            hint=f"It is counted in bytes: for {value} GiB, write `{value} * xm.GiB`.",
        )
    _whole(resource, value)
    return value, None


def _number_or_topology(value: ResourceQuantity) -> int | float | Topology:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return Topology(value)


def _whole(resource: ResourceKey, value: float) -> int:
    """A quantity as we count it: memory and disk in MiB, rounded up, the rest one by one."""
    if resource in {ResourceType.MEMORY, ResourceType.DISK}:
        return math.ceil(value / _MIB)
    if value != int(value):
        raise ArgumentError(f"{_name(resource)} must be a whole number, not {value!r}")
    return int(value)


def _minutes(span: dt.timedelta) -> int:
    return math.ceil(span.total_seconds() / 60)
