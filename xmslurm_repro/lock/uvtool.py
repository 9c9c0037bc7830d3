"""Running ``uv``, for what only it can do: read uv.lock, and ask an index as the user configured.

Tried with uv 0.13.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_TIMEOUT_SECONDS = 300


class UvError(Exception):
    """uv failed; the text is what it printed."""

    def lines(self) -> tuple[str, ...]:
        """What it printed, without empty lines."""
        return tuple(line.strip() for line in str(self).splitlines() if line.strip())


def uv_version() -> str:
    """The version of uv that we depend on; does not start it."""
    return importlib.metadata.version("uv")


def export_lock(
    files: Mapping[str, bytes],
    folder: str,
    package: str | None,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> str:
    """
    Turn a uv.lock into a pylock.toml, offline, as uv itself reads it.

    Args:
        files: The uv.lock and what belongs to it, by path: each pyproject.toml, and wheels of
            indexes that are folders, for which uv.lock has no hashes.
        folder: The folder of the uv.lock, as in *files*.
        package: The workspace member to export; ``None`` for the project beside the lock.
        extras: Optional dependencies to take as well.
        groups: Dependency groups to take as well.

    Returns:
        The text; the URL of a wheel in *files* is ``file:`` and its path from *folder*.

    Raises:
        UvError: If uv refuses.
    """
    words = ["export", "--frozen", "--offline", "--no-header", "--no-cache"]
    # --no-dev wins over --group dev.
    words += [] if "dev" in groups else ["--no-dev"]
    words += [f"--extra={name}" for name in extras] + [f"--group={name}" for name in groups]
    words += ["--format", "pylock.toml", *(("--package", package) if package else ())]
    with tempfile.TemporaryDirectory(prefix="xmslurm-uv-") as place:
        _lay_out(Path(place), files)
        # Nothing of the launching machine may leak into the result: neither its uv.toml nor its
        # variables. No Python is needed to export a frozen lock.
        bare = {"PATH": os.defpath, "HOME": place, "XDG_CONFIG_HOME": place}
        text = _run(words, Path(place, folder), environment=bare)
        return text.replace(f"{Path(place, folder).resolve().as_uri()}/", "file:")


def compile_requirements(
    lines: Sequence[str],
    python: str,
    *,
    config: Mapping[str, bytes] | None = None,
    with_dependencies: bool = False,
    described: Iterable[tuple[str, str]] = (),
) -> str:
    """
    Look requirements up in the index; give a pylock.toml with all their files.

    The index is the one that *lines*, *config* or the user's own uv configuration name.

    Args:
        lines: ``name==version`` and index options.
        python: The target's full Python version.
        config: ``pyproject.toml`` or ``uv.toml`` of the project, for ``tool.uv.index``.
        with_dependencies: Whether what they need is taken as well.
        described: Names and versions of packages that may have no wheel. Nothing is built to
            learn what they need: they are said to need nothing.

    Raises:
        UvError: If the index cannot be reached or has no wheel of one of them.
    """
    told = _described(described, config or {})
    words = ["pip", "compile", "--universal", "--generate-hashes"]
    words += [] if told else ["--no-build"]
    words += [] if with_dependencies else ["--no-deps"]
    words += ["--no-header", "--python-version", python, "--format", "pylock.toml", "wanted.in"]
    # uv insists on some interpreter, although a universal answer does not depend on it.
    words += ["--python", sys.executable]
    with tempfile.TemporaryDirectory(prefix="xmslurm-uv-") as place:
        text = "".join(f"{line}\n" for line in lines)
        _lay_out(Path(place), {**(config or {}), **told, "wanted.in": text.encode()})
        return _run(words, Path(place), environment=None)


def _described(
    packages: Iterable[tuple[str, str]], config: Mapping[str, bytes]
) -> dict[str, bytes]:
    """*config* with `dependency-metadata` for each of *packages*; nothing if there are none."""
    name = next(iter(config), "uv.toml")
    table = "dependency-metadata" if name == "uv.toml" else "tool.uv.dependency-metadata"
    lines = [
        f'\n[[{table}]]\nname = "{package}"\nversion = "{version}"\nrequires-dist = []\n'
        for package, version in packages
    ]
    return {name: config.get(name, b"") + "".join(lines).encode()} if lines else {}


def _lay_out(place: Path, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _run(words: Sequence[str], folder: Path, *, environment: Mapping[str, str] | None) -> str:
    import uv  # noqa: PLC0415 (start-up time)

    argv = [uv.find_uv_bin(), *words, "--quiet", "--color", "never", "--no-python-downloads"]
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env=environment,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UvError(f"uv did not finish within {_TIMEOUT_SECONDS} seconds") from error
    if done.returncode != 0:
        raise UvError(done.stderr.decode(errors="replace"))
    return done.stdout.decode()
