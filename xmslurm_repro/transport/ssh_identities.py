"""
Private keys: which there are, and those that only a passphrase opens.

Only `ssh_login` imports this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import asyncssh

from xmslurm_repro.errors import ConfigError

Ask = Callable[[str], Awaitable["str | None"]]

_USUAL = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
_PASSPHRASE_ATTEMPTS = 3


def named_identities(paths: Sequence[str], host: str) -> list[str]:
    """
    The private keys that a cluster's settings name.

    Raises:
        ConfigError: If one is not there.
    """
    expanded = [str(Path(path).expanduser()) for path in paths]
    missing = [path for path in expanded if not Path(path).exists()]
    if missing:
        raise ConfigError(
            f"there is no identity file {missing[0]}",
            hint=f"Name a private key that exists for {host}, or none.",
            details=missing[1:],
        )
    return expanded


def configured_identities(told: asyncssh.SSHClientConnectionOptions) -> list[str]:
    """
    Those that SSH configuration files name, else the usual ones; only those that are there.

    A missing one is no error to OpenSSH; asyncssh would end the login.
    """
    named = cast("Sequence[str]", told.config.get("IdentityFile", ()))
    paths = [Path(path).expanduser() for path in named]
    if not paths:
        folder = Path("~/.ssh").expanduser()
        paths = [folder / name for name in _USUAL]
    return [str(path) for path in paths if path.is_file()]


class LockedKeys:
    """
    Keys that a passphrase opens, offered one by one when all others were refused.

    Args:
        paths: Private keys, encrypted or not; only the encrypted ones count.
        agent_path: An agent that may hold some of them already, which has offered them then.
        ask: Asks the person for a passphrase; ``None`` gives up on that key.
    """

    def __init__(self, paths: Sequence[str], agent_path: str | None, ask: Ask) -> None:
        self._left = [path for path in paths if _is_locked(path)]
        self._agent_path = agent_path
        self._ask = ask

    async def next(self) -> list[asyncssh.SSHKeyPair] | None:
        """The next key that the person opens; ``None`` when there are no more."""
        while self._left:
            path = self._left.pop(0)
            if await self._is_held(path):
                continue
            pairs = await self._opened(path)
            if pairs:
                return pairs
        return None

    async def _opened(self, path: str) -> list[asyncssh.SSHKeyPair]:
        for _ in range(_PASSPHRASE_ATTEMPTS):
            passphrase = await self._ask(f"Passphrase for {path}: ")
            if not passphrase:
                return []
            with suppress(asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
                # Made slow on purpose, and therefore not done in the event loop.
                pairs = await asyncio.to_thread(asyncssh.load_keypairs, path, passphrase)
                return list(pairs)
        return []

    async def _is_held(self, path: str) -> bool:
        """Whether the agent has this key: then it was offered, without a passphrase."""
        if not self._agent_path:
            return False
        try:
            public = asyncssh.read_public_key(f"{path}.pub").public_data
            async with asyncssh.connect_agent(self._agent_path) as agent:
                return any(public == key.public_data for key in await agent.get_keys())
        except (OSError, ValueError, asyncssh.Error):
            return False


def _is_locked(path: str) -> bool:
    try:
        asyncssh.read_private_key(path)
    except asyncssh.KeyImportError as error:
        # It has no error of its own for this.
        return str(error).startswith("Passphrase")
    except (OSError, ValueError):
        return False
    return False
