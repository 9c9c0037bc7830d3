"""Debian packages made by hand, so that each can be odd in one way."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Mapping

import zstandard

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.ports.store import BlobStore

Files = Mapping[str, bytes | str | None]
"""By path: a file's content; ``-> target`` for a link, ``=> path`` for a hard link, ``None`` for
a folder. A path that begins with ``*`` is executable."""


def make_deb(
    name: str,
    files: Files,
    *,
    version: str = "1.0",
    fields: str = "",
    scripts: Mapping[str, bytes] | None = None,
    suffix: str = "xz",
    mtime: int = 1_700_000_000,
) -> bytes:
    """The bytes of a package."""
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n{fields}".rstrip("\n")
    members: dict[str, bytes | str | None] = {"control": f"{control}\n".encode()}
    members |= {f"*{script}": data for script, data in (scripts or {}).items()}
    parts = [
        ("debian-binary", b"2.0\n"),
        (f"control.tar.{suffix}", _compress(suffix, make_tar(members, mtime=mtime))),
        (f"data.tar.{suffix}", _compress(suffix, make_tar(files, mtime=mtime))),
    ]
    return b"!<arch>\n" + b"".join(_ar_member(*part) for part in parts)


def make_tar(files: Files, *, mtime: int = 1) -> bytes:
    """A tar whose names begin with ``./``, as dpkg-deb writes it, its folders included."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        seen: set[str] = set()
        for path, content in files.items():
            plain = path.lstrip("*")
            parents = plain.split("/")[: None if content is None else -1]
            for depth in range(len(parents) + 1):
                folder = "/".join(parents[:depth])
                if folder not in seen:
                    seen.add(folder)
                    archive.addfile(_info(f"./{folder}", mtime, tarfile.DIRTYPE, 0o755))
            if content is not None:
                _add(archive, path, plain, content, mtime)
    return out.getvalue()


def _add(archive: tarfile.TarFile, path: str, plain: str, content: bytes | str, mtime: int) -> None:
    if isinstance(content, str):
        kind = tarfile.SYMTYPE if content.startswith("-> ") else tarfile.LNKTYPE
        info = _info(f"./{plain}", mtime, kind, 0o777)
        info.linkname = content[3:] if kind == tarfile.SYMTYPE else f"./{content[3:]}"
        archive.addfile(info)
        return
    info = _info(f"./{plain}", mtime, tarfile.REGTYPE, 0o755 if path.startswith("*") else 0o644)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _info(name: str, mtime: int, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime, info.type, info.mode, info.uname, info.gname = mtime, kind, mode, "root", "root"
    return info


def _compress(suffix: str, data: bytes) -> bytes:
    if suffix == "xz":
        return lzma.compress(data)
    return gzip.compress(data) if suffix == "gz" else zstandard.compress(data)


def _ar_member(name: str, data: bytes) -> bytes:
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
    return head + data + b"\n" * (len(data) % 2)


def put_deb(blobs: BlobStore, name: str, data: bytes, *, version: str = "1.0") -> Artifact:
    """The package in *blobs*."""
    digest: Digest = blobs.put(data)
    return Artifact(
        name=name, version=version, filename=f"{name}_{version}_amd64.deb", sha256=digest
    )
