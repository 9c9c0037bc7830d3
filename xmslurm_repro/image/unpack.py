"""An image's layers as a tree of files, for what has to run in it here.

Only what a program needs of them: owners, times and devices are left out. Every path is resolved
inside the tree, so that no link of an image leads out of it.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from xmslurm_repro.errors import ImageError
from xmslurm_repro.model.image import Layer
from xmslurm_repro.ports.store import BlobStore
from xmslurm_repro.store.compressed import open_uncompressed

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MAX_LINKS = 40


def unpacked(blobs: BlobStore, layers: Sequence[Layer], place: Path) -> Path:
    """
    Unpack *layers*, lowest first, into *place*, unless that is there already; atomic.

    Raises:
        ImageError: If a layer cannot be read, or has a path that leads nowhere.
    """
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
    try:
        for layer in layers:
            with blobs.open(layer.blob.digest) as stream:
                _Unpacker(fresh).layer(layer, stream)
        for name in ("proc", "dev", "tmp", "build"):
            (fresh / name).mkdir(exist_ok=True)
        fresh.chmod(0o755)
        os.rename(fresh, place)
    except OSError as error:
        if place.is_dir():  # another process was quicker
            return place
        raise ImageError(f"the base image cannot be unpacked into {place}: {error}") from error
    finally:
        remove_tree(fresh)
    return place


def remove_tree(folder: Path) -> None:
    """Remove *folder* and all in it, folders without permissions included."""
    if folder.is_dir() and not folder.is_symlink():
        _open_up(str(folder))
        shutil.rmtree(folder)


def _open_up(folder: str) -> None:
    os.chmod(folder, 0o700)
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            _open_up(entry.path)


class _Unpacker:
    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._written: set[str] = set()

    def layer(self, layer: Layer, stream: BinaryIO) -> None:
        try:
            with tarfile.TarFile.open(
                fileobj=open_uncompressed(stream), mode="r|", errors="surrogateescape"
            ) as archive:
                while (member := archive.next()) is not None:
                    self._member(member, archive)
                    archive.members.clear()  # type: ignore[attr-defined]
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise ImageError(f"layer {layer.blob.digest} cannot be read: {error}") from error

    def _member(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        path = posixpath.normpath(member.name).lstrip("/")
        if path in {".", ""}:
            return
        if path.startswith(".."):
            raise ImageError(f"a layer has the path {member.name!r}, which leads out of it")
        folder, _, name = path.rpartition("/")
        if name.startswith(_WHITEOUT):
            self._white_out(self._inside(folder), name)
            return
        place = os.path.join(self._inside(folder), name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if member.isdir():
            if os.path.islink(place) or not os.path.isdir(place):
                self._remove(place)
                Path(place).mkdir()
            os.chmod(place, member.mode & 0o777 | 0o700)
        elif member.issym():
            self._remove(place)
            os.symlink(member.linkname, place)
        elif member.islnk():
            self._remove(place)
            os.link(self._inside(posixpath.normpath(member.linkname)), place, follow_symlinks=False)
        elif member.isreg():
            self._remove(place)
            self._file(member, archive, place)
        self._written.add(place)

    def _file(self, member: tarfile.TarInfo, archive: tarfile.TarFile, place: str) -> None:
        source = archive.extractfile(member)
        with open(place, "wb") as target:
            if source is not None:
                shutil.copyfileobj(source, target, 1 << 20)
        os.chmod(place, member.mode & 0o777 | 0o400)

    def _white_out(self, folder: str, name: str) -> None:
        if name != _OPAQUE:
            self._remove(os.path.join(folder, name.removeprefix(_WHITEOUT)))
            return
        with suppress(FileNotFoundError):
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                # Those of the same layer stay, wherever the mark stands in it.
                if entry.path not in self._written:
                    self._remove(entry.path)

    def _remove(self, place: str) -> None:
        if os.path.islink(place) or os.path.isfile(place):
            os.unlink(place)
        elif os.path.isdir(place):
            remove_tree(Path(place))

    def _inside(self, path: str) -> str:
        """Where *path* is, with every link on the way followed as if the tree were the root."""
        todo = [part for part in path.split("/") if part not in {"", "."}]
        done: list[str] = []
        for _ in range(_MAX_LINKS + len(todo) * _MAX_LINKS):
            if not todo:
                return os.path.join(self._root, *done)
            part = todo.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            place = os.path.join(self._root, *done, part)
            if not os.path.islink(place):
                done.append(part)
                continue
            target = str(Path(place).readlink())
            done = [] if target.startswith("/") else done
            todo = [*(one for one in target.split("/") if one not in {"", "."}), *todo]
        raise ImageError(f"a layer has the path {path!r}, whose links lead in a circle")
