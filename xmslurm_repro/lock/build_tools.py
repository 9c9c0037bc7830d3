"""What a source distribution needs to be built, pinned: resolved once, then known by hash."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement

from xmslurm_repro.errors import FetchError, FormatError
from xmslurm_repro.lock.select import read_pylock, select
from xmslurm_repro.lock.target import holds
from xmslurm_repro.lock.uvtool import UvError, compile_requirements
from xmslurm_repro.model.lock import Artifact, Target


def pin_build_tools(requires: Iterable[str], target: Target, where: str) -> tuple[Artifact, ...]:
    """
    The wheels that *requires* (``build-system.requires``) mean today, with all that they need.

    They come from the package index that the user's uv is configured with.

    Raises:
        FormatError: If one is no requirement.
        FetchError: If the index cannot be asked, or has nothing that fits.
        NoWheelError: If one of them has no wheel itself.
    """
    wanted = []
    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise FormatError(f"{where}: build-system.requires: {text!r}: {error}") from error
        if holds(requirement.marker, target, where):
            wanted.append(text)
    if not wanted:
        return ()
    try:
        answer = compile_requirements(sorted(wanted), target.python, with_dependencies=True)
    except UvError as error:
        raise FetchError(
            f"what {where} needs to be built cannot be found: {', '.join(sorted(wanted))}",
            hint="Check the network and the index that uv is configured with.",
            details=error.lines(),
        ) from error
    selection = select(read_pylock(answer, "the answer of uv"), target, where)
    return tuple(pinned.artifact for pinned in selection.files)
