"""
Clusters of Mila (docs.mila.quebec) and of the Digital Research Alliance of Canada
(docs.alliancecan.ca).

No host keys are pinned here: they would have to be kept up to date by somebody who can vouch for
them. A host is accepted by the user's ``known_hosts``; compare the fingerprint with the one that
the site publishes when ``ssh`` asks for the first time.
"""

from __future__ import annotations

from collections.abc import Iterable

from xmslurm_repro.xm import config
from xmslurm_repro.xm.accelerators import FeatureType, ResourceType
from xmslurm_repro.xm.contrib.clusters import drac

cc = drac

__all__ = ["cc", "drac", "mila"]


def mila(
    *,
    user: str | None = None,
    partition: str | None = None,
    mounts: Iterable[config.MountSpec] | None = None,
) -> config.SlurmClusterConfig:
    """
    Mila's cluster.

    Raises:
        NotSupportedError: If *mounts* are given.
    """
    return config.SlurmClusterConfig(
        name="mila",
        ssh=config.SSHConfig(
            user=user, endpoints=(config.Endpoint("login.server.mila.quebec", 2222),)
        ),
        runtime=config.ContainerRuntime.SINGULARITY,
        prolog="module load singularity",
        partition=partition,
        mounts=mounts or (),
        resources={
            ResourceType.RTX8000: "rtx8000",
            ResourceType.V100: "v100",
            ResourceType.A100: "a100",
            ResourceType.A100_80GIB: "a100l",
            ResourceType.A6000: "a6000",
            ResourceType.L40S: "l40s",
            ResourceType.H100: "h100",
        },
        features={FeatureType.NVIDIA_NVLINK: "nvlink"},
    )
