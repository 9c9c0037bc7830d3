"""System packages beyond the base's: locked by one command, looked up by every launch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from xmslurm_repro.errors import SystemPackagesError
from xmslurm_repro.model.image import BaseImage
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.model.system import SYSTEM_LOCK, SystemLock, SystemSet, normal_request
from xmslurm_repro.ports.store import Tree
from xmslurm_repro.services.tools import Tools

_FILES = (
    r"var/lib/dpkg/status(?:\.d/[^/]+(?<!\.md5sums))?|(?:etc|usr/lib)/os-release"
    r"|etc/apt/(?:sources\.list(?:\.d/.*)?|trusted\.gpg\.d/.*|keyrings/.*)"
    r"|usr/share/keyrings/.*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSources:
    """
    Where packages come from, where the base does not say it or something else is wanted.

    Attributes:
        lines: Of sources.list(5).
        suite: Such as ``sid``.
        is_trusted: Believe archives without a signature that can be checked.
    """

    lines: tuple[str, ...] = ()
    suite: str | None = None
    is_trusted: bool = False


def lock_system(
    tools: Tools, requested: Sequence[str], base: BaseImage, sources: SystemSources
) -> SystemSet:
    """
    Resolve *requested* on *base*, and fetch what it comes to.

    Raises:
        SystemPackagesError: If it cannot be installed there.
        FetchError: If it cannot be had.
    """
    words = normal_request(tuple(requested))
    files = tools.bases.files(base, _FILES, progress=tools.progress)
    lines, packages = tools.locks.resolve_system(
        words,
        files,
        base.architecture,
        sources=sources.lines,
        suite=sources.suite,
        is_trusted=sources.is_trusted,
        progress=tools.progress,
    )
    tools.locks.fetch(packages, progress=tools.progress)
    return SystemSet(
        base=base.manifest.digest,
        base_reference=base.reference,
        requested=words,
        sources=lines,
        packages=packages,
    )


def locked_system(
    tools: Tools, tree: Tree, folder: str, wanted: tuple[str, ...] | None, base: BaseImage
) -> tuple[Artifact, ...]:
    """
    What *wanted*, or else the configured list, means on *base*, as the snapshot's lock says.

    Raises:
        SystemPackagesError: If no lock, from *folder* up to the root, says it.
    """
    words = normal_request(tools.defaults.system_packages if wanted is None else wanted)
    if not words:
        return ()
    seen = []
    place = PurePosixPath(folder)
    for parent in (place, *place.parents):
        path = str(parent / SYSTEM_LOCK)
        data = tree.read(path)
        if data is not None:
            lock = SystemLock.parse(data, path)
            found = lock.find(base.manifest.digest, words)
            if found is not None:
                return found.packages
            seen += [f"{path}: {' '.join(o.requested)} on {o.base_reference}" for o in lock.sets]
    raise SystemPackagesError(
        f"the system packages {' '.join(words)} are not locked for the base image {base.reference}",
        details=[f"looked for: {base.manifest.digest}", *(seen or [f"there is no {SYSTEM_LOCK}"])],
        hint=f"Run `xmslurm-repro base lock --base {shlex.quote(base.reference)} "
        f"{shlex.join(words)}` and keep what it writes in the project.",
    )
