"""Where configuration and data are, by the conventions of the platform."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import platformdirs

_NAME = "xmslurm-repro"
PROJECT_FILE = "xmslurm-repro.toml"


def user_home(environ: Mapping[str, str]) -> Path:
    """The user's home folder, which ``HOME`` names."""
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


def user_file(environ: Mapping[str, str]) -> Path:
    """The user's configuration file, whether there is one or not."""
    told = environ.get("XMSLURM_REPRO_CONFIG")
    if told:
        return Path(told)
    platform = platformdirs.user_config_path(_NAME, appauthor=False)
    return _folder(environ, "XDG_CONFIG_HOME", ".config", platform) / "config.toml"


def data_folder(environ: Mapping[str, str], start: Path) -> Path:
    """The data folder; a relative ``XMSLURM_REPRO_HOME`` is relative to *start*."""
    told = environ.get("XMSLURM_REPRO_HOME")
    if told:
        return start / _expanded(told, environ)
    platform = platformdirs.user_data_path(_NAME, appauthor=False)
    return _folder(environ, "XDG_DATA_HOME", ".local/share", platform)


def project_file(start: Path) -> Path | None:
    """
    The nearest project file from *start* up to the top of its git work tree.

    Outside any work tree only *start* itself counts: what lies in folders above it may be
    anybody's.
    """
    for folder in _within(start.resolve()):
        if (folder / PROJECT_FILE).is_file():
            return folder / PROJECT_FILE
    return None


def file_to_write(environ: Mapping[str, str], start: Path, *, for_project: bool) -> Path:
    """The user's file, or the project's: where there is none yet, at the top of the work tree."""
    if not for_project:
        return user_file(environ)
    found = project_file(start)
    if found is not None:
        return found
    start = start.resolve()
    tops = [folder for folder in (start, *start.parents) if (folder / ".git").exists()]
    return (tops[0] if tops else start) / PROJECT_FILE


def looked_at(environ: Mapping[str, str], start: Path) -> tuple[list[Path], list[Path]]:
    """
    The files that decide the settings beside the environment, whether they are there or not.

    And the places that decide for being there only.
    """
    start = start.resolve()
    within = _within(start)
    files = [user_file(environ), *(folder / PROJECT_FILE for folder in within)]
    above = [start, *start.parents]
    is_in_repository = (within[-1] / ".git").exists()
    places = within if is_in_repository else above
    return files, [folder / ".git" for folder in places]


def _within(start: Path) -> list[Path]:
    """The folders that a project's file may be in, from *start* upwards."""
    above = [start, *start.parents]
    tops = [folder for folder in above if (folder / ".git").exists()]
    return above[: above.index(tops[0]) + 1] if tops else [start]


def registry_auth_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """
    Where registry credentials may be, in the order in which they are asked.

    Podman's places (containers-auth.json(5)), then Docker's. ``REGISTRY_AUTH_FILE`` and
    ``DOCKER_CONFIG`` each take the place of their program's usual ones.
    """
    home = user_home(environ)
    told = environ.get("REGISTRY_AUTH_FILE")
    if told:
        podman = [Path(told)]
    else:
        runtime, config = environ.get("XDG_RUNTIME_DIR"), environ.get("XDG_CONFIG_HOME")
        podman = [Path(runtime) / "containers/auth.json"] if runtime else []
        podman.append((Path(config) if config else home / ".config") / "containers/auth.json")
    docker = environ.get("DOCKER_CONFIG")
    return (*podman, (Path(docker) if docker else home / ".docker") / "config.json")


def _folder(environ: Mapping[str, str], variable: str, below_home: str, platform: Path) -> Path:
    # platformdirs reads the environment of the process. On Linux the rules are few (XDG base
    # directory specification: a relative path is to be ignored), so they are followed here, by
    # the environment that was given.
    if sys.platform != "linux":
        return platform
    told = Path(environ.get(variable, ""))
    return (told if told.is_absolute() else user_home(environ) / below_home) / _NAME


def _expanded(text: str, environ: Mapping[str, str]) -> Path:
    if text == "~" or text.startswith("~/"):
        return user_home(environ) / text[2:]
    return Path(text)
