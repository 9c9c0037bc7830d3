"""
Changing a configuration file without losing what people wrote into it.

Text is added, never written anew: comments, order and blanks stay as they are. What comes out is
read again and has to say what it said before, and the addition.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from xmslurm_repro.errors import ConfigError
from xmslurm_repro.model.canonical import canonical_json

Value: TypeAlias = "str | int | bool | Sequence[str] | Mapping[str, str | bool]"

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_DEFAULT = re.compile(r"""(?m)^(\s*default_cluster\s*=\s*)("[^"\n]*"|'[^'\n]*')""")


def with_cluster(
    text: str, file: Path, name: str, values: Mapping[str, Value], *, is_default: bool
) -> str:
    """
    Write *text*, what stands in *file*, with a table ``[clusters.NAME]`` at its end.

    Args:
        text: TOML, or nothing.
        file: For errors.
        name: Of the cluster.
        values: By key; a mapping becomes a table of its own.
        is_default: Whether it shall be the `default_cluster`.

    Raises:
        ConfigError: If *text* is no TOML, describes that cluster already, or is written in a way
            that cannot be added to.
    """
    before = _parsed(text, file)
    clusters = before.get("clusters", {})
    if isinstance(clusters, Mapping) and name in clusters:
        raise ConfigError(
            f"{file} describes a cluster `{name}` already",
            hint="Edit that file, or take another name.",
        )
    wanted = {**before, "clusters": {**clusters, name: _plain(values)}}
    if is_default:
        wanted["default_cluster"] = name
        text = _with_default(text, name, has_one="default_cluster" in before)
    if text and not text.endswith("\n"):
        text += "\n"
    text += ("\n" if text.strip() else "") + "".join(_table(("clusters", name), values))
    try:
        is_right = tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise ConfigError(
            f"{file} is written in a way that cannot be added to",
            hint="Write the table yourself:",
            details=tuple("".join(_table(("clusters", name), values)).splitlines()),
        )
    return text


def _parsed(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{file} is not TOML: {error}", hint="The format is described at https://toml.io."
        ) from error


def _plain(values: Mapping[str, Value]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            plain[key] = dict(value)
        else:
            plain[key] = value if isinstance(value, str | int) else list(value)
    return plain


def _with_default(text: str, name: str, *, has_one: bool) -> str:
    written = _written(name)
    if has_one:
        return _DEFAULT.sub(lambda found: found[1] + written, text, count=1)
    # It has to stand before every table; the remarks at the head of a file are above it.
    lines = text.splitlines(keepends=True)
    cut = next((n for n, line in enumerate(lines) if line.strip() and line[0] != "#"), len(lines))
    return "".join((*lines[:cut], f"default_cluster = {written}\n", *lines[cut:]))


def _table(path: tuple[str, ...], values: Mapping[str, Value]) -> Iterator[str]:
    yield f"[{'.'.join(map(_key, path))}]\n"
    inner = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    for key, value in values.items():
        if not isinstance(value, Mapping):
            yield f"{_key(key)} = {_written(value)}\n"
    for key, table in inner.items():
        yield "\n"
        yield from _table((*path, key), table)


def _key(text: str) -> str:
    return text if _BARE_KEY.match(text) else _written(text)


def _written(value: str | int | Sequence[str]) -> str:
    """A value as TOML; a JSON string is one of TOML's too, but for one character."""
    if isinstance(value, str):
        return canonical_json(value).decode("utf-8").replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return f"[{', '.join(map(_written, value))}]"


def keep_file(file: Path, text: str) -> None:
    """
    Write *text* to *file*, whole or not at all; a link stays one, and a mode what it was.

    Raises:
        ConfigError: If it cannot be written.
    """
    import tempfile  # noqa: PLC0415 (costs 8 ms, and every command imports this module)

    target = file.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        new = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            new.chmod(mode)
            new.replace(target)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error}") from error


def lines_of_keys(text: str) -> dict[tuple[str, ...], int]:
    """
    In which line each key of a TOML file is set, from 1.

    The first lines of a file that are TOML by themselves hold a key or they do not; no parser
    need tell.
    """
    lines: dict[tuple[str, ...], int] = {}
    so_far, begun = "", 1
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        so_far += line
        try:
            document = tomllib.loads(so_far)
        except tomllib.TOMLDecodeError:
            continue
        for path in _paths(document, ()):
            lines.setdefault(path, begun)
        begun = number + 1
    return lines


def _paths(table: Mapping[str, Any], stem: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, value in table.items():
        yield (*stem, name)
        if isinstance(value, Mapping):
            yield from _paths(value, (*stem, name))
