"""Rewriting a root file system's tar so that only what is in it decides its bytes.

Order, times, user names and the file that a hard link is anchored at become canonical; modes,
numeric owners, links and extended attributes stay.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.layer import LayerWriter, TreeWriter
from xmslurm_repro.store.tar import DIRECTORY, FILE, HARD_LINK, SYMLINK, member_header

_XATTR = "SCHILY.xattr."


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedFile:
    """A file that is put into a root: its bytes, or, for a link, its target."""

    content: bytes = b""
    link: str | None = None


class RootTar:
    """A root's tar on disk, by path."""

    def __init__(self, path: Path, *, keep: Callable[[str], bool]) -> None:
        """
        Read the directory of the tar *path*; what *keep* denies is not there.

        Raises:
            ImageError: If it is no tar.
        """
        try:
            self._archive = tarfile.TarFile.open(path, mode="r:", errors="surrogateescape")
            listed = self._archive.getmembers()
        except (tarfile.TarError, OSError) as error:
            raise ImageError(f"{path} is no tar of a root file system: {error}") from error
        self._all = {_normal(member.name): member for member in listed}
        self._members = {name: member for name, member in self._all.items() if name and keep(name)}

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def names(self) -> list[str]:
        """The paths, relative to the root, sorted as bytes."""
        return sorted(self._members, key=_as_bytes)

    def read(self, name: str) -> bytes | None:
        """The content of the file *name*, or ``None`` when there is none."""
        member = self._members.get(name)
        if member is None or not (member.isreg() or member.islnk()):
            return None
        source = self._archive.extractfile(member)
        return source.read() if source else None

    def write(self, layer: LayerWriter, added: dict[str, AddedFile], *, whole: bool = True) -> None:
        """
        Write all of it with *added*, which wins over what is there.

        Where it is not the *whole* root but a layer, folders that it does not have stay out of
        it: they are below, with modes that are not ours to change.

        Raises:
            ImageError: If a member is neither file, folder nor link.
        """
        writer = TreeWriter(layer)
        anchors: dict[str, str] = {}
        folders = {name for name, member in self._members.items() if member.isdir()}
        for name in sorted({*self._members, *added}, key=_as_bytes):
            for parent in _missing_parents(name, folders) if whole else ():
                folders.add(parent)
                layer.write(member_header(_as_bytes(parent), kind=DIRECTORY, mode=0o755))
            if name in added:
                _write_added(layer, name, added[name])
            else:
                self._write_member(writer, name, anchors)

    def _write_member(self, writer: TreeWriter, name: str, anchors: dict[str, str]) -> None:
        member = self._members[name]
        path = _as_bytes(name)
        if member.isdir():
            writer.layer.write(member_bytes(path, member, kind=DIRECTORY))
        elif member.issym():
            target = _as_bytes(member.linkname)
            writer.layer.write(member_bytes(path, member, kind=SYMLINK, target=target))
        elif member.isreg() or member.islnk():
            origin = self._origin(member)
            anchor = anchors.setdefault(_normal(origin.name), name)
            if anchor != name:
                target = _as_bytes(anchor)
                writer.layer.write(member_bytes(path, origin, kind=HARD_LINK, target=target))
                return
            writer.layer.write(member_bytes(path, origin, kind=FILE, size_bytes=origin.size))
            source = self._archive.extractfile(origin)
            if source is not None:
                writer.content(path, origin.size, source)  # type: ignore[arg-type] # IO[bytes]
        else:
            raise ImageError(f"/{name} is neither file, folder nor link; a base cannot hold it")

    def _origin(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        seen = member
        while seen.islnk():
            target = self._all.get(_normal(seen.linkname))
            if target is None or target is seen:
                raise ImageError(f"/{_normal(member.name)} is a hard link to nothing in its layer")
            seen = target
        return seen


def member_bytes(
    path: bytes,
    member: tarfile.TarInfo,
    *,
    kind: bytes,
    size_bytes: int = 0,
    target: bytes = b"",
) -> bytes:
    xattrs = tuple(
        (key.removeprefix(_XATTR).encode(), _as_bytes(value))
        for key, value in member.pax_headers.items()
        if key.startswith(_XATTR)
    )
    return member_header(
        path,
        kind=kind,
        size_bytes=size_bytes,
        mode=member.mode & 0o7777,
        target=target,
        owner=(member.uid, member.gid),
        xattrs=xattrs if kind != HARD_LINK else (),
    )


def _write_added(layer: LayerWriter, name: str, file: AddedFile) -> None:
    path = _as_bytes(name)
    if file.link is not None:
        header = member_header(path, kind=SYMLINK, mode=0o777, target=_as_bytes(file.link))
        layer.write(header)
        return
    layer.write(member_header(path, size_bytes=len(file.content)))
    layer.write(file.content)
    layer.write(bytes(-len(file.content) % 512))


def _missing_parents(name: str, folders: set[str]) -> list[str]:
    missing = []
    parent = name.rpartition("/")[0]
    while parent and parent not in folders:
        missing.append(parent)
        parent = parent.rpartition("/")[0]
    return missing[::-1]


def _normal(name: str) -> str:
    normal = posixpath.normpath(name).lstrip("/")
    return "" if normal == "." else normal


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
