"""Pouring a conda package into a layer: contents checked, prefix replaced, record written."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from xmslurm_repro.image.conda_archive import CondaArchive, CondaError
from xmslurm_repro.image.conda_package import PREFIX, CondaFile, CondaPlan, PathType
from xmslurm_repro.image.conda_prefix import replaced_binary, replaced_text
from xmslurm_repro.image.layer import TreeWriter
from xmslurm_repro.model.canonical import Json, canonical_json
from xmslurm_repro.model.image import VENV_DIR
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.store.tar import member_header, padding

Bytes: TypeAlias = bytes | memoryview

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Poured:
    """What the record says of a path beside its name and kind."""

    sha256: str | None = None
    sha256_in_prefix: str | None = None
    size_bytes: int | None = None


def pour_conda(
    archive: CondaArchive,
    artifact: Artifact,
    plan: CondaPlan,
    writer: TreeWriter,
    *,
    without: Collection[str],
    advance: Callable[[int], None],
) -> list[str]:
    """
    Write a package's files in order of their paths, then its record in ``conda-meta``.

    Args:
        archive: The package, open.
        artifact: What the lock says of it.
        plan: What it becomes.
        writer: Takes it.
        without: Paths that another package has as well, and that are that one's.
        advance: Is told of bytes that are written.

    Returns:
        What is wrong; then the layer must be thrown away.
    """
    try:
        members = archive.members()
    except CondaError as error:
        return [str(error)]
    pouring = _Pouring(archive, members, writer, advance)
    rows: list[Json] = []
    files: list[Json] = []
    for file in plan.files:
        if file.path in without:
            continue
        poured = pouring.pour(file)
        if poured is not None:
            rows.append(_row(file, poured))
        if file.kind is not PathType.DIRECTORY:
            files.append(file.path)
    record = canonical_json(_record(artifact, plan, files, rows))
    pouring.write_file(record_path(artifact), [memoryview(record)], len(record), executable=False)
    return pouring.problems


def record_path(artifact: Artifact) -> str:
    """Where the record of a package is, in the prefix."""
    stem = artifact.filename.removesuffix(".conda").removesuffix(".tar.bz2")
    return f"conda-meta/{stem}.json"


class _Pouring:
    def __init__(
        self,
        archive: CondaArchive,
        members: dict[str, tarfile.TarInfo],
        writer: TreeWriter,
        advance: Callable[[int], None],
    ) -> None:
        self._archive, self._members, self._writer = archive, members, writer
        self._advance = advance
        self.problems: list[str] = []

    def pour(self, file: CondaFile) -> _Poured | None:
        path = f"{PREFIX}/{file.path}".encode()
        if file.kind is PathType.DIRECTORY:
            self._writer.directory(path)
            return _Poured()
        if file.kind is PathType.COMMAND:
            view = memoryview(file.content)
            self.write_file(file.path, [view], len(view), executable=True)
            return _Poured()
        member = self._members.get(file.source)
        if member is not None and member.issym():
            self._writer.parents_of(path)
            self._writer.symlink(path, member.linkname.encode("utf-8", "surrogateescape"))
            return _Poured()
        executable = member is not None and bool(member.mode & 0o111)
        if member is not None and member.islnk():
            member = self._members.get(member.linkname.removeprefix("./"))
        if member is None or not member.isreg():
            what = "is not in it" if member is None else "is neither file, folder nor link"
            self.problems.append(f"{file.source!r} {what}")
            return None
        if file.placeholder is None:
            return self._pour_file(file, member, executable)
        return self._pour_replaced(file, file.placeholder, member, executable)

    def _pour_file(
        self, file: CondaFile, member: tarfile.TarInfo, executable: bool
    ) -> _Poured | None:
        digest = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for piece in self._archive.pieces(member):
                digest.update(piece)
                yield piece

        self.write_file(file.path, hashed(), member.size, executable=executable)
        sha256 = digest.hexdigest()
        if not self._is_expected(file, sha256):
            return None
        return _Poured(sha256=sha256, size_bytes=member.size)

    def _pour_replaced(
        self, file: CondaFile, placeholder: bytes, member: tarfile.TarInfo, executable: bool
    ) -> _Poured | None:
        data = self._archive.mapped(member)
        before = _sha256([data])
        if not self._is_expected(file, before):
            return None
        replaced = replaced_binary if file.is_binary else replaced_text
        try:
            pieces = list(replaced(data, placeholder, VENV_DIR.encode()))
        except ValueError as error:
            self.problems.append(f"{file.source!r}: {error}")
            return None
        size_bytes = sum(map(len, pieces))
        self.write_file(file.path, pieces, size_bytes, executable=executable)
        return _Poured(sha256=before, sha256_in_prefix=_sha256(pieces), size_bytes=len(data))

    def _is_expected(self, file: CondaFile, sha256: str) -> bool:
        if file.sha256 not in {None, sha256}:
            self.problems.append(f"{file.source!r} is sha256:{sha256}, its paths.json says other")
            return False
        return True

    def write_file(
        self, path: str, pieces: Iterable[Bytes], size_bytes: int, *, executable: bool
    ) -> None:
        name = f"{PREFIX}/{path}".encode()
        self._writer.parents_of(name)
        layer = self._writer.layer
        layer.write(member_header(name, size_bytes=size_bytes, mode=0o755 if executable else 0o644))
        for piece in _in_chunks(pieces):
            layer.write(piece)
            self._advance(len(piece))
        layer.write(padding(size_bytes))


def _in_chunks(pieces: Iterable[Bytes]) -> Iterator[Bytes]:
    for piece in pieces:
        for begin in range(0, len(piece), _CHUNK):
            yield piece[begin : begin + _CHUNK]


def _sha256(pieces: list[memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _row(file: CondaFile, poured: _Poured) -> Json:
    row: dict[str, Json] = {"_path": file.path, "path_type": file.kind.value}
    if poured.sha256 is not None:
        row |= {"sha256": poured.sha256, "size_in_bytes": poured.size_bytes}
    if file.placeholder is not None and poured.sha256_in_prefix is not None:
        row["file_mode"] = "binary" if file.is_binary else "text"
        row["prefix_placeholder"] = file.placeholder.decode("utf-8", "surrogateescape")
        row["sha256_in_prefix"] = poured.sha256_in_prefix
    return row


def _record(artifact: Artifact, plan: CondaPlan, files: list[Json], rows: list[Json]) -> Json:
    """What conda, mamba and pixi want to read; nothing of them who wrote it, when, or where."""
    index = plan.index.value
    channel, _, _ = (artifact.channel or "").rpartition("/")
    return {
        **(index if isinstance(index, dict) else {}),
        "channel": channel,
        "files": files,
        "fn": artifact.filename,
        "link": {"source": "", "type": 1},
        "paths_data": {"paths": rows, "paths_version": 1},
        "requested_spec": "",
        "sha256": artifact.sha256.hex,
        "url": f"{artifact.channel}/{artifact.filename}",
    }
