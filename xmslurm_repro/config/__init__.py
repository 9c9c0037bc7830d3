"""The settings: what files and the environment say, read once, with everything wrong named."""

from __future__ import annotations

from xmslurm_repro.config.editing import keep_file, with_cluster
from xmslurm_repro.config.folders import file_to_write
from xmslurm_repro.config.load import cluster_settings_in_files, load_settings
from xmslurm_repro.config.settings import (
    LOCAL,
    ClusterSettings,
    ProxySettings,
    RegistrySettings,
    Settings,
)

__all__ = [
    "LOCAL",
    "ClusterSettings",
    "ProxySettings",
    "RegistrySettings",
    "Settings",
    "cluster_settings_in_files",
    "file_to_write",
    "keep_file",
    "load_settings",
    "with_cluster",
]
