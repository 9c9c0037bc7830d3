"""The settings: what files and the environment say, read once, with everything wrong named."""

from __future__ import annotations

from xmslurm_repro.config.load import load_settings
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
    "load_settings",
]
