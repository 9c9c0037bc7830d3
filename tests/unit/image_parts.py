"""Small wheels, trees and bases to build images from."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import zipfile

from installer import install
from installer.destinations import WheelDestination
from installer.records import RecordEntry
from installer.sources import WheelFile

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import (
    LAYOUT,
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_MANIFEST,
    BaseImage,
    Descriptor,
    Layer,
    Recipe,
)
from xmslurm_repro.model.lock import Artifact, Target
from xmslurm_repro.model.snapshot import EntryKind, PathEntry
from xmslurm_repro.store.hashing import blake3_digest

TARGET = Target(
    architecture="amd64",
    libc=("glibc", 2, 36),
    python="3.11.2",
    python_executable="/usr/bin/python3.11",
    source="a test",
)
SITE = "xm/venv/lib/python3.11/site-packages"


def sha(data: bytes) -> Digest:
    return Digest.sha256(hashlib.sha256(data).hexdigest())


def wheel(
    name="demo",
    version="1.0",
    files=None,
    *,
    modes=None,
    record=None,
    method=zipfile.ZIP_DEFLATED,
    extra=(),
    wheel_version="1.0",
) -> bytes:
    """
    A wheel with *files*; *record* changes lines of its RECORD (``None`` drops one), *extra*
    are members (ZipInfo, bytes) that are not recorded unless *record* says so.
    """
    info = f"{name}-{version}.dist-info"
    contents = dict(files or {f"{name}/__init__.py": b"x = 1\n"})
    contents.setdefault(f"{info}/METADATA", f"Name: {name}\nVersion: {version}\n".encode())
    contents.setdefault(
        f"{info}/WHEEL", f"Wheel-Version: {wheel_version}\nTag: py3-none-any\n".encode()
    )
    lines = {}
    for path, data in contents.items():
        encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        quoted = f'"{path}"' if "," in path else path
        lines[path] = f"{quoted},sha256={encoded},{len(data)}"
    lines[f"{info}/RECORD"] = f"{info}/RECORD,,"
    for path, line in (record or {}).items():
        if line is None:
            lines.pop(path)
        else:
            lines[path] = line
    contents[f"{info}/RECORD"] = "\n".join(lines.values()).encode() + b"\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, data in contents.items():
            member = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            member.external_attr = (0o100000 | (modes or {}).get(path, 0o644)) << 16
            member.compress_type = method
            archive.writestr(member, data)
        for member, data in extra:
            archive.writestr(member, data)
    return out.getvalue()


def put_wheel(blobs, data: bytes, name="demo", version="1.0") -> Artifact:
    return Artifact(
        name=name,
        version=version,
        filename=f"{name}-{version}-py3-none-any.whl",
        sha256=blobs.put(data),
    )


def base(blobs, *, target=TARGET, config=None, layers=()) -> BaseImage:
    document = config or {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin", "LANG=C"]},
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
    }
    config_data = json.dumps(document).encode()
    config_blob = Descriptor(
        media_type=MEDIA_TYPE_CONFIG, digest=blobs.put(config_data), size_bytes=len(config_data)
    )
    manifest_data = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_MANIFEST,
            "config": config_blob.to_json(),
            "layers": [layer.blob.to_json() for layer in layers],
        }
    ).encode()
    return BaseImage(
        reference="test",
        manifest=Descriptor(
            media_type=MEDIA_TYPE_MANIFEST,
            digest=blobs.put(manifest_data),
            size_bytes=len(manifest_data),
        ),
        config=config_blob,
        architecture="amd64",
        target=target,
        env=tuple(
            tuple(text.split("=", 1)) for text in (document.get("config") or {}).get("Env") or ()
        ),
        layers=tuple(layers),
    )


def recipe(base_image: BaseImage, artifacts=(), tree=None) -> Recipe:
    return Recipe(
        layout=LAYOUT,
        base=base_image.manifest.digest,
        base_reference=base_image.reference,
        target=base_image.target,
        artifacts=tuple(sorted(artifacts, key=lambda artifact: artifact.name)),
        snapshot=tree.root if tree else None,
    )


class DictTree:
    """A captured tree from path -> content; ``*path`` is executable, ``@path`` a link."""

    def __init__(self, files: dict[str | bytes, bytes]) -> None:
        self._files: dict[bytes, tuple[EntryKind, bytes]] = {}
        for name, data in files.items():
            path = name.encode() if isinstance(name, str) else name
            kind = {b"*": EntryKind.EXECUTABLE, b"@": EntryKind.SYMLINK}.get(path[:1])
            self._files[path[1:] if kind else path] = (kind or EntryKind.FILE, data)
        self.opened: list[Digest] = []

    @property
    def root(self) -> Digest:
        lines = [f"{e.kind.value} {e.digest} {e.path!r}" for e in self.entries()]
        return Digest.blake3(hashlib.sha256("\n".join(lines).encode()).hexdigest())

    def entries(self):
        return [
            PathEntry(path=path, kind=kind, digest=_name(data), size_bytes=len(data))
            for path, (kind, data) in sorted(self._files.items())
        ]

    def find(self, path):
        return next((e for e in self.entries() if e.path == path.encode()), None)

    def read(self, path):
        return self._files[path.encode()][1] if path.encode() in self._files else None

    def open(self, digest):
        self.opened.append(digest)
        return io.BytesIO(next(d for _, d in self._files.values() if _name(d) == digest))


def _name(data: bytes) -> Digest:
    return blake3_digest(data)


def members(blobs, layer: Layer) -> dict[str, tarfile.TarInfo]:
    """What a layer holds, as Python's own gzip and tarfile read it."""
    with tarfile.open(fileobj=io.BytesIO(raw(blobs, layer))) as read:
        listed = read.getmembers()
    assert len({member.name for member in listed}) == len(listed)
    return {member.name: member for member in listed}


def raw(blobs, layer: Layer) -> bytes:
    return gzip.decompress(blobs.get(layer.blob.digest))


def content(blobs, layer: Layer, path: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(raw(blobs, layer))) as read:
        return read.extractfile(path).read()


class Collect(WheelDestination):
    """What `installer` would write, by path in our layout."""

    def __init__(self, project: str) -> None:
        self.files: dict[str, tuple[bytes | None, bool]] = {}
        self.folders = {
            "purelib": SITE,
            "platlib": SITE,
            "scripts": "xm/venv/bin",
            "headers": f"xm/venv/include/site/python3.11/{project}",
            "data": "xm/venv",
        }

    def write_script(self, name, module, attr, section):
        self.files[f"xm/venv/bin/{name}"] = (None, True)
        return RecordEntry(f"../../../bin/{name}", None, None)

    def write_file(self, scheme, path, stream, is_executable):
        data = stream.read()
        if scheme == "scripts" and data.startswith(b"#!python"):
            data = b"#!/xm/venv/bin/python\n" + data.partition(b"\n")[2]
        executable = is_executable or scheme == "scripts"
        self.files[f"{self.folders[scheme]}/{path}"] = (data, executable)
        return RecordEntry(str(path), None, None)

    def finalize_installation(self, scheme, record_file_path, records):
        self.files[f"{SITE}/{record_file_path}"] = (None, False)


def oracle(data: bytes, filename="demo-1.0-py3-none-any.whl") -> dict:
    """Content and executability by path in our layout; no content where ours may differ."""
    destination = Collect(filename.partition("-")[0])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.filename = filename
        install(
            source=WheelFile(archive),
            destination=destination,
            additional_metadata={"INSTALLER": b"xmslurm-repro\n"},
        )
    return destination.files
