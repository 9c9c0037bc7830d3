"""Choosing one platform's image manifest from an index."""

from __future__ import annotations

from xmslurm_repro.errors import BaseUnreachableError, ImageError
from xmslurm_repro.model.image import MEDIA_TYPE_MANIFEST, Descriptor
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.ports.store import BlobStore

DEFAULT_ARCHITECTURE = "amd64"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

_MAX_DEPTH = 4


def read_manifest(
    found: Descriptor, blobs: BlobStore, architecture: str, what: str
) -> tuple[Descriptor, Reader]:
    """
    Read the image manifest that *found* is, or leads to through indexes for *architecture*.

    Raises:
        ImageError: If it is neither an image manifest nor an index of such.
        BaseUnreachableError: If an index has no Linux image for *architecture*.
    """
    for _ in range(_MAX_DEPTH):
        document = Reader.of_json(blobs.get(found.digest), what)
        media_type = document.maybe("mediaType")
        named = media_type.text() if media_type else found.media_type
        if document.maybe("manifests") is not None:
            found = choose_platform(document, architecture, what)
            continue
        if named not in {MEDIA_TYPE_MANIFEST, DOCKER_MANIFEST} or not document.maybe("layers"):
            raise ImageError(f"{what}: {found.digest} is {named}, no image manifest")
        size_bytes = blobs.size_bytes(found.digest)
        return Descriptor(media_type=named, digest=found.digest, size_bytes=size_bytes), document
    raise ImageError(f"{what}: its indexes lead to indexes without end")


def choose_platform(index: Reader, architecture: str, what: str) -> Descriptor:
    """
    The image manifest for Linux on *architecture* in *index*; the only one, if it does not say.

    Attestations, which BuildKit lists for the platform ``unknown``, do not count. Of several
    variants of the architecture the plain one is taken, which every machine of it can run.

    Raises:
        BaseUnreachableError: If there is none.
    """
    offered: list[str] = []
    unnamed: list[Descriptor] = []
    fitting: list[tuple[str, Descriptor]] = []
    for item in index.field("manifests").items():
        platform = item.maybe("platform")
        if platform is None:
            unnamed.append(Descriptor.from_json(item))
            continue
        system, machine = (platform.field(name).text() for name in ("os", "architecture"))
        if (system, machine) == ("linux", architecture):
            variant = platform.maybe("variant")
            fitting.append((variant.text() if variant else "", Descriptor.from_json(item)))
        elif system != "unknown":
            offered.append(f"{system}/{machine}")
    if fitting:
        # v1 of amd64 and v8 of arm64 are what is meant without a variant; min keeps the first.
        return min(fitting, key=lambda found: found[0].replace("v8", "").replace("v1", ""))[1]
    if not offered and len(unnamed) == 1:
        return unnamed[0]
    raise BaseUnreachableError(
        f"{what} has no image for linux/{architecture}",
        details=[f"there are: {', '.join(sorted(set(offered)))}"] if offered else [],
        hint="Name the digest of one platform's image, or another base image.",
    )
