"""Reading conda-lock.yml (version 1) and pixi.lock (versions 4 to 7) for one platform.

Formats: conda-lock's ``lockfile/v1/models.py`` and rattler's ``rattler_lock``. What tells one
package from another is read; what only a solver needs is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xmslurm_repro.errors import FormatError, UsageError
from xmslurm_repro.lock.project import Choice
from xmslurm_repro.model.reader import Reader

_CONDA_LOCK_VERSIONS = (1,)
_PIXI_VERSIONS = (4, 5, 6, 7)
_DEFAULT = "default"
_MAIN = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """
    One package of a lock.

    Attributes:
        is_conda: Whether it is a conda package; else it is one of PyPI's kind.
        name: As the lock says it; empty where it leaves that to the file's name.
        version: The same.
        place: URL, or path from the lock's folder.
        sha256: Hexadecimal digits, as far as the lock has them.
        md5: The same.
        size_bytes: The same.
        depends: Names of packages, each with what is demanded of it (``""`` for anything).
        is_built: Whether it would be built from sources, not fetched.
    """

    is_conda: bool
    name: str
    version: str
    place: str
    sha256: str | None
    md5: str | None
    size_bytes: int | None
    depends: tuple[tuple[str, str], ...] = ()
    is_built: bool = False


def read_yaml(text: str, where: str) -> Reader:
    """
    Read YAML without the types that are no data.

    Raises:
        FormatError: If it is none.
    """
    import yaml  # noqa: PLC0415 (start-up time)

    # Numbers stay texts: a version such as 1.10 is none. libyaml is ten times faster.
    base: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return Reader(yaml.load(text, Loader=base), where, "")  # noqa: S506 (texts only)
    except (yaml.YAMLError, RecursionError) as error:
        raise FormatError(f"{where}: not YAML: {' '.join(str(error).split())}") from error


def read_conda_lock(text: str, where: str, platform: str, choice: Choice) -> list[Locked]:
    """
    The packages of a conda-lock.yml for *platform*: its category ``main``, and those of *choice*.

    Raises:
        FormatError: If it cannot be read, or is not for *platform*.
        UsageError: If it has no such category.
    """
    document = read_yaml(text, where)
    _demand_version(document, _CONDA_LOCK_VERSIONS, where)
    metadata = document.maybe("metadata")
    platforms = metadata.maybe("platforms") if metadata else None
    _demand_platform(platforms.texts() if platforms else (), platform, where)
    wanted = {_MAIN, *choice.extras, *choice.groups}
    found, categories = [], {_MAIN}
    for item in document.field("package").items():
        if item.field("platform").text() != platform:
            continue
        category = _text(item, "category") or _MAIN
        categories.add(category)
        if category in wanted:
            found.append(_of_conda_lock(item))
    if not wanted <= categories:
        raise UsageError(
            f"{where} has no packages for {', '.join(sorted(wanted - categories))}",
            details=[f"categories: {', '.join(sorted(categories))}"],
            hint="Name one of its categories with --group or --extra.",
        )
    return found


def _of_conda_lock(item: Reader) -> Locked:
    hashes, url = item.field("hash"), item.field("url").text()
    manager = item.field("manager").text()
    depends = item.maybe("dependencies")
    return Locked(
        is_conda=manager == "conda",
        name=item.field("name").text(),
        version=item.field("version").text(),
        place=url,
        sha256=_text(hashes, "sha256"),
        md5=_text(hashes, "md5"),
        size_bytes=None,
        depends=tuple(depends.text_map().items()) if depends else (),
    )


def read_pixi_lock(text: str, where: str, platform: str, choice: Choice) -> list[Locked]:
    """
    The packages of a pixi.lock for *platform*: those of the environment that *choice* names.

    Raises:
        FormatError: If it cannot be read, or is not for *platform*.
        UsageError: If there is no such environment, or several are asked for.
    """
    document = read_yaml(text, where)
    version = _demand_version(document, _PIXI_VERSIONS, where)
    environments = dict(document.field("environments").members())
    named = (*choice.extras, *choice.groups) or (_DEFAULT,)
    if len(named) != 1 or named[0] not in environments:
        raise UsageError(
            f"{where} has no environment {' with '.join(named)}",
            details=[f"environments: {', '.join(sorted(environments))}"],
            hint="Name one of its environments with --group.",
        )
    by_platform = dict(environments[named[0]].field("packages").members())
    there = _platform_name(document, tuple(by_platform), platform)
    _demand_platform((there or "", *by_platform), there or platform, where)
    described = {_key(item): item for item in document.field("packages").items()}
    found = []
    for reference in by_platform[there or platform].items():
        key = _key(reference)
        if key not in described:
            raise FormatError(f"{where}: {key[1]} is in an environment, but not among the packages")
        found.append(_of_pixi(key, described[key], version))
    return found


def _platform_name(document: Reader, named: tuple[str, ...], platform: str) -> str | None:
    """Since version 7 platforms have names of their own; the first one of *platform*'s kind."""
    if platform in named:
        return platform
    listed = document.maybe("platforms")
    known = list(listed.items()) if listed else []
    subdirs = {item.field("name").text(): _text(item, "subdir") for item in known}
    return next((name for name in named if subdirs.get(name) == platform), None)


def _key(item: Reader) -> tuple[str, str]:
    """Kind and place of a package, in an environment or in the list of all."""
    for kind in ("conda", "pypi", "conda_source", "conda-source"):
        if (place := _text(item, kind)) is not None:
            return kind, place
    kind, place = item.field("kind").text(), _text(item, "url") or _text(item, "path")
    if place is None:
        raise item.fail("a package with url or path")
    return kind, place


def _of_pixi(key: tuple[str, str], item: Reader, version: int) -> Locked:
    kind, place = key
    depends, size = item.maybe("depends"), _text(item, "size")
    listed = depends.texts() if depends else ()
    # A conda package is a file; what has no such name is a folder of sources.
    is_file = place.endswith((".conda", ".tar.bz2"))
    return Locked(
        is_conda=kind != "pypi",
        name=_text(item, "name") or "",
        version=_text(item, "version") or "",
        place=place.removeprefix("direct+"),
        sha256=_text(item, "sha256"),
        md5=_text(item, "md5"),
        size_bytes=int(size) if size and size.isdecimal() else None,
        depends=tuple((one.partition(" ")[0], one.partition(" ")[2]) for one in listed),
        is_built=kind not in {"conda", "pypi"} or (kind == "conda" and not is_file),
    )


def _demand_version(document: Reader, known: tuple[int, ...], where: str) -> int:
    text = _text(document, "version")
    if text is None or not text.isdecimal() or int(text) not in known:
        raise FormatError(
            f"{where}: its format is version {text}; "
            f"those that we read are {', '.join(map(str, known))}",
            hint="Lock again with a tool that writes one of these.",
        )
    return int(text)


def _demand_platform(has: tuple[str, ...], platform: str, where: str) -> None:
    if has and platform not in has:
        raise FormatError(
            f"{where} is not for {platform}, which the base image is",
            hint=f"Add {platform} to the platforms of the project and lock again, or use another "
            "base image.",
            details=[f"platforms: {', '.join(sorted(filter(None, has)))}"],
        )


def _text(reader: Reader, name: str) -> str | None:
    found = reader.maybe(name)
    text = found.text() if found else ""
    return None if text in {"", "~", "null"} else text
