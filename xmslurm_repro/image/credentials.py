"""Passwords for registries, from where Docker and Podman keep them.

Nothing here is ever shown: secrets are left out of ``repr`` and of every message.
"""

from __future__ import annotations

import base64
import binascii
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from xmslurm_repro.errors import ConfigError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.reader import Reader

_HELPER_TIMEOUT_SECONDS = 30
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")
# What docker-credential-helpers call it when the name is no name but the secret is a token.
_TOKEN_USER = "<token>"  # noqa: S105


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """
    What a registry wants to see.

    Attributes:
        username: May be empty with an identity token.
        password: Or ``None`` with an identity token.
        identity_token: An OAuth 2 refresh token, which some registries give out at login.
    """

    username: str
    password: str | None = field(default=None, repr=False)
    identity_token: str | None = field(default=None, repr=False)

    def basic(self) -> str:
        """The value of an ``Authorization`` header (RFC 7617)."""
        pair = f"{self.username}:{self.password or ''}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


class CredentialSource(Protocol):
    """Knows credentials."""

    def credential(self, registry: str, repository: str) -> Credential | None:
        """
        What to show for a repository; ``None`` to ask without.

        Raises:
            ConfigError: If a file or a helper program is broken.
        """
        ...


class NoCredentials:
    """Knows none."""

    def credential(self, registry: str, repository: str) -> Credential | None:
        """Nothing, for anybody."""
        del registry, repository
        return None


class FileCredentials:
    """
    Credentials from ``config.json`` of Docker and ``auth.json`` of Podman.

    Each file may hold ``auths`` (by host, with Podman also by host and path: the longest that
    fits wins), ``credHelpers`` (a program for one host) and ``credsStore`` (a program for all).
    The first file that knows an answer gives it; files that do not exist are skipped.

    Args:
        paths: The files, in the order in which they are asked.
        helper_path: Where helper programs are looked for, as ``PATH`` has it; ``None`` for this
            process's own ``PATH``.
    """

    def __init__(self, paths: Sequence[Path], *, helper_path: str | None = None) -> None:
        self._paths = tuple(paths)
        self._helper_path = helper_path

    def credential(self, registry: str, repository: str) -> Credential | None:
        """See `CredentialSource`."""
        for path in self._paths:
            try:
                data = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
            found = self._in_file(Reader.of_json(data or b"{}", str(path)), registry, repository)
            if found is not None:
                return found
        return None

    def _in_file(self, file: Reader, registry: str, repository: str) -> Credential | None:
        helpers, store, auths = (file.maybe(n) for n in ("credHelpers", "credsStore", "auths"))
        keys = _keys(registry, repository)
        if helpers is not None:
            by_host = helpers.text_map()
            for key in keys:
                if key in by_host:
                    return self._ask_helper(by_host[key], key, file.where)
        if auths is not None:
            entries = {_bare(name): entry for name, entry in auths.members()}
            for key in keys:
                entry = entries.get(_bare(key))
                found = _of_entry(entry) if entry is not None else None
                if found is not None:
                    return found
        if store is not None and store.text():
            server = _HUB_KEYS[0] if keys[-1] in _HUB_KEYS else registry
            return self._ask_helper(store.text(), server, file.where)
        return None

    def _ask_helper(self, name: str, server: str, where: str) -> Credential | None:
        """Run ``docker-credential-<name> get`` (github.com/docker/docker-credential-helpers)."""
        program = f"docker-credential-{name}"
        if not _HELPER_NAME.fullmatch(name):
            raise ConfigError(f"{where}: {name!r} is no name for a credential helper")
        environment = {"PATH": self._helper_path} if self._helper_path else None
        try:
            done = subprocess.run(
                ["/usr/bin/env", program, "get"],
                input=server.encode(),
                env=environment,
                capture_output=True,
                timeout=_HELPER_TIMEOUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _helper_error(program, where, type(error).__name__) from error
        if done.returncode != 0:
            said = done.stdout.decode(errors="replace").strip()
            if "credentials not found" in said:
                return None
            reason = "no such program" if done.returncode == 127 else f"exit {done.returncode}"
            raise _helper_error(program, where, reason)
        answer = Reader.of_json(done.stdout, f"the answer of {program}")
        return _of_helper(answer)


def _of_helper(answer: Reader) -> Credential:
    if not isinstance(answer.value, Mapping) or not isinstance(answer.value.get("Secret"), str):
        # Not Reader's own error: it would show what it found.
        raise ConfigError(f"{answer.where} is not what a credential helper says")
    username, secret = answer.field("Username").text(), answer.value["Secret"]
    if username == _TOKEN_USER:
        return Credential(username="", identity_token=secret)
    return Credential(username=username, password=secret)


def _of_entry(entry: Reader) -> Credential | None:
    """One entry of ``auths``; an empty one says only that a helper knows more."""
    value = entry.value
    if not isinstance(value, Mapping):
        raise ConfigError(f"{entry.where}: {entry.path} is not an object")
    texts = {name: text for name, text in value.items() if isinstance(text, str) and text}
    username, password = texts.get("username", ""), texts.get("password")
    if "auth" in texts:
        try:
            pair = base64.b64decode(texts["auth"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{entry.where}: {entry.path}.auth is not base64",
                hint="Log in to the registry again.",
            ) from error
        username, _, password = pair.partition(":")
    if "identitytoken" in texts:
        return Credential(username=username, identity_token=texts["identitytoken"])
    return Credential(username=username, password=password) if password else None


def _keys(registry: str, repository: str) -> tuple[str, ...]:
    """The names that a file may have for it, the most exact one first."""
    parts = repository.split("/")
    paths = [f"{registry}/{'/'.join(parts[:n])}" for n in range(len(parts), 0, -1)]
    hosts = _HUB_KEYS if registry == "docker.io" else (registry,)
    return (*paths, *hosts)


def _bare(name: str) -> str:
    """A key of ``auths`` without scheme and API version, as old files wrote them."""
    stem = name.removeprefix("https://").removeprefix("http://").rstrip("/")
    return stem.removesuffix("/v1").removesuffix("/v2")


def _helper_error(program: str, where: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{where} names the credential helper {program}, which failed: {reason}",
        hint=f"Check that `{program} list` runs, or log in to the registry again.",
    )


def as_config_json(credentials: Mapping[str, Credential]) -> bytes:
    """Write credentials the way Docker's ``config.json`` and Podman's ``auth.json`` have them."""
    return canonical_json(
        {"auths": {host: {"auth": c.basic().split(" ")[1]} for host, c in credentials.items()}}
    )
