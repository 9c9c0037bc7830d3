"""What git's configuration says that matters to a capture, read by the library and remembered.

The library costs 25 to 40 ms to import, so what it found is kept beside the stat cache, with the
stamps of all files that it read. While these are untouched it is not asked again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from xmslurm_repro.errors import FormatError
from xmslurm_repro.model.canonical import Json, canonical_json
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.snapshot.cache import save_checked
from xmslurm_repro.snapshot.repository import Repository
from xmslurm_repro.snapshot.witnesses import Witnesses, load_checked, witness

if TYPE_CHECKING:
    from dulwich.config import ConfigFile, StackedConfig

_MAGIC = b"xmslurm-git-settings/4\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSettings:
    """
    Settings of one repository.

    Attributes:
        excludes_file: ``core.excludesFile``, or where git looks by default.
        attributes_file: ``core.attributesFile``, likewise.
        ignore_case: ``core.ignoreCase``.
        auto_crlf: ``core.autocrlf``: whether ends of lines are converted without attributes.
        file_mode: ``core.fileMode``: whether exec bits in the work tree mean something to git.
        hash_name: ``sha1`` or ``sha256``.
        remotes: Name to URL, without credentials.
    """

    excludes_file: str | None
    attributes_file: str | None = None
    ignore_case: bool = False
    auto_crlf: bool = False
    file_mode: bool = True
    hash_name: str = "sha1"
    remotes: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        return {
            "excludes_file": self.excludes_file,
            "attributes_file": self.attributes_file,
            "ignore_case": self.ignore_case,
            "auto_crlf": self.auto_crlf,
            "file_mode": self.file_mode,
            "hash_name": self.hash_name,
            "remotes": dict(self.remotes),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> GitSettings:
        """Read what `to_json` wrote."""
        excludes, attributes = reader.maybe("excludes_file"), reader.maybe("attributes_file")
        return cls(
            excludes_file=excludes.text() if excludes else None,
            attributes_file=attributes.text() if attributes else None,
            ignore_case=reader.field("ignore_case").value is True,
            auto_crlf=reader.field("auto_crlf").value is True,
            file_mode=reader.field("file_mode").value is True,
            hash_name=reader.field("hash_name").text(),
            remotes=tuple(sorted(reader.field("remotes").text_map().items())),
        )


def read_settings(
    repository: Repository, environment: Mapping[str, str], cache_file: Path
) -> tuple[GitSettings, Witnesses | None]:
    """
    The settings that git itself would use in *repository*.

    With them come the files that they were read from, stamped before; ``None`` where they
    depend on more than files.

    Args:
        repository: Whose.
        environment: Of which HOME, XDG_CONFIG_HOME, GIT_CONFIG_GLOBAL, GIT_CONFIG_SYSTEM and
            GIT_CONFIG_NOSYSTEM matter, as in git(1).
        cache_file: Where to remember them.

    Raises:
        FormatError: If a configuration file is damaged.
    """
    paths = _config_paths(repository, environment)
    known = _remembered(cache_file, paths)
    if known is not None:
        return known
    included: list[str] = []
    before = _stamps(paths)
    config = _load(paths, included, repository, environment)
    settings = _extract(config, environment)
    conditional = any(section[0].lower() == b"includeif" for section in config.sections())
    if conditional:
        return settings, None
    files = [*before, *_stamps(included)]
    document: Json = {
        "files": [[path, stamp] for path, stamp in files],
        "settings": settings.to_json(),
    }
    save_checked(cache_file, _MAGIC, _json_or_nothing(document))
    return settings, dict(files)


def _json_or_nothing(document: Json) -> bytes | None:
    try:
        return canonical_json(document)
    except ValueError:
        # A path that is not UTF-8: ask again next time.
        return None


def _remembered(cache_file: Path, paths: list[str]) -> tuple[GitSettings, Witnesses] | None:
    body = load_checked(cache_file, _MAGIC)
    if body is None:
        return None
    try:
        reader = Reader.of_json(body, str(cache_file))
        files: list[list[str | None]] = reader.field("files").value
        settings = GitSettings.from_json(reader.field("settings"))
    except FormatError:
        return None
    names = [str(path) for path, _ in files]
    found = _stamps(names)
    if names[: len(paths)] != paths or files != [[*pair] for pair in found]:
        return None
    return settings, dict(found)


def _stamps(paths: Iterable[str]) -> list[tuple[str, str | None]]:
    return [(path, witness(path)) for path in paths]


def _config_paths(repository: Repository, environment: Mapping[str, str]) -> list[str]:
    """Every file that git would read, the one that wins first."""
    paths = [
        os.fsdecode(os.path.join(repository.git_dir, b"config.worktree")),
        os.fsdecode(os.path.join(repository.common_dir, b"config")),
    ]
    if environment.get("GIT_CONFIG_GLOBAL") is not None:
        paths.append(environment["GIT_CONFIG_GLOBAL"])
    else:
        home = environment.get("HOME")
        paths += [os.path.join(home, ".gitconfig")] if home else []
        paths += [os.path.join(folder, "config") for folder in _user_folder(environment)]
    if environment.get("GIT_CONFIG_SYSTEM") is not None:
        paths.append(environment["GIT_CONFIG_SYSTEM"])
    elif environment.get("GIT_CONFIG_NOSYSTEM", "").lower() not in {"1", "true", "yes", "on"}:
        paths.append("/etc/gitconfig")
    return paths


def _user_folder(environment: Mapping[str, str]) -> list[str]:
    """``$XDG_CONFIG_HOME/git``, if there is a home at all."""
    xdg, home = environment.get("XDG_CONFIG_HOME"), environment.get("HOME")
    if xdg:
        return [os.path.join(xdg, "git")]
    return [os.path.join(home, ".config", "git")] if home else []


def _load(
    paths: list[str],
    included: list[str],
    repository: Repository,
    environment: Mapping[str, str],
) -> StackedConfig:
    from dulwich.config import ConfigFile, StackedConfig  # noqa: PLC0415 (costs 25 ms)

    from xmslurm_repro.snapshot.git_conditions import conditions  # noqa: PLC0415

    def open_included(path: str | os.PathLike[str]) -> IO[bytes]:
        included.append(os.fspath(path))
        return open(path, "rb")

    files: list[ConfigFile] = []
    for path in paths:
        try:
            matchers = conditions(repository, environment.get("HOME"), path)
            files.append(
                ConfigFile.from_path(path, file_opener=open_included, condition_matchers=matchers)
            )
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (ValueError, OSError) as error:
            raise FormatError(
                f"{path}: cannot be read as a configuration of git: {error}",
                hint="Run `git config --list` to see what git makes of it.",
            ) from error
    # A repository without its own extension does not read the first of them.
    if files and files[0].path == paths[0]:
        shared = StackedConfig(files[1:])
        if not _flag(shared, "extensions", "worktreeConfig", default=False):
            return shared
    return StackedConfig(files)


def _extract(config: StackedConfig, environment: Mapping[str, str]) -> GitSettings:
    from xmslurm_repro.snapshot.remotes import remotes_of  # noqa: PLC0415 (rarely needed)

    return GitSettings(
        excludes_file=_path(config, "excludesFile", "ignore", environment),
        attributes_file=_path(config, "attributesFile", "attributes", environment),
        ignore_case=_flag(config, "core", "ignoreCase", default=False),
        auto_crlf=_flag(config, "core", "autocrlf", default=False),
        file_mode=_flag(config, "core", "fileMode", default=True),
        hash_name=(_text(config, "extensions", "objectFormat") or "sha1").lower(),
        remotes=tuple(sorted(remotes_of(config).items())),
    )


def _path(
    config: StackedConfig, name: str, default: str, environment: Mapping[str, str]
) -> str | None:
    """The file that ``core.<name>`` names, or *default* in git's folder of the user."""
    path = _text(config, "core", name)
    if path is None:
        return next((os.path.join(folder, default) for folder in _user_folder(environment)), None)
    return _expanded(path, environment) if path.startswith("~") else path


def _expanded(path: str, environment: Mapping[str, str]) -> str:
    home = environment.get("HOME")
    if path.startswith("~/") and home:
        return os.path.join(home, path[2:])
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        # A user that this machine does not know; git ignores the setting then.
        return path


def _text(config: StackedConfig, section: str, name: str) -> str | None:
    try:
        return os.fsdecode(config.get((section.encode(),), name.encode()))
    except KeyError:
        return None


def _flag(config: StackedConfig, section: str, name: str, *, default: bool) -> bool:
    value = _text(config, section, name)
    if value is None:
        return default
    return value.lower() not in {"false", "no", "off", "0", ""}
