"""From a pylock.toml (PEP 751) to the wheels for one target, with all that is wrong at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockValidationError,
)
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

from xmslurm_repro.errors import FormatError, NoWheelError
from xmslurm_repro.lock.project import DEFAULT_CHOICE, Choice, no_such_choice
from xmslurm_repro.lock.target import machine, marker_environment, told_apart, wheel_tags
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.lock import Artifact, Target
from xmslurm_repro.transport.http_messages import public_url

_SHOWN_WHEELS = 2

Source: TypeAlias = PackageVcs | PackageDirectory | PackageArchive | PackageSdist | PackageWheel


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """
    A wheel that a lock pins.

    Attributes:
        artifact: The wheel.
        path: Where it lies, from the lock's folder, when the lock names no URL.
    """

    artifact: Artifact
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """
    What a lock means for one target.

    Attributes:
        files: The wheels, sorted by name.
        directories: Name and path, from the lock's folder, of each package that is a folder of
            sources; sorted by name.
        python: Full version of the Python that is among the files; ``None`` if none is.
        sdists: Source distributions of packages that have no wheel for the target.
    """

    files: tuple[PinnedFile, ...] = ()
    directories: tuple[tuple[str, str], ...] = ()
    python: str | None = None
    sdists: tuple[PinnedFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A package that has no wheel for the target, and what there is instead."""

    name: str
    version: str
    found: str

    def __str__(self) -> str:
        """Write ``name version: what there is``."""
        return f"{self.name} {self.version}: {self.found}".replace(" :", ":")


def read_pylock(text: str, where: str) -> Pylock:
    """
    Read a pylock.toml.

    Raises:
        FormatError: If it is none; the message names the key.
    """
    try:
        return Pylock.from_dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise FormatError(f"{where}: not TOML: {error}") from error
    except PylockValidationError as error:
        raise FormatError(f"{where}: not a lock file (PEP 751): {error}") from error


def select(
    lock: Pylock,
    target: Target,
    where: str,
    choice: Choice = DEFAULT_CHOICE,
    *,
    with_sdists: bool = False,
) -> Selection:
    """
    Choose what *lock* pins for *target*: default dependencies and those of *choice*, the best
    wheel of each package; of one without a wheel its source distribution, if these are wanted.

    Raises:
        UsageError: If the lock does not have what *choice* names.
        NoWheelError: With every package that has no wheel for the target.
        FormatError: If the lock contradicts itself.
    """
    _check_choice(lock, choice, where)
    tags = wheel_tags(target)
    files, directories, unusable, sdists = [], [], [], []
    for package, source in _choose(lock, target, tags, where, choice):
        version = str(package.version) if package.version else ""
        if isinstance(source, PackageDirectory):
            directories.append((str(package.name), source.path))
        elif isinstance(source, PackageWheel | PackageArchive) and _fits(source, tags):
            files.append(_pinned(package, source, where))
        elif with_sdists and _is_sdist(source):
            sdists.append(_pinned(package, source, where))
        else:
            found = _describe(package, source, tags, machine(target))
            unusable.append(Unusable(name=package.name, version=version, found=found))
    if unusable:
        raise no_wheel_error(unusable, target, where)
    return Selection(
        files=tuple(sorted(files, key=lambda file: file.artifact.name)),
        directories=tuple(sorted(directories)),
        sdists=tuple(sorted(sdists, key=lambda file: file.artifact.name)),
    )


def _check_choice(lock: Pylock, choice: Choice, where: str) -> None:
    has = Choice.of(lock.extras or (), lock.dependency_groups or ())
    if set(choice.extras) <= set(has.extras) and set(choice.groups) <= set(has.groups):
        return
    raise no_such_choice(choice, where, [f"there are: {has}" if str(has) else "it has none"])


def no_wheel_error(
    unusable: Iterable[Unusable], target: Target, where: str, *, hint: str | None = None
) -> NoWheelError:
    """The error that lists packages which cannot be installed from wheels."""
    listed = sorted(unusable, key=lambda item: item.name)
    names = ", ".join(item.name for item in listed)
    count = f"{len(listed)} package{'s' if len(listed) > 1 else ''}"
    return NoWheelError(
        f"{where} has no usable wheel for {count}: {names}",
        hint=hint
        or "Let source distributions be built once in the base image with `--build-sdists`. Or "
        "build each into a wheel (`uv build --wheel`), keep that in the project, name it as a "
        'source (`tool.uv.sources`: `{ path = "wheels/….whl" }`), and lock again.',
        details=(
            (
                f"target: Python {target.python} for {target.architecture}, "
                f"{target.libc[0]} {target.libc[1]}.{target.libc[2]} ({target.source})"
            ),
            *(str(item) for item in listed),
        ),
    )


def _choose(
    lock: Pylock, target: Target, tags: Sequence[Tag], where: str, choice: Choice
) -> list[tuple[Package, Source | None]]:
    """Run the selection of PEP 751; after an error package by package, to meet them all."""
    with told_apart(where):
        return _choose_all(lock, target, tags, where, choice)


