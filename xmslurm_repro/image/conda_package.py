"""What one conda package becomes in our prefix, planned from its description alone.

The description is in ``info/``: ``index.json`` says what it is, ``paths.json`` what it installs
(older packages: ``files``, ``has_prefix``), ``link.json`` which commands it has. It is part of the
layout: a change of what is planned here needs a new `CONDA_LAYOUT`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from xmslurm_repro.errors import FormatError
from xmslurm_repro.image.conda_archive import CondaError
from xmslurm_repro.image.scripts import console_scripts
from xmslurm_repro.model.image import VENV_DIR
from xmslurm_repro.model.reader import Reader

PREFIX = VENV_DIR.lstrip("/")

_OLD_PLACEHOLDER = "/opt/anaconda1anaconda2anaconda3"
"""What ``has_prefix`` means where it names none."""

_HEX = re.compile(r"[0-9a-f]{64}")
_LINK_SCRIPTS = re.compile(r"bin/\..*-(?:pre|post)-link\.sh")
_ACTIVATION = ("etc/conda/activate.d/", "etc/conda/env_vars.d/")


class PathType(Enum):
    """What a path of a package becomes; the names are those of the record in ``conda-meta``."""

    FILE = "hardlink"
    LINK = "softlink"
    DIRECTORY = "directory"
    COMMAND = "unix_python_entry_point"


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaFile:
    """
    One path of a package.

    Attributes:
        path: In the prefix.
        kind: What it becomes.
        source: In the package; a command has none.
        content: A command's.
        placeholder: The prefix in its content that ours takes the place of.
        is_binary: Whether that has to stay as long as it is.
        sha256: Of its content in the package, where that is said.
        size_bytes: The same.
    """

    path: str
    kind: PathType
    source: str = ""
    content: bytes = b""
    placeholder: bytes | None = None
    is_binary: bool = False
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaPlan:
    """
    What a package becomes.

    Attributes:
        index: Its ``index.json``.
        files: Sorted by path.
        depends: Names of the packages that it needs.
        problems: All that is wrong with it.
        remarks: What it brings that takes no effect.
    """

    index: Reader
    files: tuple[CondaFile, ...]
    depends: tuple[str, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]


def plan_conda(info: Mapping[str, bytes], python_minor: str | None) -> CondaPlan:
    """
    Plan the layout of the package that *info* describes.

    Args:
        info: The files below its ``info/``.
        python_minor: Of the Python in the same prefix, such as ``3.12``.

    Raises:
        CondaError: If it cannot be read.
    """
    try:
        return _Planner(info, python_minor).plan()
    except (FormatError, UnicodeDecodeError, ValueError) as error:
        raise CondaError(f"its description cannot be read: {error}") from error


class _Planner:
    def __init__(self, info: Mapping[str, bytes], python_minor: str | None) -> None:
        if "index.json" not in info:
            raise CondaError("it has no info/index.json")
        self._info = info
        self._index = Reader.of_json(info["index.json"], "info/index.json")
        self._python_minor = python_minor
        self._problems: list[str] = []
        self._files: dict[str, CondaFile] = {}

    def plan(self) -> CondaPlan:
        is_python = self._is_noarch_python()
        if is_python and self._python_minor is None:
            self._problems.append("it needs a Python, and the environment has none")
        for file in self._listed():
            path = self._place(file.path) if is_python else file.path
            self._add(file, path)
        for name, content in self._commands().items() if is_python else ():
            command = CondaFile(path=f"bin/{name}", kind=PathType.COMMAND, content=content)
            self._add(command, command.path)
        depends = self._index.maybe("depends")
        return CondaPlan(
            index=self._index,
            files=tuple(sorted(self._files.values(), key=lambda file: file.path.encode())),
            depends=tuple(text.partition(" ")[0] for text in (depends.texts() if depends else ())),
            problems=tuple(self._problems),
            remarks=tuple(self._remarks()),
        )

    def _add(self, file: CondaFile, path: str) -> None:
        problem = _path_problem(path)
        if problem:
            self._problems.append(f"{path!r} {problem}")
        elif path.endswith(".pyc") and "__pycache__/" in path:
            return
        elif path in self._files:
            self._problems.append(f"it has two files for {path}")
        else:
            self._files[path] = CondaFile(
                path=path,
                kind=file.kind,
                source=file.source,
                content=file.content,
                placeholder=file.placeholder,
                is_binary=file.is_binary,
                sha256=file.sha256,
                size_bytes=file.size_bytes,
            )

    def _place(self, path: str) -> str:
        """Where a path of a package for every Python goes."""
        if path.startswith("site-packages/"):
            return f"lib/python{self._python_minor}/{path}"
        if path.startswith("python-scripts/"):
            return "bin/" + path.removeprefix("python-scripts/")
        return path

    def _listed(self) -> Iterator[CondaFile]:
        if "paths.json" in self._info:
            document = Reader.of_json(self._info["paths.json"], "info/paths.json")
            for item in document.field("paths").items():
                yield _of_paths(item)
            return
        prefixes = dict(_of_has_prefix(self._info.get("has_prefix", b"").decode()))
        for line in self._info.get("files", b"").decode().splitlines():
            path = line.strip()
            if path:
                placeholder, is_binary = prefixes.get(path, (None, False))
                yield CondaFile(
                    path=path,
                    kind=PathType.FILE,
                    source=path,
                    placeholder=placeholder,
                    is_binary=is_binary,
                )

    def _is_noarch_python(self) -> bool:
        noarch = self._index.maybe("noarch")
        if noarch is not None and isinstance(noarch.value, str):
            return noarch.value == "python"
        link = self._link()
        kind = link.maybe("type") if link else None
        return kind is not None and kind.value == "python"

    def _link(self) -> Reader | None:
        if "link.json" not in self._info:
            return None
        return Reader.of_json(self._info["link.json"], "info/link.json").maybe("noarch")

    def _commands(self) -> dict[str, bytes]:
        link = self._link()
        listed = link.maybe("entry_points") if link else None
        lines = "".join(f"{line}\n" for line in (listed.texts() if listed else ()))
        try:
            return console_scripts(f"[console_scripts]\n{lines}")
        except ValueError as error:
            self._problems.append(f"its entry points: {error}")
            return {}

    def _remarks(self) -> Iterator[str]:
        scripts = [path for path in self._files if _LINK_SCRIPTS.fullmatch(path)]
        if scripts:
            yield f"its script {', '.join(sorted(scripts))} is not run"
        active = [path for path in self._files if path.startswith(_ACTIVATION)]
        if active:
            yield f"what {', '.join(sorted(active))} would set is not set"


def _of_paths(item: Reader) -> CondaFile:
    path, kind = item.field("_path").text(), item.field("path_type")
    placeholder, mode = item.maybe("prefix_placeholder"), item.maybe("file_mode")
    sha256, size = item.maybe("sha256"), item.maybe("size_in_bytes")
    try:
        known = PathType(kind.text())
    except ValueError as error:
        raise kind.fail("hardlink, softlink or directory") from error
    is_file = known is PathType.FILE
    digits = sha256.text().lower() if sha256 and is_file else ""
    return CondaFile(
        path=path,
        kind=known,
        source=path,
        placeholder=placeholder.text().encode() if placeholder and is_file else None,
        is_binary=mode is not None and mode.text() == "binary",
        sha256=digits if _HEX.fullmatch(digits) else None,
        size_bytes=size.integer() if size and is_file else None,
    )


def _of_has_prefix(text: str) -> Iterator[tuple[str, tuple[bytes, bool]]]:
    """Lines ``path`` or ``placeholder mode path``, the path in quotes if need be."""
    for line in text.splitlines():
        words = shlex.split(line)
        if len(words) == 3:
            yield words[2], (words[0].encode(), words[1] == "binary")
        elif words:
            yield words[-1], (_OLD_PLACEHOLDER.encode(), False)


def _path_problem(path: str) -> str | None:
    parts = path.split("/")
    if "\0" in path:
        return "has a NUL in its name"
    if any(part in {"", ".", ".."} for part in parts):
        return "leads out of the prefix"
    if any(part.startswith(".wh.") for part in parts):
        return "would be a deletion in an image"
    if path.startswith("conda-meta/"):
        return "is where records of packages are"
    return None
