"""Kinds of resources, and the GPUs among them by name."""

from __future__ import annotations

import enum
from collections.abc import Iterator


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


class _Subset(type):
    """Makes a class stand for some members of `ResourceType`."""

    members: frozenset[ResourceType]

    def __contains__(cls, item: object) -> bool:
        """Whether it is one of them."""
        return isinstance(item, ResourceType) and item in cls.members

    def __instancecheck__(cls, item: object) -> bool:
        """Likewise."""
        return item in cls

    def __iter__(cls) -> Iterator[ResourceType]:
        """In the order of `ResourceType`."""
        return (member for member in ResourceType if member in cls.members)

    def __len__(cls) -> int:
        """How many there are."""
        return len(cls.members)

    def __getitem__(cls, name: str) -> ResourceType:
        """Find a member by its name."""
        found = ResourceType.__members__.get(name)
        if found is None or found not in cls.members:
            raise KeyError(name)
        return found

    def __getattr__(cls, name: str) -> ResourceType:
        """Find a member by its name."""
        try:
            return cls[name]
        except KeyError:
            raise AttributeError(f"{cls.__name__} has no member {name}") from None


class AcceleratorType(metaclass=_Subset):
    """The GPUs, and parts of GPUs, among `ResourceType`; use it with ``in`` or ``isinstance``."""

    members = frozenset(kind for kind in ResourceType if kind.is_accelerator)


class NVGPUAcceleratorType(metaclass=_Subset):
    """Those of NVIDIA: all that name a model."""

    members = frozenset(AcceleratorType.members - {ResourceType.GPU})


class FeatureType(enum.Enum):
    """What nodes of a cluster may have. For the maps of `config.SlurmClusterConfig` only."""

    NVIDIA_NVLINK = "nvlink"
