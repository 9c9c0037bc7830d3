"""From a conda-lock.yml or a pixi.lock to the packages for one target.

The environment that such a lock describes brings its own Python, if any: packages of PyPI's kind
in it are chosen for that one. The base image gives only machine and C library, which conda calls
virtual packages (``__glibc``) and packages may make demands on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from xmslurm_repro.errors import FormatError, LockUnpinnedError, NotSupportedError
from xmslurm_repro.lock.conda_files import Locked, read_conda_lock, read_pixi_lock
from xmslurm_repro.lock.project import CONDA_LOCK, DEFAULT_CHOICE, Choice
from xmslurm_repro.lock.select import PinnedFile, Selection, Unusable, no_wheel_error
from xmslurm_repro.lock.target import machine, wheel_tags
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import VENV_DIR
from xmslurm_repro.model.lock import Artifact, Target
from xmslurm_repro.transport.http_messages import public_url

_SUBDIRS = {"x86_64": "linux-64"}
_TOKEN = re.compile(r"/t/[^/]+(?=/)")
_FILE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)(?:\.conda|\.tar\.bz2)")
_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<|=)?\s*([^\s*]+?)(\.?\*)?")
_FREE_THREADED = re.compile(r"_cp\d+t$")


def select_conda(
    text: str, where: str, kind: str, target: Target, choice: Choice = DEFAULT_CHOICE
) -> Selection:
    """
    Choose what the lock pins for *target*; its Python is that of the selection, if it has one.

    Raises:
        FormatError: If it cannot be read, or is not for the target.
        UsageError: If it does not have what *choice* names.
        LockUnpinnedError: With every package that has no SHA-256.
        NoWheelError: With every package that has no file for the target.
    """
    platform = conda_subdir(target)
    read = read_conda_lock if kind == CONDA_LOCK else read_pixi_lock
    packages = read(text, where, platform, choice)
    _demand_hashes([one for one in packages if not _is_folder(one)], where)
    conda = [_conda_file(one, where) for one in packages if one.is_conda and not one.is_built]
    _demand_virtual(packages, target, where)
    python = next((one.artifact for one in conda if one.artifact.name == "python"), None)
    inner = with_python(target, python.version) if python else None
    _demand_ordinary(python, where)
    wheels, directories = _of_pypi(packages, inner, target, where)
    files = sorted((*conda, *wheels), key=lambda one: (one.artifact.name, one.artifact.filename))
    return Selection(
        files=tuple(files),
        directories=tuple(sorted(directories)),
        python=python.version if python else None,
    )


def conda_subdir(target: Target) -> str:
    """The target's platform as conda says it: ``linux-64``, ``linux-aarch64``, …"""
    name = machine(target)
    return _SUBDIRS.get(name, f"linux-{name}")


def with_python(target: Target, version: str) -> Target:
    """*target* with the Python of a conda environment in place of the base's."""
    minor = ".".join(version.split(".")[:2])
    return replace(
        target,
        python=version,
        python_executable=f"{VENV_DIR}/bin/python{minor}",
        source=f"conda package python {version}; {target.source.rpartition('; ')[2]}",
    )


def _is_folder(one: Locked) -> bool:
    return not one.is_conda and "://" not in one.place and not one.place.endswith(".whl")


def _demand_hashes(packages: Iterable[Locked], where: str) -> None:
    unpinned = [
        f"{one.name or one.place} {one.version}: "
        + ("only an MD5, which anybody can forge" if one.md5 else "no hash")
        for one in packages
        if one.sha256 is None and not one.is_built and not one.place.startswith("git+")
    ]
    if unpinned:
        count = f"{len(unpinned)} package{'s' if len(unpinned) > 1 else ''}"
        tool = "conda-lock lock" if where.endswith((".yml", ".yaml")) else "pixi update"
        raise LockUnpinnedError(
            f"{where} does not pin {count} by SHA-256",
            hint=f"Lock again with `{tool}`, from a channel whose index has SHA-256 digests.",
            details=unpinned,
        )


def _conda_file(one: Locked, where: str) -> PinnedFile:
    parts = urlsplit(_without_token(one.place))
    if parts.scheme not in {"http", "https", "file"}:
        raise FormatError(f"{where}: {public_url(one.place)} is no address of a package")
    channel, _, filename = public_url(parts.geturl()).rpartition("/")
    filename = unquote(filename)
    named = _FILE.fullmatch(filename)
    if named is None:
        raise FormatError(f"{where}: {filename} is no name of a conda package")
    artifact = Artifact(
        name=one.name or named["name"],
        version=one.version or named["version"],
        filename=filename,
        sha256=_sha256(one, where),
        channel=channel,
        url=one.place,
        size_bytes=one.size_bytes,
    )
    return PinnedFile(artifact=artifact)


