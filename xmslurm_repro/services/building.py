"""Source distributions that a launch was asked to build: once, and then known by hash."""

from __future__ import annotations

from dataclasses import replace

from xmslurm_repro.errors import ImageError, NotSupportedError
from xmslurm_repro.model.image import BaseImage, Image, Recipe
from xmslurm_repro.model.lock import Artifact, Lock, Target
from xmslurm_repro.ports.images import WheelNeeds
from xmslurm_repro.services.tools import Tools

_ROUNDS = 3
"""How often a build backend may ask for more."""


def with_built(tools: Tools, lock: Lock, base: BaseImage, bare: Recipe) -> Lock:
    """
    *lock* with a wheel for each of its source distributions, built in what *bare* describes.

    A wheel that was built before, of the same source in the same image, is taken again.

    Raises:
        NotSupportedError: If the packages are for another Python than the base's.
        ImageError: If one cannot be built.
    """
    if not lock.sdists:
        return lock
    if lock.target is not None or base.target is None or tools.wheels is None:
        raise NotSupportedError(
            f"{lock.path} has source distributions for a Python that the base image does not have",
            hint="Lock wheels of them, or conda packages.",
            details=[f"{one.name} {one.version}: {one.filename}" for one in lock.sdists],
        )
    image = tools.builder.build(bare, base, None, tools.progress)
    wheels = [_wheel(tools, sdist, image, base.target) for sdist in lock.sdists]
    artifacts = sorted((*lock.artifacts, *wheels), key=lambda one: one.name)
    return replace(lock, artifacts=tuple(artifacts), sdists=())


def _wheel(tools: Tools, sdist: Artifact, image: Image, target: Target) -> Artifact:
    assert tools.wheels is not None  # noqa: S101 (with_built has asked)
    known = tools.wheels.known(sdist, image, target)
    if known is not None:
        return known
    tools.locks.fetch([sdist], progress=tools.progress)
    requires = tools.wheels.requires(sdist)
    for _ in range(_ROUNDS):
        needed = tools.locks.build_tools(requires, target, sdist.filename)
        tools.locks.fetch(needed, progress=tools.progress)
        task = tools.progress.start(f"Building {sdist.name}", total=None)
        try:
            made = tools.wheels.build(sdist, image, target, needed)
        finally:
            task.finish()
        if not isinstance(made, WheelNeeds):
            return made
        requires = made.requires
    raise ImageError(f"{sdist.filename} asks for more and more to be built with")
