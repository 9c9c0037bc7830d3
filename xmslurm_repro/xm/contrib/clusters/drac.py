"""Clusters of the Digital Research Alliance of Canada."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xmanager import xm

from xmslurm_repro.xm import config
from xmslurm_repro.xm.accelerators import FeatureType, ResourceType

__all__ = ["fir", "killarney", "narval", "nibi", "rorqual", "tamia", "vulcan"]

_Mounts = Iterable[config.MountSpec] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """
    What is known of one cluster.

    Attributes:
        gpu_types: What it calls its GPUs.
        recommended: CPUs and GiB of memory that go with one GPU.
        has_robot: Whether it has a host for automation, which asks for no second factor.
    """

    name: str
    gpu_types: Mapping[ResourceType, str]
    recommended: Mapping[ResourceType, tuple[int, int]] = field(default_factory=dict)
    has_robot: bool = False
    has_nvlink: bool = False


_R = ResourceType
_LONG_H100 = {
    _R.H100: "h100",
    _R.H100_1G_10GIB: "nvidia_h100_80gb_hbm3_1g.10gb",
    _R.H100_2G_20GIB: "nvidia_h100_80gb_hbm3_2g.20gb",
    _R.H100_3G_40GIB: "nvidia_h100_80gb_hbm3_3g.40gb",
}
_SITES = {
    site.name: site
    for site in (
        _Site(
            name="narval",
            gpu_types={
                _R.A100: "a100",
                _R.A100_1G_5GIB: "a100_1g.5gb",
                _R.A100_2G_10GIB: "a100_2g.10gb",
                _R.A100_3G_20GIB: "a100_3g.20gb",
                _R.A100_4G_20GIB: "a100_4g.20gb",
            },
            recommended={
                _R.GPU: (12, 128),
                _R.A100: (12, 128),
                _R.A100_1G_5GIB: (1, 15),
                _R.A100_2G_10GIB: (3, 31),
                _R.A100_3G_20GIB: (6, 62),
                _R.A100_4G_20GIB: (6, 62),
            },
            has_robot=True,
            has_nvlink=True,
        ),
        _Site(
            name="rorqual",
            gpu_types={
                _R.H100: "h100",
                _R.H100_1G_10GIB: "h100_1g.10gb",
                _R.H100_2G_20GIB: "h100_2g.20gb",
                _R.H100_3G_40GIB: "h100_3g.40gb",
            },
            recommended={
                _R.GPU: (16, 124),
                _R.H100: (16, 124),
                _R.H100_1G_10GIB: (2, 15),
                _R.H100_2G_20GIB: (4, 31),
                _R.H100_3G_40GIB: (8, 62),
            },
            has_robot=True,
            has_nvlink=True,
        ),
        _Site(
            name="fir",
            gpu_types=_LONG_H100,
            recommended={
                _R.GPU: (12, 280),
                _R.H100: (12, 280),
                _R.H100_1G_10GIB: (1, 35),
                _R.H100_2G_20GIB: (3, 70),
                _R.H100_3G_40GIB: (6, 140),
            },
            has_robot=True,
            has_nvlink=True,
        ),
        _Site(
            name="nibi",
            gpu_types=_LONG_H100,
            recommended={
                _R.GPU: (14, 250),
                _R.H100: (14, 250),
                _R.H100_1G_10GIB: (2, 31),
                _R.H100_2G_20GIB: (4, 62),
                _R.H100_3G_40GIB: (6, 124),
            },
            has_robot=True,
            has_nvlink=True,
        ),
        _Site(name="killarney", gpu_types={_R.L40S: "l40s", _R.H100: "h100"}),
        _Site(
            name="tamia",
            gpu_types={_R.H100: "h100"},
            recommended={_R.GPU: (12, 124), _R.H100: (12, 124)},
            has_nvlink=True,
        ),
        _Site(name="vulcan", gpu_types={_R.L40S: "l40s"}),
    )
}


def _cluster(
    name: str, *, user: str | None, account: str | None, proxy: str | None, mounts: _Mounts
) -> config.SlurmClusterConfig:
    site = _SITES[name]
    hosts = [f"robot.{name}.alliancecan.ca"] if site.has_robot else []
    return config.SlurmClusterConfig(
        name=name,
        ssh=config.SSHConfig(
            user=user,
            endpoints=tuple(config.Endpoint(host) for host in (*hosts, f"{name}.alliancecan.ca")),
        ),
        runtime=config.ContainerRuntime.APPTAINER,
        prolog="module load apptainer",
        account=account,
        proxy=proxy,
        mounts=mounts or (),
        resources=site.gpu_types,
        features={FeatureType.NVIDIA_NVLINK: "nvlink"} if site.has_nvlink else {},
        recommended_resources={
            gpu: {_R.CPU: cpus, _R.MEMORY: gib * xm.GiB}
            for gpu, (cpus, gib) in site.recommended.items()
        },
    )


def narval(
    *,
    user: str | None = None,
    account: str | None = None,
    proxy: str | None = None,
    mounts: _Mounts = None,
) -> config.SlurmClusterConfig:
    """Narval. *proxy* and *mounts* must be empty."""
    return _cluster("narval", user=user, account=account, proxy=proxy, mounts=mounts)


def rorqual(
    *,
    user: str | None = None,
    account: str | None = None,
    proxy: str | None = None,
    mounts: _Mounts = None,
) -> config.SlurmClusterConfig:
    """Rorqual. *proxy* and *mounts* must be empty."""
    return _cluster("rorqual", user=user, account=account, proxy=proxy, mounts=mounts)


def fir(
    *, user: str | None = None, account: str | None = None, mounts: _Mounts = None
) -> config.SlurmClusterConfig:
    """Fir. *mounts* must be empty."""
    return _cluster("fir", user=user, account=account, proxy=None, mounts=mounts)


def nibi(
    *, user: str | None = None, account: str | None = None, mounts: _Mounts = None
) -> config.SlurmClusterConfig:
    """Nibi. *mounts* must be empty."""
    return _cluster("nibi", user=user, account=account, proxy=None, mounts=mounts)


def killarney(
    *, user: str | None = None, account: str | None = None, mounts: _Mounts = None
) -> config.SlurmClusterConfig:
    """Killarney. *mounts* must be empty."""
    return _cluster("killarney", user=user, account=account, proxy=None, mounts=mounts)


def tamia(
    *, user: str | None = None, account: str | None = None, mounts: _Mounts = None
) -> config.SlurmClusterConfig:
    """TamIA. *mounts* must be empty."""
    return _cluster("tamia", user=user, account=account, proxy=None, mounts=mounts)


def vulcan(
    *, user: str | None = None, account: str | None = None, mounts: _Mounts = None
) -> config.SlurmClusterConfig:
    """Vulcan. *mounts* must be empty."""
    return _cluster("vulcan", user=user, account=account, proxy=None, mounts=mounts)
