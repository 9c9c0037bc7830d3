"""Parameter controllers: functions that add units and wait for them, for as long as that takes."""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from xmanager import xm

from xmslurm_repro.errors import NotSupportedError

if TYPE_CHECKING:
    from xmslurm_repro.xm.units import SlurmWorkUnit

_log = logging.getLogger(__name__)


class ParameterControllerMode(enum.Enum):
    """Where a controller runs."""

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
    Make a function of an experiment, plain or async, into something to be added to it.

    The function runs in the process of the launch script, beside what the script does next, and
    the end of the experiment's block waits for it. No job takes over from it: jobs have no way to
    the record. So *executable*, *executor*, *controller_args* and *controller_env_vars* have no
    effect, and a script that is killed is to be run again: units that have an identity are taken
    up where they are.

    Raises:
        NotSupportedError: If it is to run on the cluster only.
    """
    del executable, executor, controller_args, controller_env_vars
    if controller_mode is ParameterControllerMode.REMOTE_ONLY:
        raise NotSupportedError(
            f"a parameter controller cannot run on the cluster: {controller_name}",
            hint="Leave out `controller_mode`: then it runs in the launch script, for as long as "
            "that runs.",
        )

    def decorate(function: Callable[..., Any]) -> Callable[..., xm.AuxiliaryUnitJob]:
        @functools.wraps(function)
        def make(*args: Any, **kwargs: Any) -> xm.AuxiliaryUnitJob:
            async def begin(unit: SlurmWorkUnit) -> None:
                _log.info("%s runs in this process; keep it running", controller_name)
                unit.run_beside(_control(function, unit.experiment, *args, **kwargs))

            return xm.AuxiliaryUnitJob(
                begin, importance=xm.Importance.HIGH, termination_delay_secs=0
            )

        return make

    return decorate


async def _control(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    if inspect.iscoroutinefunction(function):
        await function(*args, **kwargs)
    else:
        # It may wait for units, whose events are handled by this loop.
        await asyncio.to_thread(function, *args, **kwargs)
