"""Types of what launch scripts pass around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from xmanager import xm


class JobArgs(TypedDict, total=False):
    """What one trial of a sweep adds to a job."""

    args: xm.UserArgs
    env_vars: Mapping[str, Any]


def entrypoint_words(entrypoint: xm.ModuleName | xm.CommandList) -> tuple[str, ...]:
    """
    The command that an entrypoint stands for.

    A module is run by ``python -m``. A command list means one of two things. To ``xm_slurm`` its
    words follow ``python``, as in ``["train.py"]``; to XManager's own executors each is a command
    line, as in ``["make data", "python train.py"]``. Lines are told by the first: it has several
    words, and begins with neither an option nor a ``.py`` file. They are run one after another
    until one fails; the job's arguments follow the last, unless a line says ``$@`` itself.

    Raises:
        TypeError: If it is neither a module nor a command list.
        ValueError: If the list is empty.
    """
    if isinstance(entrypoint, xm.ModuleName):
        return ("python", "-m", entrypoint.module_name)
    if isinstance(entrypoint, xm.CommandList):
        if not entrypoint.commands:
            raise ValueError("the command list is empty")
        if _is_command_line(entrypoint.commands[0]):
            return _shell_words(entrypoint.commands)
        return ("python", *entrypoint.commands)
    raise TypeError(f"an entrypoint is an xm.ModuleName or an xm.CommandList, not {entrypoint!r}")


def _is_command_line(text: str) -> bool:
    first, *more = text.split()
    return bool(more) and not first.startswith("-") and not first.endswith(".py")


def _shell_words(lines: Sequence[str]) -> tuple[str, ...]:
    script = "\n".join(lines)
    if "$@" not in script:
        script += ' "$@"'
    return ("sh", "-e", "-c", script, "sh")


def get_args_for_python_entrypoint(
    entrypoint: xm.ModuleName | xm.CommandList,
) -> xm.SequentialArgs:
    """What follows ``python`` for an entrypoint of words: ``-m module``, or the words."""
    words = entrypoint_words(entrypoint)
    return xm.SequentialArgs.from_collection(words[1:])
