"""Parameter controllers: named, so that scripts can be read, and refused."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

from xmanager import xm

from xmslurm_repro.errors import NotSupportedError


class ParameterControllerMode(enum.Enum):
    """Where a controller would run."""

    AUTO = "auto"
    REMOTE_ONLY = "remote-only"


def parameter_controller(
    *,
    executable: xm.Executable,
    executor: xm.Executor,
    controller_mode: ParameterControllerMode = ParameterControllerMode.AUTO,
    controller_name: str = "parameter_controller",
    controller_args: xm.UserArgs | None = None,
    controller_env_vars: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., xm.AuxiliaryUnitJob]]:
    """
    Refuse: a job has no way to the record, and could add no units to it.

    Raises:
        NotSupportedError: Always.
    """
    del executable, executor, controller_mode, controller_args, controller_env_vars
    raise NotSupportedError(
        f"a parameter controller cannot run on the cluster: {controller_name}",
        hint="Call the function from the launch script, inside the experiment's block: it may add "
        "units and wait for them as long as the script runs.",
    )
