"""Base images: finding one by what the user calls it, once; from then on it goes by digest."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from xmslurm_repro.errors import (
    BaseUnreachableError,
    ImageError,
    MissingObjectError,
    NoBaseImageError,
    UsageError,
)
from xmslurm_repro.image.importing import from_docker_archive, from_docker_daemon, from_layout
from xmslurm_repro.image.inspect import inspect_target
from xmslurm_repro.image.platforms import DEFAULT_ARCHITECTURE, read_manifest
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import (
    MEDIA_TYPE_MANIFEST,
    BaseImage,
    Descriptor,
    Layer,
    LayerKind,
    split_variable,
)
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.ports.progress import Progress, SilentProgress
from xmslurm_repro.ports.store import BlobStore

BASE_PREFIX = "base/"
"""Bases are named ``base/<name>`` in the layout's index."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LAYER_TYPES = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)


def check_base_name(name: str) -> None:
    """
    Refuse a local name that could be taken for a registry's reference.

    Raises:
        UsageError: If *name* is one.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a base image",
            hint="Use letters, digits, dots, dashes and underscores, such as `default`.",
        )


def resolve_base(
    reference: str,
    blobs: BlobStore,
    pull: Callable[[str], Descriptor],
    *,
    work_dir: Path,
    cache_dir: Path | None,
    architecture: str | None = None,
    docker_host: str | None = None,
    progress: Progress | None = None,
) -> BaseImage:
    """
    Find the base that *reference* means and have all of it in *blobs* afterwards.

    Args:
        reference: A local name; ``sha256:…`` of an image manifest that is held; ``oci:PATH`` or
            ``oci:PATH:NAME``; ``docker-daemon:NAME``; ``docker-archive:PATH``; else a
            registry's, with or without ``docker://``.
        blobs: Where the base is kept.
        pull: Fetches all blobs of a registry's reference and returns the image manifest's
            (or index's) descriptor.
        work_dir: For large temporary files.
        cache_dir: Remembers what bases offer; ``None`` looks into every layer again.
        architecture: As OCI says it; picks from a multi-platform image, and the one that is
            found must be of it. By default amd64 is picked and anything accepted.
        docker_host: URL of the Docker engine; ``None`` for the usual socket.
        progress: Where to report.

    Raises:
        NoBaseImageError: If a local name or digest names nothing.
        BaseUnreachableError: If it cannot be read from where it is said to be.
        ImageError: If it is no image that a job could run.
    """
    wanted = architecture or DEFAULT_ARCHITECTURE
    found = _local(reference, blobs)
    if found is None:
        scheme, _, rest = reference.partition(":")
        if scheme == "oci":
            found = from_layout(rest, blobs, wanted)
        elif scheme == "docker-daemon":
            found = from_docker_daemon(rest, blobs, work_dir, docker_host)
        elif scheme == "docker-archive":
            found = from_docker_archive(Path(rest), blobs)
        else:
            found = pull(reference.removeprefix("docker://"))
    shown = progress or SilentProgress()
    base = read_base(reference, found, blobs, wanted, cache_dir=cache_dir, progress=shown)
    if architecture and base.architecture != architecture:
        raise BaseUnreachableError(
            f"the base image {reference} is for {base.architecture}, not {architecture}",
            hint="Name a base image for that architecture.",
        )
    return base


def read_base(
    reference: str,
    found: Descriptor,
    blobs: BlobStore,
    architecture: str,
    *,
    cache_dir: Path | None,
    progress: Progress,
) -> BaseImage:
    """
    Read the base whose image manifest or index *found* is, all of it in *blobs*.

    Raises:
        ImageError: If it is no Linux image, or has layers that we cannot read.
        MissingObjectError: If a blob is not there.
    """
    manifest, document = read_manifest(found, blobs, architecture, f"base image {reference}")
    config = Descriptor.from_json(document.field("config"))
    settings = Reader.of_json(blobs.get(config.digest), f"config of {reference}")
    _check_linux(settings, reference)
    layers = _layers(document, settings, reference)
    for layer in layers:
        if not blobs.has(layer.blob.digest):
            raise MissingObjectError(str(layer.blob.digest), needed_by=f"base image {reference}")
    inner = settings.maybe("config")
    texts = inner.maybe("Env") if inner else None
    env = tuple(split_variable(text) for text in texts.texts()) if texts else ()
    machine = settings.field("architecture").text()
    target = inspect_target(
        blobs,
        manifest=manifest.digest,
        layers=layers,
        architecture=machine,
        env=env,
        cache_dir=cache_dir,
        progress=progress,
    )
    return BaseImage(
        reference=reference,
        manifest=manifest,
        config=config,
        architecture=machine,
        target=target,
        env=env,
        layers=layers,
    )


def _local(reference: str, blobs: BlobStore) -> Descriptor | None:
    """What is held here by that name or digest; ``None`` if it must be somewhere else."""
    hint = (
        "Make one with `xmslurm-repro base create`, or name one with "
        "`--base REGISTRY/NAME@sha256:…`."
    )
    if not reference:
        raise NoBaseImageError("no base image is configured", hint=hint)
    named = blobs.ref(BASE_PREFIX + reference)
    if named is not None:
        return named
    if reference.startswith("sha256:"):
        try:
            digest = Digest.parse(reference)
        except ValueError as error:
            raise NoBaseImageError(f"{reference} is no digest: {error}", hint=hint) from error
        if not blobs.has(digest):
            raise NoBaseImageError(f"the store holds no base image {reference}", hint=hint)
        return Descriptor(
            media_type=MEDIA_TYPE_MANIFEST, digest=digest, size_bytes=blobs.size_bytes(digest)
        )
    if not set(reference) & set("/:@"):
        known = [
            name.removeprefix(BASE_PREFIX) for name in blobs.refs() if name.startswith(BASE_PREFIX)
        ]
        raise NoBaseImageError(
            f"no base image is called {reference!r}",
            hint=hint,
            details=[f"there are: {', '.join(known)}"] if known else [],
        )
    return None


def _check_linux(settings: Reader, reference: str) -> None:
    system = settings.maybe("os")
    if system is None or system.text() != "linux":
        found = system.text() if system else "nothing in particular"
        raise ImageError(f"the base image {reference} is for {found}, not for Linux")


def _layers(document: Reader, settings: Reader, reference: str) -> tuple[Layer, ...]:
    blobs = [Descriptor.from_json(item) for item in document.field("layers").items()]
    diff_ids = [item.digest() for item in settings.field("rootfs").field("diff_ids").items()]
    problems = [
        f"layer {blob.digest} is {blob.media_type}"
        for blob in blobs
        if blob.media_type not in _LAYER_TYPES
    ]
    if len(blobs) != len(diff_ids):
        problems.append(f"{len(blobs)} layers, but {len(diff_ids)} DiffIDs in its config")
    if problems:
        raise ImageError(f"the base image {reference} cannot be built upon", details=problems)
    return tuple(
        Layer(
            kind=LayerKind.BASE,
            title=f"base {number} of {len(blobs)}",
            diff_id=diff_id,
            blob=blob,
        )
        for number, (blob, diff_id) in enumerate(zip(blobs, diff_ids, strict=True), start=1)
    )
