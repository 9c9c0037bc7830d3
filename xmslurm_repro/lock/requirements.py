"""requirements.txt with hashes, as pip and uv write and read it.

The format is pip's ("Requirements File Format" in its documentation): one requirement to a
logical line, a backslash at the end continues it, `` #`` begins a comment, options begin with a
hyphen.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from xmslurm_repro.errors import FormatError, LockUnpinnedError
from xmslurm_repro.lock.project import inside, parent, read_text
from xmslurm_repro.ports.store import Tree
from xmslurm_repro.transport.http_messages import public_url

_INDEX_OPTIONS = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "--no-index": "--no-index",
}
_HARMLESS = frozenset(
    {"--require-hashes", "--prefer-binary", "--only-binary", "--no-binary", "--pre"}
)
_VCS = re.compile(r"(?:git|hg|svn|bzr)\+")
_FRAGMENT = re.compile(r"(?<=[#&])sha256=[0-9a-fA-F]{64}")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """
    One requirement, pinned.

    Attributes:
        name: Normalised.
        requirement: As it stands, without hashes.
        version: The pinned version, or ``None`` when *requirement* names a URL.
        hashes: Allowed ``sha256:<hex>``.
        where: File and line, for errors.
        path: Of a wheel in the project, from the snapshot's root.
    """

    name: str
    requirement: Requirement
    version: str | None
    hashes: frozenset[str]
    where: str
    path: str | None = None


@dataclass(slots=True, kw_only=True)
class Requirements:
    """
    A requirements file with all that it includes.

    Attributes:
        pins: In the order of the file.
        index_options: Options that say where packages come from, in the order of the file.
        directories: Local packages (``-e .``, ``./libs/a``) by path from the snapshot's root.
        paths: The files that were read, the first one first.
    """

    pins: list[Pin] = field(default_factory=list)
    index_options: list[tuple[str, ...]] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def read_requirements(tree: Tree, path: str) -> Requirements:
    """
    Read the requirements file at *path* of the snapshot and what it includes.

    Raises:
        FormatError: If a line cannot be read.
        LockUnpinnedError: With every requirement that has no version or no SHA-256.
    """
    found = Requirements()
    unpinned: list[str] = []
    _read_into(found, unpinned, tree, path)
    if unpinned:
        count = f"{len(unpinned)} package{'s' if len(unpinned) > 1 else ''}"
        raise LockUnpinnedError(
            f"{path} does not pin {count} by version and hash",
            hint="Run `uv pip compile --generate-hashes` on your requirements and launch with its "
            "output, or use `uv lock`.",
            details=tuple(unpinned),
        )
    return found


def _read_into(found: Requirements, unpinned: list[str], tree: Tree, path: str) -> None:
    if path in found.paths:
        return
    found.paths.append(path)
    for number, line in _logical_lines(read_text(tree, path)):
        where = f"{path}:{number}"
        if line.startswith("-"):
            _read_option(found, unpinned, tree, path, where, line)
        else:
            _read_requirement(found, unpinned, path, where, line)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each logical line with the number of its first line, without comments."""
    held, first = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        first = first or number
        stripped = "" if line.lstrip().startswith("#") else line
        if stripped.rstrip().endswith("\\"):
            held += stripped.rstrip()[:-1] + " "
            continue
        whole = re.sub(r"(^|\s)#.*$", "", held + stripped).strip()
        if whole:
            yield first, whole
        held, first = "", 0
    if held.strip():
        yield first, held.strip()


def _read_option(
    found: Requirements, unpinned: list[str], tree: Tree, path: str, where: str, line: str
) -> None:
    words = _words(line.replace("=", " ", 1) if line.startswith("--") else line, where)
    name, values = words[0], words[1:]
    if name in {"-r", "--requirement"} and values:
        _read_into(found, unpinned, tree, _inside(parent(path), values[0], where))
    elif name in {"-c", "--constraint"}:
        return  # a lock has no use for bounds
    elif name in {"-e", "--editable"} and values:
        if _VCS.match(values[0]):
            unpinned.append(f"{where}: {public_url(values[0])}")
        else:
            found.directories.append(_inside(parent(path), _bare_path(values[0]), where))
    elif name in _INDEX_OPTIONS:
        found.index_options.append((_INDEX_OPTIONS[name], *values))
    elif name not in _HARMLESS:
        raise FormatError(f"{where}: the option {name} is not understood")


