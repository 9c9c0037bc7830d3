"""From a list of Debian packages to exact ones, for one base."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from xmslurm_repro.errors import FetchError, SystemPackagesError, UsageError
from xmslurm_repro.lock.debian_archive import (
    host_apt_files,
    parse_source,
    read_packages,
    sources_of,
)
from xmslurm_repro.lock.debian_resolve import Package, installed_packages, resolve_packages
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.transport.http import Http

# Debian's names of architectures that OCI calls otherwise.
_ARCHITECTURES = {"arm": "armhf", "386": "i386", "ppc64le": "ppc64el", "mips64le": "mips64el"}
_REQUEST = re.compile(r"[a-z0-9][a-z0-9.+-]*(?:=[A-Za-z0-9.+:~-]+)?")


def resolve_system(
    requested: Sequence[str],
    files: Mapping[str, bytes],
    architecture: str,
    *,
    http: Http,
    sources: Sequence[str],
    suite: str | None,
    is_trusted: bool,
    progress: Progress,
) -> tuple[tuple[str, ...], tuple[Artifact, ...]]:
    """
    Resolve *requested* against the archives of a base; see `ports.images.LockSource`.

    Args:
        requested: ``NAME`` or ``NAME=VERSION``.
        files: The base's: package database, os-release, and what apt is configured with.
        architecture: The base's, as OCI says it.
        http: The door to the network.
        sources: Lines of sources.list(5); none for the base's own.
        suite: The suite, where *sources* is empty and the base does not say it.
        is_trusted: Believe archives without a signature that can be checked.
        progress: Where to report.
    """
    bad = [word for word in requested if not _REQUEST.fullmatch(word)]
    if bad:
        raise UsageError(
            f"{', '.join(map(repr, bad))}: no name of a Debian package, or NAME=VERSION"
        )
    installed = installed_packages(files)
    if not installed:
        raise SystemPackagesError(
            "the base image has no database of Debian packages",
            hint="Only bases of Debian, Ubuntu and their kin take system packages. Put them into "
            "the base by a Dockerfile: `xmslurm-repro base build`.",
        )
    debian = _ARCHITECTURES.get(architecture, architecture)
    chosen = [parse_source(line) for line in sources] or sources_of(files, host_apt_files(), suite)
    task = progress.start("Reading package lists", unit="lists")
    try:
        offered = read_packages(chosen, debian, http=http, files=files, is_trusted=is_trusted)
    finally:
        task.finish()
    packages = resolve_packages(requested, installed, offered, debian)
    return tuple(map(str, chosen)), tuple(map(_artifact, packages))


def _artifact(package: Package) -> Artifact:
    fields = package.fields
    if not re.fullmatch(r"[0-9a-f]{64}", fields.get("SHA256", "")):
        raise FetchError(f"the archive gives no SHA-256 for {package.name} {package.version}")
    size = fields.get("Size", "")
    return Artifact(
        name=package.name,
        version=package.version,
        filename=fields["Filename"].rpartition("/")[2],
        sha256=Digest.sha256(fields["SHA256"]),
        url=fields["URL"],
        size_bytes=int(size) if size.isdecimal() else None,
    )