def _without_token(url: str) -> str:
    """A URL without the token that some channels have in their path (``/t/<token>/``)."""
    return _TOKEN.sub("", url, count=1)


def _sha256(one: Locked, where: str) -> Digest:
    try:
        return Digest.sha256((one.sha256 or "").lower())
    except ValueError as error:
        raise FormatError(f"{where}: {one.name or one.place}: sha256: {error}") from error


def _demand_ordinary(python: Artifact | None, where: str) -> None:
    build = _FILE.fullmatch(python.filename) if python else None
    if python and build and _FREE_THREADED.search(build["build"]):
        raise NotSupportedError(
            f"{where} locks a free-threaded Python, {python.filename}",
            hint="Lock an ordinary one: `python-gil` beside `python`.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demand:
    """What a package demands of the machine."""

    package: str
    virtual: str
    spec: str

    def __str__(self) -> str:
        return f"{self.package}: {self.virtual} {self.spec}".rstrip()


def _demand_virtual(packages: Sequence[Locked], target: Target, where: str) -> None:
    """Kernel, driver and processor are the node's, and are not known here; the C library is."""
    libc, major, minor = target.libc
    unmet = []
    for one in packages:
        for virtual, spec in one.depends:
            demand = _Demand(package=one.name or one.place, virtual=virtual, spec=spec)
            if virtual in {"__osx", "__win"} or (
                virtual == "__glibc" and not (libc == "glibc" and _allows(spec, f"{major}.{minor}"))
            ):
                unmet.append(demand)
    if unmet:
        raise FormatError(
            f"{where} has packages that the base image cannot run",
            details=[f"base image: {libc} {major}.{minor} ({target.source})", *map(str, unmet)],
            hint="Use a base image of a newer distribution, or lock for an older one.",
        )


def _allows(spec: str, version: str) -> bool:
    """Whether conda's version *spec* allows *version*; what we cannot read does."""
    alternatives = [part for part in spec.partition(" ")[0].split("|") if part]
    return not alternatives or any(
        all(_holds(clause.strip(), version) for clause in part.split(",")) for part in alternatives
    )


def _holds(clause: str, version: str) -> bool:
    found = _CLAUSE.fullmatch(clause)
    if found is None:
        return True
    operator, text, star = found.groups()
    try:
        want, have = Version(text), Version(version)
    except InvalidVersion:
        return True
    starts = have.release[: len(want.release)] == want.release
    return {
        ">=": have >= want,
        "<=": have <= want,
        ">": have > want,
        "<": have < want,
        "!=": not starts if star else have != want,
        "=": starts,
        "==": have == want,
        None: starts if star else have == want,
    }[operator]


def _of_pypi(
    packages: Sequence[Locked], inner: Target | None, target: Target, where: str
) -> tuple[list[PinnedFile], list[tuple[str, str]]]:
    """The wheels and the folders; every other package is reported."""
    wheels: list[PinnedFile] = []
    directories: list[tuple[str, str]] = []
    unusable = [
        Unusable(name=one.name, version=one.version, found=f"built from sources in {one.place}")
        for one in packages
        if one.is_conda and one.is_built
    ]
    tags = frozenset(wheel_tags(inner)) if inner else frozenset[Tag]()
    for one in packages:
        if one.is_conda:
            continue
        if _is_folder(one):
            directories.append((one.name, one.place))
        elif (problem := _unfit(one, tags)) is not None:
            unusable.append(Unusable(name=one.name, version=one.version, found=problem))
        else:
            wheels.append(_wheel(one, where))
    if unusable:
        raise no_wheel_error(unusable, inner or target, where)
    return wheels, directories


def _filename(one: Locked) -> str:
    return unquote(urlsplit(one.place).path.rpartition("/")[2])


def _unfit(one: Locked, tags: frozenset[Tag]) -> str | None:
    filename = _filename(one)
    if not tags:
        return "there is no Python in the environment"
    if one.place.startswith("git+"):
        return f"only a git repository ({public_url(one.place)})"
    try:
        found = parse_wheel_filename(filename)[-1]
    except InvalidWheelFilename:
        return f"only {filename}"
    return f"only {filename}" if found.isdisjoint(tags) else None


def _wheel(one: Locked, where: str) -> PinnedFile:
    is_local = "://" not in one.place
    name, version, *_ = parse_wheel_filename(_filename(one))
    artifact = Artifact(
        name=canonicalize_name(one.name or name),
        version=one.version or str(version),
        filename=_filename(one),
        sha256=_sha256(one, where),
        url=None if is_local else one.place.partition("#")[0],
        size_bytes=one.size_bytes,
    )
    return PinnedFile(artifact=artifact, path=one.place if is_local else None)
