"""Finding where a wheel is to be had, when all that is known is its name and its hash."""

from __future__ import annotations

import platform
import re

from xmslurm_repro.errors import FetchError
from xmslurm_repro.lock.select import read_pylock
from xmslurm_repro.lock.uvtool import UvError, compile_requirements
from xmslurm_repro.model.lock import Artifact

_INTERPRETER = re.compile(r"-(?:cp|py)(\d)(\d+)-[^-]+-[^-]+\.whl$")


def locate_by_uv(artifact: Artifact) -> str | None:
    """
    The URL of *artifact* on the package index that the user's uv is configured with.

    A manifest names wheels by hash only: this is how a replay finds them again.

    Returns:
        The URL; ``None`` if the index has no such file.

    Raises:
        FetchError: If the index cannot be asked.
    """
    found = _INTERPRETER.search(artifact.filename)
    python = f"{found[1]}.{found[2]}" if found else platform.python_version()
    wanted = f"{artifact.name}=={artifact.version}"
    try:
        lock = read_pylock(compile_requirements([wanted], python), "the answer of uv")
    except UvError as error:
        raise FetchError(f"uv finds no {wanted}: {' '.join(error.lines())}") from error
    for wheel in (wheel for package in lock.packages for wheel in package.wheels or ()):
        if wheel.hashes.get("sha256") == artifact.sha256.hex:
            return wheel.url
    return None
