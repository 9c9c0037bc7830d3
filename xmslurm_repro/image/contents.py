"""The packages of a base image, as Debian's or Alpine's database in its layers lists them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xmslurm_repro.errors import FormatError
from xmslurm_repro.image.cache import DocumentCache
from xmslurm_repro.image.rootfs import RootView, read_root
from xmslurm_repro.model.contents import Contents, SystemPackage
from xmslurm_repro.model.image import BaseImage
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore

# Distroless images have a file for each package, and beside it lists of checksums.
_STATUS = re.compile(r"var/lib/dpkg/status(?:\.d/[^/]+(?<!\.md5sums))?")
_ALPINE = re.compile(r"(?:usr/)?lib/apk/db/installed")
_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_KIND = "contents-1"
"""The part of the cache for what this version finds; a better way of looking needs a new one."""


def read_contents(
    base: BaseImage, blobs: BlobStore, cache_dir: Path | None, progress: Progress
) -> Contents:
    """
    List what is installed in *base*; its layers are read, and checked, once per *cache_dir*.

    Returns:
        The packages; none for a distribution whose database we cannot read, such as RPM's.

    Raises:
        ImageError: If a layer cannot be read.
        DigestMismatchError: If a layer is damaged.
    """
    cache = DocumentCache(cache_dir) if cache_dir else None
    known = cache.get(_KIND, base.manifest.digest.hex) if cache else None
    if known is not None:
        try:
            return Contents.from_json(known)
        except FormatError:
            pass
    total = sum(layer.blob.size_bytes for layer in base.layers)
    task = progress.start("Reading base image", total=total)
    try:
        view = read_root(blobs, base.layers, _is_wanted, task)
    finally:
        task.finish()
    found = contents_of(view)
    if cache:
        cache.put(_KIND, base.manifest.digest.hex, found.to_json())
    return found


def contents_of(view: RootView) -> Contents:
    """What the databases in *view* list."""
    packages: set[SystemPackage] = set()
    for path in sorted(view.files):
        text = view.files[path].decode("utf-8", "replace")
        if _STATUS.fullmatch(path):
            packages.update(_debian(text))
        elif _ALPINE.fullmatch(path):
            packages.update(_alpine(text))
    release = next((data for path in _OS_RELEASE if (data := view.content(path))), b"")
    said = dict(
        re.findall(r"""(?m)^(ID|VERSION_ID)=["']?([^"'\n]*)""", release.decode("utf-8", "replace"))
    )
    return Contents(
        distribution=said.get("ID", ""),
        release=said.get("VERSION_ID", ""),
        packages=tuple(sorted(packages, key=lambda one: (one.name, one.architecture, one.version))),
    )


def _is_wanted(path: str) -> bool:
    known = _STATUS.fullmatch(path) or _ALPINE.fullmatch(path)
    return bool(known) or f"/{path}" in _OS_RELEASE


def _debian(text: str) -> Iterator[SystemPackage]:
    pattern = re.compile(r"^(Package|Version|Architecture|Status): *(.*)$", re.MULTILINE)
    for paragraph in text.split("\n\n"):
        fields = dict(pattern.findall(paragraph))
        # deb822: no status at all in distroless images; what was removed may have left settings.
        gone = fields.get("Status", "").endswith(("config-files", "not-installed"))
        if "Package" in fields and "Version" in fields and not gone:
            yield SystemPackage(
                kind="deb",
                name=fields["Package"],
                version=fields["Version"],
                architecture=fields.get("Architecture", ""),
            )


def _alpine(text: str) -> Iterator[SystemPackage]:
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^([PVA]):(.*)$", paragraph, re.MULTILINE))
        if "P" in fields and "V" in fields:
            yield SystemPackage(
                kind="apk", name=fields["P"], version=fields["V"], architecture=fields.get("A", "")
            )
