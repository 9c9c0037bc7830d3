"""
The XManager adapter.

A launch script written for ``xm_slurm`` imports this in its place::

    import xmslurm_repro.xm as xm_slurm
"""

from __future__ import annotations

from xmslurm_repro.xm import console as _console  # noqa: F401 (scripts say xm_slurm.console)
from xmslurm_repro.xm.executables import Dockerfile, DockerImage
from xmslurm_repro.xm.executors import Slurm, SlurmSpec
from xmslurm_repro.xm.experiment import SlurmExperiment
from xmslurm_repro.xm.job_blocks import JobArgs
from xmslurm_repro.xm.opening import (
    create_experiment,
    get_current_experiment,
    get_current_work_unit,
    get_experiment,
)
from xmslurm_repro.xm.packageables import (
    conda_container,
    docker_container,
    docker_image,
    mamba_container,
    python_container,
    uv_container,
)
from xmslurm_repro.xm.resources import JobRequirements, ResourceQuantity, ResourceType, Topology

__all__ = [
    "DockerImage",
    "Dockerfile",
    "JobArgs",
    "JobRequirements",
    "ResourceQuantity",
    "ResourceType",
    "Slurm",
    "SlurmExperiment",
    "SlurmSpec",
    "Topology",
    "conda_container",
    "create_experiment",
    "docker_container",
    "docker_image",
    "get_current_experiment",
    "get_current_work_unit",
    "get_experiment",
    "mamba_container",
    "python_container",
    "uv_container",
]
