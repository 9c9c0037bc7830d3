"""A base image from a Dockerfile: built by a Docker engine, then made canonical.

The engine's own result differs each time: times, the order of files, ids of containers. What is
kept has none of these, so a Dockerfile whose steps write the same files gives one digest. The
layers of the image that it builds ``FROM`` are kept as they are wherever the engine tells which
these are, and made canonical too where it does not (BuildKit, Podman). Tried with Docker 20.10's
own builder and Podman 4.3.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from xmslurm_repro.errors import BaseUnreachableError, ImageError, UsageError
from xmslurm_repro.image.base import BASE_PREFIX, check_base_name
from xmslurm_repro.image.documents import CREATED, image_manifest
from xmslurm_repro.image.heredocs import translate_heredocs
from xmslurm_repro.image.importing import (
    DEFAULT_DOCKER,
    TIMEOUT_SECONDS,
    knock,
    open_member,
    read_member,
    store_layer,
)
from xmslurm_repro.image.layer import LayerWriter
from xmslurm_repro.image.root_tar import RootTar
from xmslurm_repro.model.canonical import Json, canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.dockerfile import BuildOptions
from xmslurm_repro.model.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Layer,
    LayerKind,
)
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.snapshot import EntryKind
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore, Tree
from xmslurm_repro.store.compressed import open_uncompressed
from xmslurm_repro.store.tar import TarWriter

if TYPE_CHECKING:
    from docker import APIClient

_CHUNK = 1 << 20
_SHOWN_LINES = 12
_NOISE = re.compile(
    r"""
    (?:.*/)?__pycache__/[^/]+\.pyc          # knows its source's time, which is gone
    | var/log/.*\.log(?:\.xz)?
    | var/cache/apt/.*\.bin | var/cache/ldconfig/aux-cache | var/cache/debconf/.*-old
    | var/lib/apt/lists/(?!\.wh\.).+
    """,
    re.VERBOSE,
)
"""What package managers leave of the time and the machine, and nothing that runs reads."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PLATFORM = ("architecture", "os", "os.version", "os.features", "variant")
_SETTINGS = (
    *("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels"),
    *("StopSignal", "Healthcheck", "Shell", "OnBuild", "ArgsEscaped"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerBuild:
    """
    What to build.

    Attributes:
        tree: The snapshot.
        folder: The context in it; the empty text is all of it.
        options: What the engine is told.
    """

    tree: Tree
    folder: str = ""
    options: BuildOptions = field(default_factory=BuildOptions)

    @property
    def dockerfile(self) -> str:
        """From the context."""
        return self.options.dockerfile


def build_dockerfile(
    name: str,
    wanted: DockerBuild,
    blobs: BlobStore,
    *,
    work_dir: Path,
    docker_host: str | None,
    progress: Progress,
) -> Descriptor:
    """
    Build a Dockerfile and call the result, made canonical, *name*.

    Args:
        name: What to call the base.
        wanted: What to build.
        blobs: Where it goes.
        work_dir: For the context and the engine's archive, while they are needed.
        docker_host: URL of the engine; ``None`` for the usual socket.
        progress: Where to report.

    Returns:
        The image manifest.

    Raises:
        UsageError: If *name* cannot be one, or the snapshot has no such Dockerfile.
        BaseUnreachableError: If the engine cannot be reached.
        ImageError: If a step fails; its last lines are among the details.
    """
    # Imported here: docker-py costs 150 ms, and most launches never need it.
    from docker import APIClient  # noqa: PLC0415
    from docker.errors import DockerException  # noqa: PLC0415

    check_base_name(name)
    url = docker_host or DEFAULT_DOCKER
    work_dir.mkdir(parents=True, exist_ok=True)
    task = progress.start(f"Building base image {name}", unit="steps")
    try:
        with (
            tempfile.TemporaryDirectory(dir=work_dir) as folder,
            tempfile.TemporaryFile(dir=work_dir) as context,
        ):
            _write_context(wanted, context)
            knock(url)
            with closing(APIClient(base_url=url, timeout=TIMEOUT_SECONDS)) as engine:
                image_id = _run_build(engine, wanted, context)
                kept = _base_layer_count(engine, image_id)
                saved = Path(folder, "saved.tar")
                with saved.open("wb") as stream:
                    for chunk in engine.get_image(image_id, chunk_size=_CHUNK):
                        stream.write(chunk)
            manifest = _make_canonical(saved, kept, blobs, Path(folder))
    except (DockerException, OSError) as error:
        raise BaseUnreachableError(
            f"the Docker engine at {url} cannot build",
            details=[f"caused by: {error}"],
            hint="Check with `docker info` that it runs and that you may use it; DOCKER_HOST "
            "names another one.",
        ) from error
    finally:
        task.finish()
    blobs.set_ref(BASE_PREFIX + name, manifest)
    return manifest


def _write_context(wanted: DockerBuild, stream: BinaryIO) -> None:
    """The part of the snapshot that the engine gets, as ``docker build`` would choose it."""
    from docker.utils.build import PatternMatcher  # noqa: PLC0415

    prefix = f"{wanted.folder}/".encode() if wanted.folder else b""
    place = prefix.decode("utf-8", "surrogateescape")
    text = wanted.tree.read(f"{place}{wanted.dockerfile}")
    if text is None:
        raise UsageError(
            f"the snapshot has no {place}{wanted.dockerfile}",
            hint="Name it with `--file`, from the context; what git ignores is not captured.",
        )
    ignored = (wanted.tree.read(f"{place}.dockerignore") or b"").decode("utf-8", "replace")
    lines = (line.strip() for line in ignored.splitlines())
    # The engine needs its Dockerfile in any case.
    matcher = PatternMatcher([*(x for x in lines if x and x[0] != "#"), f"!{wanted.dockerfile}"])
    writer = TarWriter(stream.write)
    replaced = _without_heredocs(text, wanted.dockerfile)
    for name, data in replaced.items():
        writer.file(name.encode("utf-8", "surrogateescape"), len(data), False, BytesIO(data))
    for entry in wanted.tree.entries():
        path = entry.path.removeprefix(prefix)
        if path.decode("utf-8", "surrogateescape") in replaced:
            continue
        shown = path.decode("utf-8", "replace")
        if not entry.path.startswith(prefix) or matcher.matches(shown):  # type: ignore[arg-type]
            continue
        with wanted.tree.open(entry.digest) as source:
            if entry.kind is EntryKind.SYMLINK:
                writer.symlink(path, source.read())
            else:
                executable = entry.kind is EntryKind.EXECUTABLE
                writer.file(path, entry.size_bytes, executable, source)
    writer.finish()
    stream.seek(0)


def _without_heredocs(text: bytes, dockerfile: str) -> dict[str, bytes]:
    """The Dockerfile in other words and the files that it then needs, by path; none for most."""
    translated = translate_heredocs(text.decode("utf-8", "surrogateescape"))
    if translated is None:
        return {}
    said = translated.text.encode("utf-8", "surrogateescape")
    return {**translated.files, dockerfile: said}


def _run_build(engine: APIClient, wanted: DockerBuild, context: BinaryIO) -> str:
    """Let the engine build; return the image's id."""
    options = wanted.options
    events = engine.build(
        fileobj=context,
        custom_context=True,
        dockerfile=wanted.dockerfile,
        nocache=not options.use_cache,
        network_mode=options.network,
        target=options.target or "",
        labels=dict(options.labels) or None,
        cache_from=list(options.cache_from) or None,
        rm=True,
        forcerm=True,
        # Python and others then write what does not depend on the time.
        buildargs={"SOURCE_DATE_EPOCH": "1", **dict(options.arguments)},
        decode=True,
    )
    said: list[str] = []
    image_id = None
    for event in events:
        lines = _COLOUR.sub("", str(event.get("stream", ""))).splitlines()
        said = [*said, *(line.strip() for line in lines if line.strip())][-_SHOWN_LINES:]
        if "error" in event:
            message = str(event["error"]).strip()
            raise ImageError(f"{wanted.dockerfile} cannot be built: {message}", details=said)
        aux = event.get("aux")
        if isinstance(aux, dict) and "ID" in aux:
            image_id = str(aux["ID"])
    if image_id is None:
        raise ImageError(f"the engine built {wanted.dockerfile} and does not say what came of it")
    return image_id


def _base_layer_count(engine: APIClient, image_id: str) -> int:
    """How many layers were there before the first step; 0 if the engine does not tell."""
    about: dict[str, Any] = engine.inspect_image(image_id)  # type: ignore[no-untyped-call]
    top = about
    while about.get("Parent"):
        about = engine.inspect_image(about["Parent"])  # type: ignore[no-untyped-call]
    # Without a name it is itself a step, of a build from scratch.
    is_named = about.get("RepoTags") or about.get("RepoDigests")
    if about is top or not is_named:
        return 0
    below, above = (each["RootFS"].get("Layers") or [] for each in (about, top))
    return len(below) if above[: len(below)] == below else 0


def _make_canonical(saved: Path, kept: int, blobs: BlobStore, work_dir: Path) -> Descriptor:
    what = "the engine's image"
    with tarfile.TarFile.open(saved, mode="r:") as archive:
        index = Reader.of_json(read_member(archive, "manifest.json", what), what)
        [image] = index.items()
        config = Reader.of_json(read_member(archive, image.field("Config").text(), what), what)
        diff_ids = [item.digest() for item in config.field("rootfs").field("diff_ids").items()]
        names = image.field("Layers").texts()
        layers = []
        for number, (name, diff_id) in enumerate(zip(names, diff_ids, strict=True), start=1):
            with open_member(archive, name, what) as source:
                if number <= kept:
                    found = diff_id, store_layer(source, diff_id, blobs, f"{what}: {name}")
                else:
                    found = _canonical_layer(source, blobs, work_dir)
            title = f"base {number} of {len(names)}"
            layers.append(Layer(kind=LayerKind.BASE, title=title, diff_id=found[0], blob=found[1]))
    data = _canonical_config(config, layers)
    described = Descriptor(
        media_type=MEDIA_TYPE_CONFIG, digest=blobs.put(data), size_bytes=len(data)
    )
    document = image_manifest(described, layers)
    return Descriptor(
        media_type=MEDIA_TYPE_MANIFEST, digest=blobs.put(document), size_bytes=len(document)
    )


def _canonical_layer(
    source: BinaryIO, blobs: BlobStore, work_dir: Path
) -> tuple[Digest, Descriptor]:
    with tempfile.NamedTemporaryFile(dir=work_dir) as layer:
        plain = open_uncompressed(source)
        while chunk := plain.read(_CHUNK):
            layer.write(chunk)
        layer.flush()
        root = RootTar(Path(layer.name), keep=lambda name: not _NOISE.fullmatch(name))
        with closing(root), blobs.writer() as blob:
            writer = LayerWriter(blob)
            root.write(writer, {}, whole=False)
            return writer.commit()


def _canonical_config(config: Reader, layers: Sequence[Layer]) -> bytes:
    """The config without times, containers and empty values."""
    document: dict[str, Json] = {"created": CREATED}
    for name in _PLATFORM:
        if (member := config.maybe(name)) is not None:
            document[name] = member.value
    settings = config.maybe("config")
    found = {name: settings.maybe(name) for name in _SETTINGS} if settings else {}
    kept = {name: member.value for name, member in found.items() if member is not None}
    document["config"] = {name: value for name, value in kept.items() if value not in ("", [], {})}
    document["rootfs"] = {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]}
    document["history"] = list(_canonical_history(config))
    return canonical_json(document)


def _canonical_history(config: Reader) -> Iterator[Json]:
    history = config.maybe("history")
    for entry in history.items() if history else ():
        told: dict[str, Json] = {"created": CREATED}
        for name in ("created_by", "comment", "empty_layer"):
            member = entry.maybe(name)
            if member is not None and member.value != "":
                told[name] = member.value
        yield told