def _read_requirement(
    found: Requirements, unpinned: list[str], path: str, where: str, line: str
) -> None:
    text, *options = re.split(r"\s(?=--[a-z])", line)
    text = _named_wheel(text.strip())
    if text == "@EXPLICIT":
        raise LockUnpinnedError(
            f"{path} is a list of conda packages without what we need to lay them out",
            hint="Run `conda-lock lock --file environment.yml` and launch with its conda-lock.yml.",
        )
    if _is_path(text):
        found.directories.append(_inside(parent(path), _bare_path(text), where))
        return
    if _VCS.match(text):
        unpinned.append(f"{where}: {public_url(text)}")
        return
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise FormatError(f"{where}: {text!r} is no requirement: {error}") from error
    given = (re.split(r"[=\s]+", option, maxsplit=1) for option in options)
    hashes = {value.strip().lower() for name, *rest in given if name == "--hash" for value in rest}
    fragments = _FRAGMENT.finditer(requirement.url or "")
    hashes |= {found_one[0].replace("=", ":").lower() for found_one in fragments}
    usable = frozenset(value for value in hashes if _SHA256.fullmatch(value))
    version = _exact_version(requirement)
    if not usable or (version is None and requirement.url is None):
        url = f" @ {public_url(requirement.url)}" if requirement.url else ""
        unpinned.append(f"{where}: {requirement.name}{url or requirement.specifier}")
        return
    pin = Pin(
        name=canonicalize_name(requirement.name),
        requirement=requirement,
        version=version,
        hashes=usable,
        where=where,
        path=_local_path(requirement.url, parent(path), where),
    )
    found.pins.append(pin)


def _named_wheel(text: str) -> str:
    """A lone URL or path of a wheel as a requirement that also says its name (PEP 508)."""
    place, semicolon, marker = text.partition(" ;")
    bare = place.strip().partition("#")[0]
    if not bare.endswith(".whl") or " @ " in place:
        return text
    try:
        name = parse_wheel_filename(unquote(bare.rpartition("/")[2]))[0]
    except InvalidWheelFilename:
        return text
    url = place.strip()
    if "://" not in url:
        url = f"file:{url.removeprefix('file:')}"
    return f"{name} @ {url}{f' ;{marker}' if semicolon else ''}"


def _local_path(url: str | None, folder: str, where: str) -> str | None:
    """Where a wheel of the project lies, from the snapshot's root."""
    if url is None or not url.startswith("file:"):
        return None
    return _inside(folder, _bare_path(url.partition("#")[0]), where)


def _exact_version(requirement: Requirement) -> str | None:
    clauses = list(requirement.specifier)
    exact = len(clauses) == 1 and clauses[0].operator in {"==", "==="}
    if not exact or clauses[0].version.endswith(".*"):
        return None
    return clauses[0].version


def _words(line: str, where: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise FormatError(f"{where}: {error}") from error


def _is_path(text: str) -> bool:
    return text == "." or text.startswith(("./", "../", "/", "file:")) or text.endswith("/")


def _bare_path(text: str) -> str:
    """A local path without the scheme and the extras that pip allows with it."""
    return re.sub(r"\[[^]]*\]$", "", text.removeprefix("file://").removeprefix("file:"))


def _inside(folder: str, path: str, where: str) -> str:
    """*path*, from *folder*, as a path from the snapshot's root."""
    found = inside(folder, path)
    if found is None:
        raise FormatError(f"{where}: {path} is outside of the snapshot")
    return found
