"""Conda packages of both formats, made here, and a channel that offers them."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import zstandard

from tests.support.loopback import Reply, Request

PLACEHOLDER = "/home/builder/" + "placehold_" * 24 + "plac"
"""What packages are built in: as long as those of real build farms, so that any prefix fits."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a package; with *to*, a link."""

    content: bytes = b""
    mode: int = 0o664
    to: str | None = None
    hard: bool = False


@dataclass(frozen=True, kw_only=True)
class CondaPackage:
    """A package as a channel offers it."""

    filename: str
    data: bytes = field(repr=False)
    index: dict
    subdir: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def md5(self) -> str:
        return hashlib.md5(self.data).hexdigest()

    def url(self, channel: str) -> str:
        return f"{channel}/{self.subdir}/{self.filename}"


def make_conda(
    name: str,
    files: Mapping[str, File | bytes | str],
    *,
    version: str = "1.0",
    build: str = "0",
    suffix: str = ".conda",
    depends: Sequence[str] = (),
    noarch: str | None = None,
    entry_points: Sequence[str] = (),
    subdir: str = "linux-64",
    old_description: bool = False,
    more_info: Mapping[str, bytes] | None = None,
    changed: Mapping[str, bytes] | None = None,
) -> CondaPackage:
    """
    Make a package; what holds `PLACEHOLDER` is described so, as text or as binary.

    *changed* lies in it in place of what its description says.
    """
    full = {path: _as_file(file) for path, file in files.items()}
    index = {
        "name": name,
        "version": version,
        "build": build,
        "build_number": 0,
        "depends": list(depends),
        "subdir": "noarch" if noarch else subdir,
        "license": "MIT",
        "timestamp": 1700000000000,
        **({"noarch": noarch} if noarch else {"arch": "x86_64", "platform": "linux"}),
    }
    info: dict[str, File] = {"info/index.json": File(content=json.dumps(index).encode())}
    if old_description:
        described = [path for path, file in full.items() if file.to is None]
        prefixed = [path for path in described if PLACEHOLDER.encode() in full[path].content]
        lines = [f"{PLACEHOLDER} {_mode(full[path])} {path}\n" for path in prefixed]
        info["info/files"] = File(content="".join(f"{path}\n" for path in full).encode())
        info["info/has_prefix"] = File(content="".join(lines).encode())
    else:
        paths = [_described(path, file, full) for path, file in full.items()]
        text = json.dumps({"paths": paths, "paths_version": 1})
        info["info/paths.json"] = File(content=text.encode())
        info["info/files"] = File(content="".join(f"{path}\n" for path in full).encode())
    if noarch == "python":
        link = {"noarch": {"type": "python", "entry_points": list(entry_points)}}
        text = json.dumps({**link, "package_metadata_version": 1})
        info["info/link.json"] = File(content=text.encode())
    info |= {f"info/{path}": File(content=data) for path, data in (more_info or {}).items()}
    full |= {path: File(content=data) for path, data in (changed or {}).items()}
    stem = f"{name}-{version}-{build}"
    data = _zipped(stem, info, full) if suffix == ".conda" else bz2.compress(_tar(info | full))
    return CondaPackage(filename=stem + suffix, data=data, index=index, subdir=index["subdir"])


def channel_of(packages: Sequence[CondaPackage]):
    """A handler for `serve` that offers *packages*."""
    offered = {f"/{one.subdir}/{one.filename}": one.data for one in packages}

    def answer(request: Request) -> Reply:
        data = offered.get(request.path.partition("?")[0])
        return Reply(body=data) if data is not None else Reply(status=404)

    return answer


def _as_file(file: File | bytes | str) -> File:
    if isinstance(file, File):
        return file
    return File(content=file.encode() if isinstance(file, str) else file)


def _mode(file: File) -> str:
    return "binary" if b"\0" in file.content else "text"


def _described(path: str, file: File, full: Mapping[str, File]) -> dict:
    is_link = file.to is not None and not file.hard
    content = full[file.to].content if file.hard else file.content
    row = {
        "_path": path,
        "path_type": "softlink" if is_link else "hardlink",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_in_bytes": len(content),
    }
    if not is_link and PLACEHOLDER.encode() in content:
        row |= {"prefix_placeholder": PLACEHOLDER, "file_mode": _mode(file)}
    return row


def _zipped(stem: str, info: dict[str, File], files: dict[str, File]) -> bytes:
    held = io.BytesIO()
    pack = zstandard.ZstdCompressor(level=3).compress
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
        archive.writestr(f"pkg-{stem}.tar.zst", pack(_tar(files)))
        archive.writestr(f"info-{stem}.tar.zst", pack(_tar(info)))
    return held.getvalue()


def _tar(files: Mapping[str, File]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for path, file in files.items():
            member = tarfile.TarInfo(path)
            member.mode, member.mtime, member.uid = file.mode, 1600000000, 1000
            if file.to is not None:
                member.type = tarfile.LNKTYPE if file.hard else tarfile.SYMTYPE
                member.linkname = file.to
                archive.addfile(member)
            else:
                member.size = len(file.content)
                archive.addfile(member, io.BytesIO(file.content))
    return held.getvalue()


def conda_lock_text(
    channel: str, packages: Sequence[CondaPackage], *, pip: str = "", platform: str = "linux-64"
) -> str:
    """A conda-lock.yml of *packages*; *pip* is more of its list."""
    lines = ["version: 1", "metadata:", "  content_hash:", f"    {platform}: {'0' * 64}"]
    lines += ["  channels:", f"  - url: {channel}", "    used_env_vars: []", "  platforms:"]
    lines += [f"  - {platform}", "  sources:", "  - environment.yml", "package:"]
    for one in packages:
        lines += [f"- name: {one.index['name']}", f"  version: '{one.index['version']}'"]
        lines += ["  manager: conda", f"  platform: {platform}", "  dependencies:"]
        for depends in one.index["depends"] or ():
            name, _, spec = depends.partition(" ")
            lines.append(f"    {name}: '{spec}'")
        if not one.index["depends"]:
            lines[-1] += " {}"
        lines += [f"  url: {one.url(channel)}", "  hash:", f"    md5: {one.md5}"]
        lines += [f"    sha256: {one.sha256}", "  category: main", "  optional: false"]
    return "\n".join(lines) + "\n" + pip


def pixi_lock_text(
    channel: str, packages: Sequence[CondaPackage], *, pypi: Sequence[str] = (), described: str = ""
) -> str:
    """A pixi.lock of version 6; *pypi* are places, *described* their descriptions."""
    lines = ["version: 6", "environments:", "  default:", "    channels:"]
    lines += [f"    - url: {channel}/", "    packages:", "      linux-64:"]
    lines += [f"      - conda: {one.url(channel)}" for one in packages]
    lines += [f"      - pypi: {place}" for place in pypi]
    lines.append("packages:")
    for one in packages:
        lines += [f"- conda: {one.url(channel)}", f"  sha256: {one.sha256}", f"  md5: {one.md5}"]
        if one.index["depends"]:
            lines += ["  depends:", *(f"  - '{text}'" for text in one.index["depends"])]
        lines.append(f"  size: {len(one.data)}")
    return "\n".join(lines) + "\n" + described
