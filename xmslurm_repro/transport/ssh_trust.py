"""
Which keys a host may show.

Only `ssh_login` imports this.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import asyncssh

from xmslurm_repro.errors import ConfigError

if TYPE_CHECKING:
    from xmslurm_repro.transport.ssh import SshEndpoint

_OWN_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"


def trusted_keys(
    endpoint: SshEndpoint, told: asyncssh.SSHClientConnectionOptions
) -> asyncssh.SSHKnownHosts:
    """What the host has to prove. Never ``None``, which would turn the check off."""
    known = asyncssh.SSHKnownHosts()
    if endpoint.host_key is not None:
        line = _pinned(endpoint, endpoint.host_key).export_public_key().decode()
        known.load(f"* {line}")
        return known
    for path in map(Path, _known_hosts_files(endpoint, told)):
        try:
            known.load(path.expanduser().read_text("utf-8", "surrogateescape"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read the host keys in {path}: {error}") from error
    return known


def _known_hosts_files(
    endpoint: SshEndpoint, told: asyncssh.SSHClientConnectionOptions
) -> list[str]:
    if endpoint.known_hosts is not None:
        return [endpoint.known_hosts]
    own = cast(list[str], told.config.get("UserKnownHostsFile", []))
    shared = cast(list[str], told.config.get("GlobalKnownHostsFile", [_SYSTEM_KNOWN_HOSTS]))
    # An empty list is also what "none" becomes.
    return [*(own or _OWN_KNOWN_HOSTS), *shared]


def _pinned(endpoint: SshEndpoint, line: str) -> asyncssh.SSHKey:
    """The pinned key, from a line of a public key file or of known_hosts(5)."""
    for candidate in (line, line.strip().partition(" ")[2]):
        try:
            return asyncssh.import_public_key(candidate)
        except asyncssh.KeyImportError:
            continue
    raise ConfigError(
        f"the pinned host key of {endpoint} is no public key: {line!r}",
        hint="It looks like `ssh-ed25519 AAAA…`; `ssh-keyscan` prints it.",
    )


def known_keys(
    told: asyncssh.SSHClientConnectionOptions, keys: asyncssh.SSHKnownHosts
) -> tuple[Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey]]:
    """What is known of the host: its keys, who may vouch for it, and keys that were revoked."""
    port = None if told.port == 22 else told.port
    found = asyncssh.match_known_hosts(keys, told.host_key_alias or told.host, "", port)
    return found[0], found[1], found[2]
