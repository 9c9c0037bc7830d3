"""From XManager's arguments to the words and variables that a process is given, exactly."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from xmanager import xm

from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError


def words(args: xm.UserArgs | None) -> tuple[str, ...]:
    """
    The words of a command line; no shell ever sees them.

    As `xm.SequentialArgs` says: ``{"lr": 0.1}`` is ``--lr=0.1``, ``True`` is ``--name``,
    ``False`` is ``--noname``, ``None`` leaves the flag out, a list repeats it, a member of an
    enumeration goes by its name.

    Raises:
        ArgumentError: If something asks to be expanded by a shell.
        ArgumentTypeError: If *args* is no collection.
    """
    try:
        sequential = xm.SequentialArgs.from_collection(args)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(str(error)) from error
    return tuple(sequential.to_list(escaper=_word))


def variables(env_vars: Mapping[str, Any] | None) -> dict[str, str]:
    """
    Environment variables with their values as text.

    Raises:
        ArgumentError: If a value is ``None``, or asks to be expanded by a shell.
    """
    result = {}
    for name, value in (env_vars or {}).items():
        if value is None:
            raise ArgumentError(
                f"the environment variable {name} is None",
                hint="Leave it out, or give it the empty string.",
            )
        result[str(name)] = _word(value)
    return result


def _word(value: Any) -> str:
    if isinstance(value, xm.ShellSafeArg):
        raise ArgumentError(
            f"{value.arg!r} is wrapped in xm.ShellSafeArg, and there is no shell to expand it",
            hint="A run gets its arguments exactly as recorded. Expand it in the launch script, or"
            " let the program read the variable.",
        )
    if isinstance(value, bytes):
        raise ArgumentError(
            f"{value!r} is bytes, and arguments are text",
            hint="Decode it in the launch script.",
        )
    word = str(value.name) if isinstance(value, enum.Enum) else str(value)
    if "\0" in word:
        raise ArgumentError(f"{word!r} holds a NUL, which no process can be given")
    return word
