"""What a stack of layers looks like as one tree, read once and without unpacking it.

Only links and a few files that a caller wants are kept. How layers lie over each other:
image-spec v1.0, ``layer.md``, "Applying Changesets" and "Whiteouts".
"""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from xmslurm_repro.errors import DigestMismatchError, ImageError
from xmslurm_repro.model.image import Layer
from xmslurm_repro.ports.progress import ProgressTask
from xmslurm_repro.ports.store import BlobStore
from xmslurm_repro.store.compressed import open_uncompressed

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MAX_LINKS = 40
_MAX_FILE_BYTES = 128 << 20
_CHUNK = 1 << 20


@dataclass(slots=True)
class RootView:
    """The links of a root file system and the contents of the files that were wanted."""

    links: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def resolve(self, path: str) -> str | None:
        """
        Follow every link on the way to *path* (absolute).

        Returns:
            The path of a file that was kept, or ``None``.
        """
        todo = [part for part in path.split("/") if part]
        done: list[str] = []
        for _ in range(_MAX_LINKS + len(todo)):
            if not todo:
                break
            part = todo.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            target = self.links.get("/".join([*done, part]))
            if target is None:
                done.append(part)
                continue
            todo = [*(p for p in target.split("/") if p not in {"", "."}), *todo]
            done = [] if target.startswith("/") else done
        found = "/".join(done)
        return f"/{found}" if not todo and found in self.files else None

    def content(self, path: str) -> bytes | None:
        """The bytes of the file at *path* (absolute), through links, if it was kept."""
        found = self.resolve(path)
        return self.files[found[1:]] if found else None


def read_root(
    blobs: BlobStore, layers: Sequence[Layer], wanted: Callable[[str], bool], task: ProgressTask
) -> RootView:
    """
    Read *layers*, lowest first, and check each against its DiffID.

    Args:
        blobs: Where their bytes are.
        layers: As the image has them.
        wanted: Says of a path, relative to the root, whether its content is kept.
        task: Is told of the compressed bytes that are done.

    Raises:
        DigestMismatchError: If a layer is not what its DiffID says.
        ImageError: If a layer is no tar.
    """
    view = RootView()
    for layer in layers:
        with blobs.open(layer.blob.digest) as stream:
            _read_layer(view, stream, layer, wanted)
        task.advance(layer.blob.size_bytes)
    return view


class _Hashing:
    """A stream that hashes what is read from it, so that one pass gives both."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.hash = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.hash.update(data)
        self.size_bytes += len(data)
        return data


def _read_layer(
    view: RootView, stream: BinaryIO, layer: Layer, wanted: Callable[[str], bool]
) -> None:
    hashing = _Hashing(open_uncompressed(stream))
    above = RootView()
    try:
        with tarfile.TarFile.open(
            fileobj=cast(BinaryIO, hashing), mode="r|", bufsize=_CHUNK, errors="surrogateescape"
        ) as archive:
            while (member := archive.next()) is not None:
                _read_member(view, above, archive, member, wanted)
                # tarfile remembers every member, 1 KB each; a stream never goes back to them.
                archive.members.clear()  # type: ignore[attr-defined]
        while hashing.read(_CHUNK):
            pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ImageError(f"layer {layer.blob.digest} cannot be read: {error}") from error
    if hashing.hash.hexdigest() != layer.diff_id.hex:
        raise DigestMismatchError(
            f"layer {layer.blob.digest}",
            want=str(layer.diff_id),
            got=f"sha256:{hashing.hash.hexdigest()}",
            size_bytes=hashing.size_bytes,
        )
    view.links.update(above.links)
    view.files.update(above.files)


def _read_member(
    view: RootView,
    above: RootView,
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    wanted: Callable[[str], bool],
) -> None:
    path = posixpath.normpath(member.name).lstrip("/")
    folder, _, name = path.rpartition("/")
    if name.startswith(_WHITEOUT):
        # Whiteouts speak of the layers below only, wherever they stand in the tar.
        _forget(view, folder if name == _OPAQUE else f"{folder}/{name[4:]}".lstrip("/"))
        return
    if member.isdir():
        view.links.pop(path, None)
        return
    for seen in (view, above):
        seen.links.pop(path, None)
        seen.files.pop(path, None)
    if member.issym():
        above.links[path] = member.linkname
    elif member.islnk():
        above.links[path] = "/" + posixpath.normpath(member.linkname).lstrip("/")
    elif member.isreg() and wanted(path) and member.size <= _MAX_FILE_BYTES:
        source = archive.extractfile(member)
        above.files[path] = source.read() if source else b""


def _forget(view: RootView, path: str) -> None:
    below = f"{path}/" if path else ""
    for table in (view.links, view.files):
        for known in [p for p in table if p == path or p.startswith(below)]:
            del table[known]