def _choose_all(
    lock: Pylock, target: Target, tags: Sequence[Tag], where: str, choice: Choice
) -> list[tuple[Package, Source | None]]:
    def ask(some: Pylock) -> list[tuple[Package, Source]]:
        groups = {*(lock.default_groups or ()), *choice.groups}
        environment = marker_environment(target)
        found = some.select(
            environment=environment, tags=tags, extras=choice.extras, dependency_groups=groups
        )
        return list(found)

    try:
        return [*ask(lock)]
    except PylockSelectError:
        pass
    try:
        ask(replace_packages(lock, ()))
    except PylockSelectError as error:
        raise NoWheelError(
            f"{where} is not for Python {target.python} on Linux {target.architecture}: {error}",
            hint="Use a base image with a Python that the lock allows, or change "
            "`requires-python` and lock again.",
            details=(f"target: {target.source}",),
        ) from error
    chosen: list[tuple[Package, Source | None]] = []
    for package in lock.packages:
        alone = replace_packages(lock, (package,))
        try:
            chosen.extend(ask(alone))
        except PylockSelectError:
            chosen.append((package, None))
    names = [package.name for package, _ in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FormatError(f"{where}: more than one version applies of {', '.join(twice)}")
    return chosen


def replace_packages(lock: Pylock, packages: Sequence[Package]) -> Pylock:
    """The same lock with other packages."""
    return Pylock(
        lock_version=lock.lock_version,
        environments=lock.environments,
        requires_python=lock.requires_python,
        extras=lock.extras,
        dependency_groups=lock.dependency_groups,
        default_groups=lock.default_groups,
        created_by=lock.created_by,
        packages=packages,
    )


def _fits(source: PackageWheel | PackageArchive, tags: Sequence[Tag]) -> bool:
    """Whether it is a wheel for one of *tags*; the library has checked only the `PackageWheel`."""
    if isinstance(source, PackageWheel):
        return True
    try:
        found = parse_wheel_filename(_filename(source))[-1]
    except InvalidWheelFilename:
        return False
    return source.subdirectory is None and not found.isdisjoint(tags)


def _is_sdist(source: Source | None) -> TypeGuard[PackageSdist | PackageArchive]:
    """Whether it can be built; a source distribution at a URL is an archive to PEP 751."""
    if isinstance(source, PackageArchive):
        return source.subdirectory is None and _filename(source).endswith((".tar.gz", ".zip"))
    return isinstance(source, PackageSdist)


def _filename(source: PackageWheel | PackageArchive | PackageSdist) -> str:
    if isinstance(source, PackageWheel | PackageSdist):
        return source.filename
    return (source.path or public_url(source.url or "")).rpartition("/")[2]


def _pinned(
    package: Package, source: PackageWheel | PackageArchive | PackageSdist, where: str
) -> PinnedFile:
    filename = _filename(source)
    digits = source.hashes.get("sha256", "")
    try:
        sha256 = Digest.sha256(digits.lower())
    except ValueError as error:
        raise FormatError(
            f"{where}: {filename} has no SHA-256, only {', '.join(sorted(source.hashes))}"
        ) from error
    version = str(package.version or _version_in(filename))
    # ``file:`` and a path: a wheel in the project. uv writes other files as ``file:///``.
    local = "" if is_absolute(source.url) else (source.url or "").partition("file:")[2]
    artifact = Artifact(
        name=package.name,
        version=version,
        filename=filename,
        sha256=sha256,
        url=None if local else source.url,
        size_bytes=source.size,
    )
    return PinnedFile(artifact=artifact, path=local or source.path)


def is_absolute(url: str | None) -> bool:
    """Whether *url* is a file anywhere on this machine, and not one of the project."""
    return url is not None and url.startswith("file://")


def _version_in(filename: str) -> str:
    if filename.endswith(".whl"):
        return str(parse_wheel_filename(filename)[1])
    return str(parse_sdist_filename(filename)[1])


def _describe(
    package: Package, source: Source | None, tags: Sequence[Tag], machine_name: str
) -> str:
    """What there is of a package instead of a wheel that fits, the most similar ones first."""
    if isinstance(source, PackageVcs):
        return f"only a {source.type} repository ({public_url(source.url or source.path or '')})"
    if isinstance(source, PackageArchive):
        return f"only {_filename(source)}"
    wheels = [wheel.filename for wheel in package.wheels or ()]
    if not wheels:
        return "only a source distribution"
    pythons = {(tag.interpreter, tag.abi) for tag in tags}

    def unlikeness(filename: str) -> tuple[bool, bool, str]:
        found = parse_wheel_filename(filename)[-1]
        fits_python = any((tag.interpreter, tag.abi) in pythons for tag in found)
        fits_machine = any(tag.platform.endswith((machine_name, "any")) for tag in found)
        return not fits_python, not fits_machine, filename

    shown = ", ".join(sorted(wheels, key=unlikeness)[:_SHOWN_WHEELS])
    more = len(wheels) - _SHOWN_WHEELS
    shown += f" and {more} more" if more > 0 else ""
    return f"only {shown}" + (" and a source distribution" if package.sdist else "")
