"""Bringing base images in from OCI layouts, docker archives and a Docker engine."""

from __future__ import annotations

import socket
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from xmslurm_repro.errors import (
    BaseUnreachableError,
    DigestMismatchError,
    ImageError,
    MissingObjectError,
)
from xmslurm_repro.image.documents import image_manifest
from xmslurm_repro.image.layer import LayerWriter
from xmslurm_repro.image.platforms import choose_platform, read_manifest
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Layer,
    LayerKind,
)
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.ports.store import BlobStore
from xmslurm_repro.store.layout import DiskBlobStore

_CHUNK = 1 << 20
TIMEOUT_SECONDS = 600
DEFAULT_DOCKER = "unix:///var/run/docker.sock"


def from_layout(place: str, blobs: BlobStore, architecture: str) -> Descriptor:
    """
    Copy an image out of the OCI layout *place*, ``PATH`` or ``PATH:NAME``, blobs as they are.

    Raises:
        BaseUnreachableError: If there is no such layout or name, or it is not whole.
    """
    path, name = _part_place(place)
    what = f"the OCI layout {path}"
    layout = DiskBlobStore(path)
    try:
        index = Reader.of_json((path / "index.json").read_bytes(), f"{what}: index.json")
    except OSError as error:
        raise BaseUnreachableError(
            f"{what} cannot be read: {error.strerror}",
            hint="Give the folder that holds `oci-layout` and `index.json`.",
        ) from error
    if name:
        found = layout.ref(name)
        if found is None:
            known = ", ".join(layout.refs()) or "none"
            raise BaseUnreachableError(
                f"{what} has no image called {name!r}", details=[f"there are: {known}"]
            )
    else:
        found = choose_platform(index, architecture, what)
    try:
        manifest, document = read_manifest(found, layout, architecture, what)
        parts = [document.field("config"), *document.field("layers").items()]
        for part in parts:
            copy_blob(layout, blobs, Descriptor.from_json(part).digest)
        copy_blob(layout, blobs, manifest.digest)
    except (MissingObjectError, DigestMismatchError) as error:
        raise BaseUnreachableError(f"{what} is not whole: {error.message}") from error
    return manifest


def copy_blob(source: BlobStore, target: BlobStore, digest: Digest) -> None:
    """
    Copy a blob unless *target* has it, and check it on the way.

    Raises:
        MissingObjectError: If *source* does not have it.
        DigestMismatchError: If it is damaged there.
    """
    if target.has(digest):
        return
    with source.open(digest) as stream, target.writer() as writer:
        while chunk := stream.read(_CHUNK):
            writer.write(chunk)
        writer.commit(expected=digest)


def from_docker_archive(path: Path, blobs: BlobStore) -> Descriptor:
    """
    Bring in what ``docker save`` or ``podman save`` wrote.

    Raises:
        BaseUnreachableError: If it cannot be read, or holds more than one image.
    """
    try:
        with tarfile.TarFile.open(path, mode="r:") as archive:
            return _import_archive(archive, blobs, f"the docker archive {path}")
    except (OSError, tarfile.TarError) as error:
        raise BaseUnreachableError(
            f"the docker archive {path} cannot be read: {error}",
            hint="Write it with `docker save --output FILE IMAGE`.",
        ) from error


def from_docker_daemon(
    name: str, blobs: BlobStore, work_dir: Path, docker_host: str | None
) -> Descriptor:
    """
    Bring in an image that a Docker engine holds.

    Layers are framed by us, since the engine keeps them uncompressed or compresses them anew;
    the config, and with it the image's id, stays.

    Raises:
        BaseUnreachableError: If the engine cannot be asked or does not hold the image.
    """
    # Imported here: docker-py costs 150 ms, and most launches never need it.
    from docker import DockerClient  # noqa: PLC0415
    from docker.errors import DockerException, ImageNotFound  # noqa: PLC0415

    url = docker_host or DEFAULT_DOCKER
    work_dir.mkdir(parents=True, exist_ok=True)
    try:
        knock(url)
        with (
            closing(DockerClient(base_url=url, timeout=TIMEOUT_SECONDS)) as client,
            tempfile.NamedTemporaryFile(dir=work_dir) as saved,
        ):
            for chunk in client.images.get(name).save(chunk_size=_CHUNK):
                saved.write(chunk)
            saved.flush()
            return from_docker_archive(Path(saved.name), blobs)
    except ImageNotFound as error:
        raise BaseUnreachableError(
            f"the Docker engine at {url} has no image {name!r}",
            hint=f"Bring it there first: `docker pull {name}`.",
        ) from error
    except (DockerException, OSError) as error:
        raise BaseUnreachableError(
            f"the Docker engine at {url} cannot be asked for {name!r}",
            details=[f"caused by: {error}"],
            hint="Check with `docker info` that it runs and that you may use it.",
        ) from error


