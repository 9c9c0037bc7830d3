"""From settings to tools: the only place that picks implementations."""

from __future__ import annotations

from xmslurm_repro.wiring.clusters import read_host_keys
from xmslurm_repro.wiring.tools import open_tools

__all__ = ["open_tools", "read_host_keys"]
