"""Types of what launch scripts pass around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from xmanager import xm


class JobArgs(TypedDict, total=False):
    """What one trial of a sweep adds to a job."""

    args: xm.UserArgs
    env_vars: Mapping[str, Any]


def entrypoint_words(entrypoint: xm.ModuleName | xm.CommandList) -> tuple[str, ...]:
    """
    The command that an entrypoint stands for: ``python`` with a module, or with what is listed.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(entrypoint, xm.ModuleName):
        return ("python", "-m", entrypoint.module_name)
    if isinstance(entrypoint, xm.CommandList):
        return ("python", *entrypoint.commands)
    raise TypeError(f"an entrypoint is an xm.ModuleName or an xm.CommandList, not {entrypoint!r}")