def knock(url: str) -> None:
    """Raise `OSError` if nobody answers at the socket *url*."""
    # docker-py leaves its socket open when nobody answers.
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(url.removeprefix("unix://"))


def _import_archive(archive: tarfile.TarFile, blobs: BlobStore, what: str) -> Descriptor:
    images = list(Reader.of_json(read_member(archive, "manifest.json", what), what).items())
    if len(images) != 1:
        raise BaseUnreachableError(f"{what} holds {len(images)} images instead of one")
    config_data = read_member(archive, images[0].field("Config").text(), what)
    config = Reader.of_json(config_data, f"config in {what}")
    diff_ids = [item.digest() for item in config.field("rootfs").field("diff_ids").items()]
    names = images[0].field("Layers").texts()
    if len(names) != len(diff_ids):
        raise ImageError(f"{what} has {len(names)} layers, but {len(diff_ids)} DiffIDs")
    layers = []
    for number, (name, diff_id) in enumerate(zip(names, diff_ids, strict=True), start=1):
        with open_member(archive, name, what) as source:
            blob = store_layer(source, diff_id, blobs, f"{what}: {name}")
        title = f"base {number} of {len(names)}"
        layers.append(Layer(kind=LayerKind.BASE, title=title, diff_id=diff_id, blob=blob))
    described = Descriptor(
        media_type=MEDIA_TYPE_CONFIG, digest=blobs.put(config_data), size_bytes=len(config_data)
    )
    manifest = image_manifest(described, layers)
    return Descriptor(
        media_type=MEDIA_TYPE_MANIFEST, digest=blobs.put(manifest), size_bytes=len(manifest)
    )


def store_layer(source: BinaryIO, diff_id: Digest, blobs: BlobStore, what: str) -> Descriptor:
    """
    Keep a layer as it is: compressed by others, or framed by us and checked against *diff_id*.

    Raises:
        BaseUnreachableError: If it is damaged.
    """
    head = source.read(2)
    source.seek(0)
    if head == b"\x1f\x8b":
        # Compressed by whoever wrote the archive: kept. Its DiffID is checked when it is read.
        with blobs.writer() as writer:
            while chunk := source.read(_CHUNK):
                writer.write(chunk)
            digest, size_bytes = writer.commit()
        return Descriptor(media_type=MEDIA_TYPE_LAYER_GZIP, digest=digest, size_bytes=size_bytes)
    with blobs.writer() as writer:
        layer = LayerWriter(writer)
        while chunk := source.read(_CHUNK):
            layer.write(chunk)
        got, blob = layer.commit(end=b"")
    if got != diff_id:
        raise BaseUnreachableError(f"{what} is damaged: its DiffID is {got}, not {diff_id}")
    return blob


def read_member(archive: tarfile.TarFile, name: str, what: str) -> bytes:
    """The content of *name*; raises as `open_member`."""
    with open_member(archive, name, what) as stream:
        return stream.read()


def open_member(archive: tarfile.TarFile, name: str, what: str) -> BinaryIO:
    """
    Open the file *name*, through links.

    Raises:
        BaseUnreachableError: If it is not there; *what* says in what.
    """
    try:
        # Follows links, as which docker before version 25 saves a layer that stands twice.
        found = archive.extractfile(name)
    except KeyError:
        found = None
    if found is None:
        raise BaseUnreachableError(f"{what} has no {name}")
    return found  # type: ignore[return-value] # IO[bytes] is what BinaryIO says


def _part_place(place: str) -> tuple[Path, str]:
    if Path(place).is_dir():
        return Path(place), ""
    path, colon, name = place.partition(":")
    return Path(path), name if colon else ""
