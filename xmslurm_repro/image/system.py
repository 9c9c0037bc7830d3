"""The layer of system packages: Debian packages unpacked over a base, without dpkg or apt.

Their files lie where dpkg would have put them, and the package database lists them as unpacked.
No maintainer script is run: what one would have made (users, alternatives, caches) is not there.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from xmslurm_repro.errors import DigestMismatchError, ImageError
from xmslurm_repro.image.cache import LayerCache, cache_key
from xmslurm_repro.image.deb import Control, DebError, read_control, spool_data
from xmslurm_repro.image.layer import TreeWriter, build_layer
from xmslurm_repro.image.root_tar import member_bytes
from xmslurm_repro.image.rootfs import RootView, read_root
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import BaseImage, Layer, LayerKind
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.ports.progress import Progress, ProgressTask
from xmslurm_repro.ports.store import BlobStore
from xmslurm_repro.store.tar import DIRECTORY, FILE, HARD_LINK, SYMLINK, member_header, padding

_STATUS = "var/lib/dpkg/status"
_STATUS_FOLDER = "var/lib/dpkg/status.d/"
_INFO = "var/lib/dpkg/info/"
# What bases made by us do without, too.
_DROPPED = re.compile(
    r"usr/share/(?:man|info|locale|lintian|doc-base)/.+|usr/share/doc/.*(?<!/copyright)"
)
_MAX_LINKS = 40
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Member:
    """A file, folder or link of a package, by its place in the image."""

    package: str
    info: tarfile.TarInfo
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Unpacked:
    """Everything that the layer is made of."""

    members: dict[str, _Member] = field(default_factory=dict)
    added: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Files of the package database: mode and content."""
    problems: list[str] = field(default_factory=list)


def system_layers(
    artifacts: Sequence[Artifact],
    base: BaseImage,
    blobs: BlobStore,
    cache: LayerCache | None,
    progress: Progress,
) -> tuple[Layer, ...]:
    """
    Build the layer of the Debian packages *artifacts* over *base*, or take it from the cache.

    Raises:
        ImageError: If packages are broken or contradict each other; names all of them.
        MissingObjectError: If a package is not in the store.
        DigestMismatchError: If a package is damaged.
    """
    if not artifacts:
        return ()
    ordered = sorted(artifacts, key=lambda artifact: (artifact.name, artifact.sha256))
    # Where links of the base lead decides paths, and its database is written again.
    key = cache_key("system", str(base.manifest.digest), [str(one.sha256) for one in ordered])
    known = cache.get("system", key) if cache else None
    if known is not None:
        return known
    total = sum(layer.blob.size_bytes for layer in base.layers)
    task = progress.start("Packing system packages", total=total + _size(ordered, blobs))
    try:
        view = read_root(blobs, base.layers, lambda path: path == _STATUS, task)
        with tempfile.TemporaryFile() as spool:
            unpacked = _unpack(ordered, view, blobs, spool, task)
            if unpacked.problems:
                raise ImageError(
                    "the system packages cannot be put into an image", details=unpacked.problems
                )
            title = f"{len(ordered)} system package{'s' if len(ordered) > 1 else ''}"
            layer = build_layer(
                blobs,
                LayerKind.PACKAGES,
                title,
                lambda writer: _write(writer, unpacked, spool),
            )
    finally:
        task.finish()
    if cache:
        cache.put("system", key, [layer])
    return (layer,)


def script_remarks(artifacts: Sequence[Artifact], blobs: BlobStore) -> tuple[str, ...]:
    """Which of these Debian packages, all in the store, have scripts that would set them up."""
    remarks = []
    for artifact in artifacts:
        with blobs.open(artifact.sha256) as stream:
            try:
                scripts = set(read_control(stream).scripts) & {"preinst", "postinst"}
            except DebError:
                continue  # said when the layer is built
        if scripts:
            names = " and ".join(sorted(scripts))
            remarks.append(f"{artifact.name} {artifact.version}: its {names} is not run")
    return tuple(remarks)


def _size(artifacts: Sequence[Artifact], blobs: BlobStore) -> int:
    return sum(blobs.size_bytes(artifact.sha256) for artifact in artifacts)


def _unpack(
    artifacts: Sequence[Artifact],
    view: RootView,
    blobs: BlobStore,
    spool: BinaryIO,
    task: ProgressTask,
) -> _Unpacked:
    unpacked = _Unpacked()
    controls: dict[str, tuple[Control, list[tarfile.TarInfo]]] = {}
    for artifact in artifacts:
        with blobs.open(artifact.sha256) as stream:
            _verify(stream, artifact)
            try:
                controls[artifact.name] = (read_control(stream), spool_data(stream, spool))
            except DebError as error:
                unpacked.problems.append(f"{artifact.filename}: {error}")
        task.advance(blobs.size_bytes(artifact.sha256))
    links = dict(view.links)
    for _, members in controls.values():
        for member in members:
            if member.issym():
                links.setdefault(_place(member.name, links), member.linkname)
    for name, (_, members) in controls.items():
        _take(unpacked, name, members, links)
    _record(unpacked, controls, view)
    return unpacked


