"""Running a launch script the way XManager's own ``xmanager launch`` does."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import app
from xmanager import xm
from xmanager.xm import utils as _defines_xm_launch_script  # noqa: F401 (a flag)

from xmslurm_repro.errors import RunFailedError, UsageError


def run_launch_script(path: Path, argv: Sequence[str]) -> None:
    """
    Import the launch script at *path* and run its ``main`` under absl, with *argv* as its flags.

    The script's folder is on the import path for as long as it runs, as it is for
    ``python script.py``.

    Raises:
        SystemExit: When ``main`` has returned, with its value as the status: absl ends programs.
        RunFailedError: If ``main`` lets the failure of a work unit pass.
        UsageError: If there is no such script, or it has no ``main``.
    """
    script = Path(path).absolute()
    if not script.is_file():
        raise UsageError(f"there is no launch script {path}")
    folder = str(script.parent)
    sys.path.insert(0, folder)
    try:
        main = getattr(_imported(script), "main", None)
        if not callable(main):
            raise UsageError(
                f"the launch script {path} has no function `main`",
                hint="Define `def main(argv): …`, as for `xmanager launch`.",
            )
        words = [str(path), f"--xm_launch_script={script}", *argv]
        app.run(_started(main), argv=words)
    except xm.ExperimentUnitError as error:
        raise RunFailedError(str(error)) from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _imported(script: Path) -> ModuleType:
    """
    The script as a module of its own name; under another where that name is taken.

    It is always loaded from its path: a script called ``test.py`` is not the standard library's.
    """
    name = script.stem if script.stem not in sys.modules else f"launch_script_{script.stem}"
    spec = importlib.util.spec_from_file_location(name, script)
    if spec is None or spec.loader is None:
        raise UsageError(f"{script} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _started(main: Any) -> Any:
    if not inspect.iscoroutinefunction(main):
        return main
    return lambda argv: asyncio.run(main(argv))
