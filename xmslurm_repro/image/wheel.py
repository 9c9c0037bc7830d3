"""Laying out one wheel: which files it becomes, planned before any content is read.

Own code, because script templates, the order of RECORD and modes are part of our frozen
layout; the library ``installer`` checks it in the tests. The format is the "binary
distribution format" specification of packaging.python.org.
"""

from __future__ import annotations

import csv
import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from xmslurm_repro.image.record import (
    RecordLine,
    expected_digest,
    parse_record,
    render_record,
    sha256_line,
)
from xmslurm_repro.image.scripts import console_scripts, with_our_shebang
from xmslurm_repro.model.image import VENV_DIR

VENV = VENV_DIR.lstrip("/")
INSTALLER = b"xmslurm-repro\n"

_SIGNATURES = ("RECORD", "RECORD.jws", "RECORD.p7s")
_NOT_TAKEN = (*_SIGNATURES, "INSTALLER", "REQUESTED", "direct_url.json")
_ENCRYPTED = 0x1
_ODD_ZIP = (NotImplementedError, EOFError, RuntimeError, ValueError, OverflowError)
"""What zipfile raises beside its own errors when a directory is nonsense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """
    One file of a layer, before it is written.

    Attributes:
        path: In the image, relative to its root.
        size_bytes: Of its content.
        executable: Whether it is 0755 and not 0644.
        record: What RECORD says of it: algorithm and digest, such as ``sha256=…``.
        content: Its bytes, or the wheel's member that holds them.
    """

    path: str
    size_bytes: int
    executable: bool
    record: str
    content: bytes | zipfile.ZipInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPlan:
    """What a wheel becomes, its files in order of their paths, and all that is wrong with it."""

    files: tuple[PlannedFile, ...]
    problems: tuple[str, ...]


class WheelError(Exception):
    """A wheel is broken in a way that leaves nothing to plan."""


def plan_wheel(stream: BinaryIO, python_minor: str) -> WheelPlan:
    """
    Plan the layout of the wheel that *stream* holds, for Python *python_minor*.

    Only its directory, RECORD, entry points and scripts are read.

    Raises:
        WheelError: If it is no wheel at all.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            return _Planner(archive, python_minor).plan()
    except (zipfile.BadZipFile, zlib.error, struct.error, *_ODD_ZIP) as error:
        raise WheelError(f"it cannot be read: {error}") from error