def _take(
    unpacked: _Unpacked,
    package: str,
    members: Sequence[tarfile.TarInfo],
    links: Mapping[str, str],
) -> None:
    for info in members:
        path = _place(info.name, links)
        if not path or _DROPPED.fullmatch(path):
            continue
        if info.isdir() and path in links:
            continue  # /lib, where the base has /lib -> usr/lib
        if not (info.isdir() or info.isreg() or info.issym() or info.islnk()):
            unpacked.problems.append(f"{package}: /{path} is neither file, folder nor link")
            continue
        target = _place(info.linkname, links) if info.islnk() else info.linkname
        before = unpacked.members.get(path)
        if before is None:
            unpacked.members[path] = _Member(package=package, info=info, target=target)
        elif not (before.info.isdir() and info.isdir()):
            unpacked.problems.append(f"/{path} is in {before.package} and in {package}")


def _place(name: str, links: Mapping[str, str]) -> str:
    """Where *name* lies, its folders' links followed; the last component's is not."""
    todo = [part for part in posixpath.normpath(name).split("/") if part not in {"", "."}]
    done: list[str] = []
    for _ in range(_MAX_LINKS * len(todo) + 1):
        if not todo:
            break
        part = todo.pop(0)
        if part == "..":
            done = done[:-1]
            continue
        target = links.get("/".join([*done, part])) if todo else None
        if target is None:
            done.append(part)
            continue
        todo = [*(p for p in target.split("/") if p not in {"", "."}), *todo]
        done = [] if target.startswith("/") else done
    return "/".join(done)


def _record(
    unpacked: _Unpacked,
    controls: Mapping[str, tuple[Control, list[tarfile.TarInfo]]],
    view: RootView,
) -> None:
    """Write the packages into the base's database, in the way that the base keeps it."""
    status = view.files.get(_STATUS)
    if status is None:
        for name, (control, _) in controls.items():
            unpacked.added[f"{_STATUS_FOLDER}{name}"] = (0o644, control.text.encode())
        return
    stanzas = [status.rstrip(b"\n")]
    for name, (control, members) in controls.items():
        first, _, rest = control.text.partition("\n")
        stanzas.append(f"{first}\nStatus: install ok unpacked\n{rest}".rstrip("\n").encode())
        stem = name
        if control.field("Multi-Arch") == "same":
            stem = f"{name}:{control.field('Architecture')}"
        listed = ("/" + posixpath.normpath(m.name).lstrip("./") for m in members)
        text = "".join(f"{'/.' if path == '/' else path}\n" for path in listed)
        unpacked.added[f"{_INFO}{stem}.list"] = (0o644, text.encode("utf-8", "surrogateescape"))
        for part, content in control.files.items():
            if part != "control" and "/" not in part:
                mode = 0o755 if part in control.scripts else 0o644
                unpacked.added[f"{_INFO}{stem}.{part}"] = (mode, content)
    unpacked.added[_STATUS] = (0o644, b"\n\n".join(stanzas) + b"\n\n")


def _write(writer: TreeWriter, unpacked: _Unpacked, spool: BinaryIO) -> None:
    anchors = _anchors(unpacked)
    for path in sorted({*unpacked.members, *unpacked.added}, key=_as_bytes):
        if path in unpacked.added:
            mode, content = unpacked.added[path]
            header = member_header(_as_bytes(path), size_bytes=len(content), mode=mode)
            writer.layer.write(header + content + padding(len(content)))
            continue
        member = unpacked.members[path]
        if member.info.isdir():
            writer.layer.write(member_bytes(_as_bytes(path), member.info, kind=DIRECTORY))
        elif member.info.issym():
            target = _as_bytes(member.target)
            writer.layer.write(
                member_bytes(_as_bytes(path), member.info, kind=SYMLINK, target=target)
            )
        else:
            _write_file(writer, path, unpacked, anchors, spool)


def _write_file(
    writer: TreeWriter,
    path: str,
    unpacked: _Unpacked,
    anchors: Mapping[str, str],
    spool: BinaryIO,
) -> None:
    origin = _origin(path, unpacked)
    info, anchor = unpacked.members[origin].info, anchors[origin]
    if anchor != path:
        target = _as_bytes(anchor)
        writer.layer.write(member_bytes(_as_bytes(path), info, kind=HARD_LINK, target=target))
        return
    writer.layer.write(member_bytes(_as_bytes(path), info, kind=FILE, size_bytes=info.size))
    spool.seek(info.offset_data)
    left = info.size
    while left and (data := spool.read(min(left, _CHUNK))):
        writer.layer.write(data)
        left -= len(data)
    writer.layer.write(padding(info.size))


def _anchors(unpacked: _Unpacked) -> dict[str, str]:
    """Of each file that has several names, the first in the layer's order: it has the content."""
    anchors: dict[str, str] = {}
    for path in sorted(unpacked.members, key=_as_bytes):
        if unpacked.members[path].info.isreg() or unpacked.members[path].info.islnk():
            anchors.setdefault(_origin(path, unpacked), path)
    return anchors


def _origin(path: str, unpacked: _Unpacked) -> str:
    """The name under which the package holds the content of *path*."""
    for _ in range(_MAX_LINKS):
        member = unpacked.members.get(path)
        if member is None or member.info.isreg():
            break
        path = member.target
    if path not in unpacked.members or not unpacked.members[path].info.isreg():
        raise ImageError(f"/{path} is a hard link to nothing in its package")
    return path


def _verify(stream: BinaryIO, artifact: Artifact) -> None:
    named, size_bytes = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        named.update(chunk)
        size_bytes += len(chunk)
    got = Digest.sha256(named.hexdigest())
    if got != artifact.sha256:
        raise DigestMismatchError(
            artifact.filename, want=str(artifact.sha256), got=str(got), size_bytes=size_bytes
        )


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
