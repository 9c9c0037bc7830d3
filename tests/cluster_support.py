"""Small images and submissions for tests of clusters."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import (
    LAYOUT,
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Image,
    Layer,
    LayerKind,
    Recipe,
)
from xmslurm_repro.model.run import RunId
from xmslurm_repro.model.work import Network, Resources
from xmslurm_repro.ports.cluster import Submission, Task

PROGRAMS = (
    "bash", "cat", "chmod", "env", "find", "head", "id", "ln", "ls", "mkdir", "mkfifo", "rm", "seq",
    "sha256sum", "sleep", "sort", "stat", "tail", "touch", "true", "uname", "wc",
)  # fmt: skip

ENV = (("HOME", "/tmp"), ("LC_ALL", "C"), ("PATH", "/usr/bin:/bin"), ("TZ", "UTC"))


class RealClock:
    """The time of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Blobs:
    """Blobs in memory; as much of `BlobStore` as a cluster reads."""

    def __init__(self) -> None:
        self.held: dict[Digest, bytes] = {}

    def put(self, data: bytes) -> Digest:
        digest = Digest.sha256(hashlib.sha256(data).hexdigest())
        self.held[digest] = data
        return digest

    def has(self, digest: Digest) -> bool:
        return digest in self.held

    def get(self, digest: Digest) -> bytes:
        return self.held[digest]

    def open(self, digest: Digest) -> BinaryIO:
        return io.BytesIO(self.held[digest])

    def size_bytes(self, digest: Digest) -> int:
        return len(self.held[digest])


Files = Mapping[str, bytes | tuple[str, str] | None]
"""Path to content; ``None`` for a folder, ``("link", target)`` for a link."""


def layer_tar(files: Files, *, executables: Sequence[str] = ()) -> bytes:
    """A layer's tar."""
    target = io.BytesIO()
    with tarfile.TarFile(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.mtime = 1
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            elif isinstance(content, tuple):
                member.type, member.linkname = tarfile.SYMTYPE, content[1]
                tar.addfile(member)
            else:
                member.size = len(content)
                member.mode = (
                    0o755
                    if path in executables or path.startswith(("usr/bin/", "usr/lib"))
                    else 0o644
                )
                tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def with_parents(files: Files) -> dict[str, bytes | tuple[str, str] | None]:
    """Add the folders above *files*."""
    every: dict[str, bytes | tuple[str, str] | None] = dict(files)
    for path in files:
        for parent in Path(path).parents:
            if str(parent) != ".":
                every.setdefault(str(parent), None)
    return every


def base_files(*, extra_files: int = 0) -> dict[str, bytes | tuple[str, str] | None]:
    """A shell and its friends, from this machine, with the libraries that they need."""
    files: dict[str, bytes | tuple[str, str] | None] = {
        "bin": ("link", "usr/bin"),
        "lib": ("link", "usr/lib"),
        "lib64": ("link", "usr/lib64"),
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
        "etc/group": b"root:x:0:\n",
        "tmp": None,
        "proc": None,
        "dev": None,
        "sys": None,
        "root": None,
        "xm/outputs": None,
        "xm/pycache": None,
        "usr/bin/sh": ("link", "bash"),
    }
    libraries: set[str] = set()
    for program in PROGRAMS:
        found = shutil.which(program, path="/usr/bin:/bin")
        assert found, f"{program} is not on this machine"
        files[f"usr/bin/{program}"] = Path(found).resolve().read_bytes()
        shown = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
        libraries |= {word for word in shown.split() if word.startswith("/")}
    for library in sorted(libraries):
        path = "usr" + library if library.startswith("/lib") else library.lstrip("/")
        files[path] = Path(library).read_bytes()
    for number in range(extra_files):
        files[f"usr/share/many/{number % 100}/{number}"] = b"%d\n" % number
    return with_parents(files)


def make_layer(blobs: Blobs, tar: bytes, kind: LayerKind, title: str) -> Layer:
    """Keep a layer's blob."""
    data = gzip.compress(tar, 1, mtime=0)
    digest = blobs.put(data)
    return Layer(
        kind=kind,
        title=title,
        diff_id=Digest.sha256(hashlib.sha256(tar).hexdigest()),
        blob=Descriptor(media_type=MEDIA_TYPE_LAYER_GZIP, digest=digest, size_bytes=len(data)),
    )


def make_image(blobs: Blobs, layers: Sequence[Layer]) -> Image:
    """An image of *layers*."""
    config = canonical_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/bin:/bin"]},
            "history": [{"created_by": layer.title} for layer in layers],
            "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
        }
    )
    config_descriptor = Descriptor(
        media_type=MEDIA_TYPE_CONFIG, digest=blobs.put(config), size_bytes=len(config)
    )
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_MANIFEST,
            "config": config_descriptor.to_json(),
            "layers": [layer.blob.to_json() for layer in layers],
        }
    )
    digest = blobs.put(manifest)
    return Image(
        manifest=Descriptor(
            media_type=MEDIA_TYPE_MANIFEST, digest=digest, size_bytes=len(manifest)
        ),
        config=config_descriptor,
        architecture="amd64",
        layers=tuple(layers),
        env=(("PATH", "/usr/bin:/bin"),),
        recipe=Recipe(
            layout=LAYOUT,
            base=digest,
            base_reference="test",
            target=None,
            artifacts=(),
            snapshot=None,
        ),
    )


def shell_image(blobs: Blobs, *, code: Files | None = None, extra_files: int = 0) -> Image:
    """An image with a shell, and *code* below ``/xm/code``."""
    layers = [
        make_layer(blobs, layer_tar(base_files(extra_files=extra_files)), LayerKind.BASE, "base")
    ]
    files = with_parents({f"xm/code/{path}": content for path, content in (code or {}).items()})
    if code:
        layers.append(make_layer(blobs, layer_tar(files), LayerKind.CODE, "code"))
    return make_image(blobs, layers)


def submission(
    image: Image,
    *commands: Sequence[str],
    token: str,
    env: Sequence[tuple[str, str]] = ENV,
    workdir: str = "/xm/code",
    **changes: object,
) -> Submission:
    """A submission of *commands*, one task each."""
    values: dict[str, object] = {
        "title": "a test",
        "resources": Resources(),
        "network": Network.NONE,
        **changes,
    }
    return Submission(
        token=token,
        image=image,
        workdir=workdir,
        tasks=tuple(
            Task(run_id=RunId(token=token, task=number), argv=tuple(argv), env=tuple(env))
            for number, argv in enumerate(commands)
        ),
        **values,  # type: ignore[arg-type]
    )


@contextmanager
def scratch_state(path: Path) -> Iterator[Path]:
    """A state folder that is removed even where its modes forbid it."""
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield path
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", str(path)], check=False)
        shutil.rmtree(path, ignore_errors=True)
