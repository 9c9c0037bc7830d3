"""Reading what registries serve: image manifests, indexes and configs. Nothing is written here."""

from __future__ import annotations

from xmslurm_repro.errors import ImageError
from xmslurm_repro.model.image import MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST, Descriptor
from xmslurm_repro.model.reader import Reader

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

# The variant of a platform that everything of its architecture can run, best first.
_USUAL_VARIANTS = {"amd64": ("", "v1"), "arm64": ("", "v8")}


def is_index(data: bytes, where: str) -> bool:
    """
    Whether it is an index of images for several platforms.

    Raises:
        ImageError: If it is neither that nor an image manifest.
        FormatError: If it is not JSON.
    """
    document = Reader.of_json(data, where)
    if document.maybe("manifests") is not None:
        return True
    if document.maybe("layers") is None or document.maybe("config") is None:
        raise ImageError(
            f"{where} is no OCI image and no Docker image of schema 2",
            hint="Push it again with a current tool.",
        )
    return False


def media_type(data: bytes, said: str, where: str) -> str:
    """
    What kind of document it is: what it says of itself, else what the registry *said*.

    Some registries serve every image manifest as ``text/plain``; then it is OCI's, which alone
    may be silent about itself.
    """
    own = Reader.of_json(data, where).maybe("mediaType")
    known = (MEDIA_TYPE_MANIFEST, MEDIA_TYPE_INDEX, DOCKER_MANIFEST, DOCKER_INDEX)
    if own is not None:
        return own.text()
    if said in known:
        return said
    return MEDIA_TYPE_INDEX if is_index(data, where) else MEDIA_TYPE_MANIFEST


def choose_platform(data: bytes, architecture: str, where: str) -> Descriptor:
    """
    The image for Linux on *architecture* in an index.

    Raises:
        ImageError: If there is none; lists what there is.
    """
    usual = _USUAL_VARIANTS.get(architecture, ("",))
    offered: list[str] = []
    found: list[tuple[int, int, Descriptor]] = []
    for item in Reader.of_json(data, where).field("manifests").items():
        platform = item.maybe("platform")
        if platform is None:
            continue
        os_, arch = platform.field("os").text(), platform.field("architecture").text()
        variant = platform.maybe("variant")
        name = variant.text() if variant else ""
        if os_ == "unknown":
            continue  # BuildKit's attestations
        offered.append("/".join(part for part in (os_, arch, name) if part))
        if (os_, arch) == ("linux", architecture):
            rank = usual.index(name) if name in usual else len(usual)
            found.append((rank, len(found), Descriptor.from_json(item)))
    if not found:
        raise ImageError(
            f"{where} has no image for linux/{architecture}",
            hint="Choose another base image, or another architecture.",
            details=(f"there is: {', '.join(offered) or 'nothing'}",),
        )
    return min(found, key=lambda entry: entry[:2])[2]


def manifest_blobs(data: bytes, where: str) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """
    The config and the layers, lowest first, that an image manifest names.

    Raises:
        FormatError: If it is no image manifest.
    """
    document = Reader.of_json(data, where)
    layers = tuple(Descriptor.from_json(item) for item in document.field("layers").items())
    return Descriptor.from_json(document.field("config")), layers


def config_architecture(data: bytes, where: str) -> str | None:
    """The architecture that an image config states, if any."""
    found = Reader.of_json(data, f"{where}: config").maybe("architecture")
    return found.text() if found else None
