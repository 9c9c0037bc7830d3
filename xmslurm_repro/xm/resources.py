"""What a job asks of a cluster, in XManager's words."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from xmslurm_repro.model.work import Resources
from xmslurm_repro.xm.accelerators import (
    AcceleratorType,
    FeatureType,
    NVGPUAcceleratorType,
    ResourceType,
)
from xmslurm_repro.xm.config import SlurmClusterConfig
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError

__all__ = [
    "AcceleratorType",
    "FeatureType",
    "InvalidTopologyError",
    "JobRequirements",
    "NVGPUAcceleratorType",
    "ResourceKey",
    "ResourceQuantity",
    "ResourceType",
    "Topology",
]

_MIB = 1 << 20


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
        cluster: By name, or as a value; ``None`` for the default one.
        accelerator: The GPU that was asked for.
        topology: How GPUs are spread, where that was said.
    """

    def __init__(
        self,
        resources: Mapping[ResourceKey, ResourceQuantity] | None = None,
        *,
        replicas: int | None = None,
        location: str | Iterable[str] | None = None,
        cluster: str | SlurmClusterConfig | None = None,
        **kw_resources: ResourceQuantity,
    ) -> None:
        """
        Check what is asked for.

        Raises:
            ArgumentError: If a quantity makes no sense, or something is said twice.
        """
        if cluster is not None and not isinstance(cluster, str | SlurmClusterConfig):
            raise ArgumentTypeError(
                f"cluster must be a configured cluster's name or a config.SlurmClusterConfig,"
                f" not {cluster!r}",
                hint="`xmslurm-repro clusters list` shows all that are configured.",
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

    @property
    def cluster_name(self) -> str | None:
        """The cluster by its name; ``None`` for the default one."""
        return self.cluster.name if isinstance(self.cluster, SlurmClusterConfig) else self.cluster

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
        wanted = {**self._recommended(), **self.task_requirements}
        for resource, field in (
            (ResourceType.CPU, "cpus"),
            (ResourceType.MEMORY, "memory_mib"),
            (ResourceType.DISK, "disk_mib"),
        ):
            if resource in wanted:
                said[field] = _whole(resource, wanted[resource])
        if self.accelerator is not None:
            said["gpus"] = self._gpus_per_replica()
            said["gpu_type"] = _gpu_type(self.accelerator, gpu_types)
        if time_limit_minutes is not None:
            said["time_limit_minutes"] = time_limit_minutes
        if nodes is not None:
            said["nodes"] = nodes
        generic = {**dict(defaults.gres), **self._generic()}
        return replace(defaults, gres=tuple(sorted(generic.items())), **said)  # type: ignore[arg-type]

    def _recommended(self) -> Mapping[ResourceKey, int | float]:
        """What the cluster's description says goes with the GPUs of a replica."""
        if self.accelerator is None or not isinstance(self.cluster, SlurmClusterConfig):
            return {}
        gpus = self._gpus_per_replica()
        each = self.cluster.recommended(self.accelerator)
        return {resource: amount * gpus for resource, amount in each.items()}

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
        cluster: str | SlurmClusterConfig | None = None,
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
        said += [f"cluster={self.cluster_name!r}"] if self.cluster else []
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
