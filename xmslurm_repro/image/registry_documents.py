"""Reading what registries serve: image manifests, indexes and configs. Nothing is written here."""

from __future__ import annotations

from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.platforms import DOCKER_LIST, DOCKER_MANIFEST
from xmslurm_repro.model.image import MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST, Descriptor
from xmslurm_repro.model.reader import Reader


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
    known = (MEDIA_TYPE_MANIFEST, MEDIA_TYPE_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
    if own is not None:
        return own.text()
    if said in known:
        return said
    return MEDIA_TYPE_INDEX if is_index(data, where) else MEDIA_TYPE_MANIFEST


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
