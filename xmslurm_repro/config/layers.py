"""Configuration files and variables, each read on its own, with everything wrong in it."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmslurm_repro.config.kinds import KindError, Place
from xmslurm_repro.config.schema import FILE, OTHER_VARIABLES, VARIABLES, Named, Node
from xmslurm_repro.errors import ConfigError

_PREFIX = "XMSLURM_REPRO_"

# What stands at these keys may hold a password: errors do not repeat it.
_UNSHOWN = frozenset({"index_urls", "env"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A value and where it was found."""

    value: Any
    place: str


@dataclass(frozen=True, slots=True)
class Layer:
    """
    What one file, or the environment, says.

    Attributes:
        values: By path, such as ``("clusters", "alpha", "port")``.
        faults: Everything that is wrong in it, one line each.
    """

    values: dict[tuple[str, ...], Found] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def text_of(file: Path) -> str:
    """
    What stands in a configuration file; nothing in an absent one.

    Raises:
        ConfigError: If it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error


def read_file(file: Path, home: Path, *, text: str | None = None) -> Layer:
    """
    Read a configuration file; an absent one says nothing.

    Args:
        file: The file.
        home: What ``~`` stands for.
        text: Read this, as if it stood in the file.

    Raises:
        ConfigError: If it cannot be read, or is no TOML.
    """
    try:
        document = tomllib.loads(text_of(file) if text is None else text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{file} is not TOML: {error}", hint="The format is described at https://toml.io."
        ) from error
    layer = Layer()
    place = Place(name=str(file), folder=file.parent, home=home)
    _read_table(document, FILE, (), place, layer)
    return layer


def read_variables(environ: Mapping[str, str], folder: Path, home: Path) -> Layer:
    """Read what the environment sets; relative paths start at *folder*."""
    layer = Layer()
    for name in sorted(environ):
        if not name.startswith(_PREFIX) or name in OTHER_VARIABLES or not environ[name]:
            continue
        variable = VARIABLES.get(name)
        if variable is None:
            known = _did_you_mean(name, [*VARIABLES, *OTHER_VARIABLES])
            layer.faults.append(f"the environment variable {name} is not known{known}")
            continue
        place = Place(name=f"the environment variable {name}", folder=folder, home=home)
        text = environ[name]
        try:
            value: Any
            if variable.separator is None:
                value = variable.kind(text, place)
            else:
                parts = text.split(None if variable.separator == " " else variable.separator)
                value = tuple(variable.kind(part, place) for part in parts if part)
        except KindError as error:
            layer.faults.append(f"{place.name}: expected {error}{_shown(variable.path, text)}")
            continue
        layer.values[variable.path] = Found(value=value, place=place.name)
    return layer


def merge(layers: Iterable[Layer]) -> dict[tuple[str, ...], Found]:
    """
    Put layers on top of each other, key by key, the last one winning.

    Raises:
        ConfigError: With everything that is wrong in any of them.
    """
    values: dict[tuple[str, ...], Found] = {}
    faults: list[str] = []
    for layer in layers:
        values.update(layer.values)
        faults.extend(layer.faults)
    raise_faults(faults)
    return values


def raise_faults(faults: list[str]) -> None:
    """
    Do nothing where nothing is wrong.

    Raises:
        ConfigError: With all faults.
    """
    hint = "Every key is described in docs/reference/configuration.md."
    if len(faults) == 1:
        raise ConfigError(faults[0], hint=hint)
    if faults:
        raise ConfigError(
            f"the configuration has {len(faults)} faults", hint=hint, details=tuple(faults)
        )


def _read_table(
    table: Any, keys: Mapping[str, Node], path: tuple[str, ...], place: Place, layer: Layer
) -> None:
    if not isinstance(table, dict):
        layer.faults.append(_fault(place, path, "a table", table))
        return
    for name, value in table.items():
        node = keys.get(name)
        if node is None:
            known = _did_you_mean(name, keys)
            layer.faults.append(f"{place.name}: {_dotted((*path, name))}: unknown key{known}")
        else:
            _read_node(value, node, (*path, name), place, layer)


def _read_named(
    table: Any, named: Named, path: tuple[str, ...], place: Place, layer: Layer
) -> None:
    if not isinstance(table, dict):
        layer.faults.append(_fault(place, path, "a table", table))
        return
    for name, value in table.items():
        try:
            named.check_name(name)
        except KindError as error:
            layer.faults.append(f"{place.name}: {_dotted((*path, name))}: the key is not {error}")
            continue
        _read_node(value, named.each, (*path, name), place, layer)


def _read_node(value: Any, node: Node, path: tuple[str, ...], place: Place, layer: Layer) -> None:
    if isinstance(node, Named):
        _read_named(value, node, path, place, layer)
    elif isinstance(node, Mapping):
        layer.values.setdefault(path, Found(value=None, place=place.name))
        _read_table(value, node, path, place, layer)
    else:
        try:
            layer.values[path] = Found(value=node(value, place), place=place.name)
        except KindError as error:
            layer.faults.append(_fault(place, path, str(error), value))


def _fault(place: Place, path: tuple[str, ...], expected: str, value: Any) -> str:
    return f"{place.name}: {_dotted(path)}: expected {expected}{_shown(path, value)}"


def _shown(path: tuple[str, ...], value: Any) -> str:
    if not _UNSHOWN.isdisjoint(path):
        return ""
    shown = repr(value)
    return f", found {shown if len(shown) <= 60 else shown[:57] + '…'}"


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
