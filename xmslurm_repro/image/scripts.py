"""Commands that packages bring: entry points become scripts, scripts get our interpreter."""

from __future__ import annotations

import configparser
import re

from xmslurm_repro.model.image import VENV_DIR

SHEBANG = f"#!{VENV_DIR}/bin/python\n".encode()

_GROUPS = ("console_scripts", "gui_scripts")
_TARGET = re.compile(
    r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*:\s*"
    r"(?P<function>[^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*(?:\[[^\]]*\])?"
)
_NAME = re.compile(r"[^\s/\0=][^/\0=]*")


def console_scripts(text: str) -> dict[str, bytes]:
    """
    Read ``entry_points.txt`` and write a script for each command, by its name.

    Raises:
        ValueError: If it cannot be read, or a command has no function to call.
    """
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names keep their case
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(" ".join(str(error).split())) from error
    scripts = {}
    for group in _GROUPS:
        for name, target in parser.items(group) if parser.has_section(group) else ():
            scripts[name] = _script(name, target)
    return scripts


def with_our_shebang(content: bytes) -> bytes:
    """Let a script that begins with ``#!python`` or ``#!pythonw`` run under our interpreter."""
    if not content.startswith(b"#!python"):
        return content
    _, _, rest = content.partition(b"\n")
    return SHEBANG + rest


def _script(name: str, target: str) -> bytes:
    found = _TARGET.fullmatch(target.strip())
    if found is None or not _NAME.fullmatch(name) or name in {".", ".."}:
        raise ValueError(f"{name!r} = {target!r} names no function")
    function = found["function"]
    body = (
        "import sys\n\n"
        f"from {found['module']} import {function.partition('.')[0]}\n\n"
        'if __name__ == "__main__":\n'
        f"    sys.exit({function}())\n"
    )
    return SHEBANG + body.encode()