class _Planner:
    def __init__(self, archive: zipfile.ZipFile, python_minor: str) -> None:
        self._archive = archive
        self._site = f"{VENV}/lib/python{python_minor}/site-packages"
        self._include = f"{VENV}/include/site/python{python_minor}"
        self._problems: list[str] = []
        self._files: dict[str, PlannedFile] = {}

    def plan(self) -> WheelPlan:
        members = self._members()
        info = self._dist_info(members)
        recorded = self._record(members, info)
        self._check_against_record(members, recorded, info)
        self._check_version(members, info)
        scripts = self._console_scripts(members, info)
        for name, member in members.items():
            self._take(name, member, recorded.get(name), info, scripts)
        for name, content in scripts.items():
            self._add(f"{VENV}/bin/{name}", content, executable=True)
        self._add(f"{self._site}/{info}/INSTALLER", INSTALLER)
        self._add(f"{self._site}/{info}/RECORD", self._our_record(info))
        ordered = sorted(self._files.values(), key=lambda file: file.path.encode())
        return WheelPlan(files=tuple(ordered), problems=tuple(self._problems))

    def _members(self) -> dict[str, zipfile.ZipInfo]:
        """The wheel's files by name; what cannot be one is a problem."""
        members: dict[str, zipfile.ZipInfo] = {}
        for member in self._archive.infolist():
            problem = _member_problem(member)
            if problem:
                self._problems.append(f"{member.filename!r} {problem}")
            elif member.filename.endswith("/"):
                continue
            elif member.filename in members:
                self._problems.append(f"{member.filename!r} is in it twice")
            else:
                members[member.filename] = member
        return members

    def _dist_info(self, members: dict[str, zipfile.ZipInfo]) -> str:
        tops = {name.partition("/")[0] for name in members}
        found = sorted(top for top in tops if top.endswith(".dist-info"))
        if len(found) != 1:
            raise WheelError(f"it has {len(found)} folders *.dist-info instead of one")
        return found[0]

    def _record(self, members: dict[str, zipfile.ZipInfo], info: str) -> dict[str, RecordLine]:
        text = self._text(members, f"{info}/RECORD")
        if text is None:
            raise WheelError(f"it has no {info}/RECORD")
        try:
            return parse_record(text)
        except (ValueError, csv.Error) as error:
            raise WheelError(f"its RECORD cannot be read: {error}") from error

    def _check_against_record(
        self, members: dict[str, zipfile.ZipInfo], recorded: dict[str, RecordLine], info: str
    ) -> None:
        exempt = {f"{info}/{name}" for name in _SIGNATURES}
        for name, member in members.items():
            line = recorded.get(name)
            if name in exempt:
                continue
            if line is None:
                self._problems.append(f"{name!r} is not in its RECORD")
            elif not line.hash:
                self._problems.append(f"{name!r} has no hash in its RECORD")
            elif line.size_bytes not in {None, member.file_size}:
                self._problems.append(
                    f"{name!r} has {member.file_size} bytes, its RECORD says {line.size_bytes}"
                )
        for name in recorded:
            if name not in members and name not in exempt and not name.endswith("/"):
                self._problems.append(f"{name!r} is in its RECORD and not in the wheel")

    def _check_version(self, members: dict[str, zipfile.ZipInfo], info: str) -> None:
        text = self._text(members, f"{info}/WHEEL") or ""
        versions = [
            line.partition(":")[2].strip()
            for line in text.splitlines()
            if line.lower().startswith("wheel-version:")
        ]
        if len(versions) != 1 or versions[0].partition(".")[0] != "1":
            self._problems.append(f"its wheel version is {', '.join(versions) or 'not given'}")

    def _console_scripts(self, members: dict[str, zipfile.ZipInfo], info: str) -> dict[str, bytes]:
        text = self._text(members, f"{info}/entry_points.txt")
        if text is None:
            return {}
        try:
            return console_scripts(text)
        except ValueError as error:
            self._problems.append(f"its entry_points.txt: {error}")
            return {}

    def _text(self, members: dict[str, zipfile.ZipInfo], name: str) -> str | None:
        if name not in members:
            return None
        try:
            return self._archive.read(members[name]).decode("utf-8")
        except UnicodeDecodeError as error:
            raise WheelError(f"{name!r} is not UTF-8") from error

    def _take(
        self,
        name: str,
        member: zipfile.ZipInfo,
        line: RecordLine | None,
        info: str,
        scripts: dict[str, bytes],
    ) -> None:
        if name in {f"{info}/{left_out}" for left_out in _NOT_TAKEN}:
            return
        if name.endswith(".pyc") and "__pycache__/" in name:
            return
        path = self._place(name, info)
        if path is None:
            return
        executable = bool((member.external_attr >> 16) & 0o111)
        if _is_script(name, info):
            # What build tools write for entry points is replaced by our own.
            if name.rpartition("/")[2] not in scripts:
                content = self._archive.read(member)
                self._check_script(name, content, line)
                self._add(path, with_our_shebang(content), executable=True)
            return
        self._files_add(
            PlannedFile(
                path=path,
                size_bytes=member.file_size,
                executable=executable,
                record=line.hash if line else "",
                content=member,
            )
        )

    def _check_script(self, name: str, content: bytes, line: RecordLine | None) -> None:
        # Scripts are rewritten here; all other files are checked while they are poured.
        if line is None or not line.hash:
            return
        algorithm, want = expected_digest(line.hash)
        if hashlib.new(algorithm, content).digest() != want:
            self._problems.append(f"{name!r} is not what its RECORD says")

    def _place(self, name: str, info: str) -> str | None:
        data = f"{info.removesuffix('.dist-info')}.data/"
        if not name.startswith(data):
            return f"{self._site}/{name}"
        scheme, slash, rest = name.removeprefix(data).partition("/")
        folders = {
            "purelib": self._site,
            "platlib": self._site,
            "scripts": f"{VENV}/bin",
            "headers": f"{self._include}/{info.partition('-')[0]}",
            "data": VENV,
        }
        if not slash or scheme not in folders:
            self._problems.append(f"{name!r} is of no scheme that we know")
            return None
        return f"{folders[scheme]}/{rest}"

    def _add(self, path: str, content: bytes, *, executable: bool = False) -> None:
        record, size_bytes = sha256_line(content), len(content)
        self._files_add(
            PlannedFile(
                path=path,
                size_bytes=size_bytes,
                executable=executable,
                record=record,
                content=content,
            )
        )

    def _files_add(self, file: PlannedFile) -> None:
        if file.path in self._files:
            self._problems.append(f"it has two files for /{file.path}")
        self._files[file.path] = file

    def _our_record(self, info: str) -> bytes:
        lines = [
            (_relative(file.path, self._site), file.record, str(file.size_bytes))
            for file in self._files.values()
        ]
        return render_record([*lines, (f"{info}/RECORD", "", "")])


def _member_problem(member: zipfile.ZipInfo) -> str | None:
    name = member.filename
    kind = stat.S_IFMT(member.external_attr >> 16)
    parts = name.removesuffix("/").split("/")
    if name != member.orig_filename or "\0" in name:
        return "has a NUL in its name"
    if name.startswith("/") or any(part in {"", ".", ".."} for part in parts):
        return "leads out of the wheel"
    if any(part.startswith(".wh.") for part in parts):
        return "would be a deletion in an image"
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "is neither file nor folder"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return None


def _is_script(name: str, info: str) -> bool:
    return name.startswith(f"{info.removesuffix('.dist-info')}.data/scripts/")


def _relative(path: str, site: str) -> str:
    if path.startswith(f"{site}/"):
        return path.removeprefix(f"{site}/")
    return "../../../" + path.removeprefix(f"{VENV}/")


def conflicts(plans: Sequence[tuple[str, Sequence[PlannedFile]]]) -> list[str]:
    """
    What two wheels cannot agree on.

    The same path with the same bytes is no conflict. Different bytes are, and a path that is a
    file to one and a folder to another.
    """
    owners: dict[str, tuple[str, PlannedFile]] = {}
    folders: dict[str, str] = {}
    found = []
    for owner, files in plans:
        for file in files:
            before, other = owners.setdefault(file.path, (owner, file))
            if (other.record, other.size_bytes) != (file.record, file.size_bytes):
                found.append(f"/{file.path} differs between {before} and {owner}")
            folder = file.path.rpartition("/")[0]
            while folder and folder not in folders:
                folders[folder] = owner
                folder = folder.rpartition("/")[0]
    found += [
        f"/{path} is a file to {owner} and a folder to {folders[path]}"
        for path, (owner, _) in owners.items()
        if path in folders
    ]
    return found
