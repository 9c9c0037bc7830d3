"""Finding the files that a requirements.txt with hashes allows; it names neither file nor URL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from packaging.pylock import Package, PackageArchive, Pylock
from packaging.version import Version

from xmslurm_repro.errors import FetchError, FormatError
from xmslurm_repro.lock.project import LockFile, folders_up, join, parent
from xmslurm_repro.lock.requirements import Pin, Requirements, read_requirements
from xmslurm_repro.lock.select import (
    Selection,
    Unusable,
    no_wheel_error,
    read_pylock,
    replace_packages,
    select,
)
from xmslurm_repro.lock.target import holds
from xmslurm_repro.lock.uvtool import UvError, compile_requirements
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.lock import Target
from xmslurm_repro.ports.store import Tree

# What uv 0.13 prints when the index answers, but has no wheel or no such version.
_NO_WHEEL_SIGNS = (
    "no usable wheels",
    "building is disabled",
    "was not found",
    "there is no version",
)


def inputs(tree: Tree, file: LockFile) -> list[Json]:
    """What decides the selection beside the file itself: the files that it includes, by digest."""
    entries = ((path, tree.find(path)) for path in read_requirements(tree, file.path).paths)
    return [[path, str(entry.digest)] for path, entry in entries if entry]


def select_pins(
    tree: Tree, file: LockFile, target: Target, *, with_sdists: bool = False
) -> Selection:
    """
    Choose the wheels that the file allows for *target*, asking the user's package index; with
    *with_sdists* a source distribution for each package that has no such wheel.

    Raises:
        NoWheelError: With every package whose allowed files hold no wheel for the target.
        FetchError: If the index cannot be asked.
        FormatError: If the file contradicts itself.
    """
    read = read_requirements(tree, file.path)
    pins = _applicable(read, target)
    from_index = [pin for pin in pins if pin.requirement.url is None]
    config = _uv_config(tree, file.folder)
    lock = _look_up(read, from_index, target, config, file.path, with_sdists=with_sdists)
    by_name = {pin.name: pin for pin in from_index}
    packages, unusable = _restrict(lock, by_name, with_sdists=with_sdists)
    packages += [_direct(pin, file.folder) for pin in pins if pin.requirement.url is not None]
    try:
        selection = select(
            replace_packages(lock, packages), target, file.path, with_sdists=with_sdists
        )
    finally:
        if unusable:
            raise no_wheel_error(unusable, target, file.path, hint=_OTHER_FILES)
    return replace(selection, directories=_directories(read, file.path))


_OTHER_FILES = (
    "Check that your package index is the one that the file was made with, or make it again by "
    "`uv pip compile --generate-hashes`."
)


def _applicable(read: Requirements, target: Target) -> list[Pin]:
    """The pins whose marker holds, each package once."""
    chosen: dict[str, Pin] = {}
    for pin in read.pins:
        if not holds(pin.requirement.marker, target, pin.where):
            continue
        known = chosen.setdefault(pin.name, pin)
        if (known.version, known.requirement.url) != (pin.version, pin.requirement.url):
            raise FormatError(f"{pin.where}: {pin.name} is pinned twice, first at {known.where}")
    return list(chosen.values())


def _look_up(
    read: Requirements,
    pins: Sequence[Pin],
    target: Target,
    config: Mapping[str, bytes],
    where: str,
    *,
    with_sdists: bool,
) -> Pylock:
    """All files that the index has of *pins*."""
    options = [" ".join(words) for words in read.index_options]
    wanted = [f"{pin.name}=={pin.version}" for pin in pins]
    if not wanted:
        return read_pylock('lock-version = "1.0"\ncreated-by = "none"\npackages = []', where)
    try:
        described = [(pin.name, str(pin.version)) for pin in pins] if with_sdists else []
        text = compile_requirements(
            [*options, *wanted], target.python, config=config, described=described
        )
        return read_pylock(text, where)
    except UvError as error:
        with ThreadPoolExecutor(max_workers=4) as workers:
            tried = workers.map(lambda line: _trouble([*options, line], target, config), wanted)
            troubles = {pin: trouble for pin, trouble in zip(pins, tried, strict=True) if trouble}
        if troubles and all(_is_no_wheel(trouble) for trouble in troubles.values()):
            listed = [
                Unusable(name=pin.name, version=pin.version or "", found=_sentence(trouble))
                for pin, trouble in troubles.items()
            ]
            raise no_wheel_error(listed, target, where) from error
        raise FetchError(
            f"the package index cannot be asked for the files of {where}",
            hint="Check the network and the index that uv is configured with (UV_INDEX_URL, "
            "UV_DEFAULT_INDEX, uv.toml).",
            details=error.lines(),
        ) from error


def _trouble(lines: Sequence[str], target: Target, config: Mapping[str, bytes]) -> UvError | None:
    try:
        compile_requirements(lines, target.python, config=config)
    except UvError as error:
        return error
    return None


def _is_no_wheel(error: UvError) -> bool:
    return any(sign in str(error) for sign in _NO_WHEEL_SIGNS)


def _sentence(error: UvError) -> str:
    causes = [line for line in error.lines() if "ause" in line]
    return (causes or error.lines() or ("uv says nothing",))[0].removeprefix("cause: ")


def _restrict(
    lock: Pylock, pins: Mapping[str, Pin], *, with_sdists: bool
) -> tuple[list[Package], list[Unusable]]:
    """Keep only files that the requirements allow."""
    packages, unusable = [], []
    for package in lock.packages:
        pin = pins[package.name]
        wheels = [wheel for wheel in package.wheels or () if _allows(pin, wheel.hashes)]
        has_sdist = package.sdist is not None and _allows(pin, package.sdist.hashes)
        if wheels or (with_sdists and has_sdist):
            packages.append(
                Package(
                    name=package.name,
                    version=package.version,
                    sdist=package.sdist if has_sdist else None,
                    wheels=wheels,
                )
            )
        else:
            count = len(package.wheels or ())
            found = f"none of the {count} wheels on the index has a hash that {pin.where} allows"
            unusable.append(Unusable(name=pin.name, version=pin.version or "", found=found))
    return packages, unusable


def _allows(pin: Pin, hashes: Mapping[str, str]) -> bool:
    return f"sha256:{hashes.get('sha256', '')}" in pin.hashes


def _direct(pin: Pin, folder: str) -> Package:
    """A requirement that names a URL (PEP 508, ``name @ https://…``), or a wheel of the project."""
    digits = min(pin.hashes).removeprefix("sha256:")
    url = (pin.requirement.url or "").partition("#")[0]
    version = Version(pin.version) if pin.version else None
    hashes = {"sha256": digits.lower()}
    archive = PackageArchive(url=url, hashes=hashes)
    if pin.path is not None:
        archive = PackageArchive(path=f"{_up_from(folder)}{pin.path}", hashes=hashes)
    return Package(name=pin.name, version=version, archive=archive)  # type: ignore[arg-type]


def _directories(read: Requirements, lock_path: str) -> tuple[tuple[str, str], ...]:
    """Local packages by their paths, from the lock's folder."""
    up = _up_from(parent(lock_path))
    return tuple(sorted((path or ".", f"{up}{path}") for path in set(read.directories)))


def _up_from(folder: str) -> str:
    """From *folder* to the snapshot's root."""
    return "../" * len([place for place in folders_up(folder) if place])


def _uv_config(tree: Tree, folder: str) -> dict[str, bytes]:
    """The nearest uv configuration, which may name an index."""
    for place in folders_up(folder):
        for name in ("uv.toml", "pyproject.toml"):
            data = tree.read(join(place, name))
            if data is not None and (name == "uv.toml" or b"[tool.uv" in data):
                return {name: data}
    return {}
