"""Where the launch script is, and the project around it."""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from xmslurm_repro.xm.faults import ArgumentError

_SIGNS = (
    "pyproject.toml", "uv.lock", "pylock.toml", "requirements.txt", "requirements.in", "setup.py",
    "setup.cfg", ".venv",
)  # fmt: skip


def launch_script() -> Path | None:
    """
    The launch script that this process runs, as an absolute path.

    ``--xm_launch_script``, which both XManager's ``launch`` and ours set, outranks the command
    line. ``None`` in an interactive session.
    """
    known = flags.FLAGS
    told = known["xm_launch_script"].value if "xm_launch_script" in known else None
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    candidates = (told, sys.argv[0] if sys.argv[0].endswith(".py") else None, main)
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return Path(candidate).resolve()
    return None


def launch_folder() -> Path:
    """The launch script's folder; in an interactive session the current one."""
    script = launch_script()
    return script.parent if script else Path().absolute()


def find_project_root() -> Path:
    """
    The nearest folder, from the launch script's upwards, that looks like a Python project.

    Raises:
        ArgumentError: If there is none.
    """
    start = launch_folder()
    for folder in (start, *start.parents):
        if any((folder / sign).exists() for sign in _SIGNS):
            return folder
    raise ArgumentError(
        f"no Python project was found in {start} or above it",
        hint="Say where it is: `context=pathlib.Path(…)`.",
    )
