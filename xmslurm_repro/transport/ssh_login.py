"""
Logging in to a host: who we are, who the host is, and through whom we reach it.

Host keys are always verified. asyncssh would not do so where a configuration file says
``UserKnownHostsFile none``, nor ask our prompt on the way through other hosts; therefore the
hops of ProxyJump are made here, one by one, each like any other login.

Only `ssh` imports this, when it needs a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import asyncssh

from xmslurm_repro.errors import ConfigError, ConnectionLostError, HostKeyError
from xmslurm_repro.transport.ssh import HostKey
from xmslurm_repro.transport.ssh_identities import (
    LockedKeys,
    configured_identities,
    named_identities,
)
from xmslurm_repro.transport.ssh_link import Link
from xmslurm_repro.transport.ssh_trust import known_keys, trusted_keys

if TYPE_CHECKING:
    from xmslurm_repro.transport.ssh import SshEndpoint

_KEEPALIVE_COUNT = 3

# After the kinds of the trusted keys, all others: so a host that has none of the trusted kind
# shows a key that we can name, instead of hanging up.
_PLAIN_KINDS = "ssh-ed25519,ecdsa-sha2-*,rsa-sha2-*"
_PASSWORD_ATTEMPTS = 3


async def log_in(endpoints: Sequence[SshEndpoint]) -> Link:
    """
    Log in to the first endpoint that lets us in.

    Raises:
        HostKeyError: If a host is not who it should be. The other endpoints are not tried: who
            can pretend to be the first host would gain by it.
        ConfigError: If a key or a configuration file cannot be read.
        ConnectionLostError: If none lets us in; `may_have_run` is false.
    """
    failures = []
    for endpoint in endpoints:
        try:
            return await _log_in_to(endpoint)
        except (OSError, asyncssh.Error) as error:
            failures.append((endpoint, error))
    raise _refused(failures)


def _refused(failures: Sequence[tuple[SshEndpoint, Exception]]) -> ConnectionLostError:
    """The error for endpoints none of which let us in."""
    reasons = [f"{endpoint}: {_reason(error)}" for endpoint, error in failures]
    is_denied = any(isinstance(error, asyncssh.PermissionDenied) for _, error in failures)
    hint = (
        "Add your key to ssh-agent, name it as the cluster's identity file, or check the user name."
        if is_denied
        else "Check the host's name and port, and that this machine can reach it."
    )
    first = (
        f" to {reasons[0]}" if len(reasons) == 1 else ": none of its endpoints answers as it should"
    )
    return ConnectionLostError(
        f"cannot log in{first}",
        hint=hint,
        details=[] if len(reasons) == 1 else reasons,
        may_have_run=False,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, asyncssh.PermissionDenied):
        return f"the login was refused ({error.reason})"
    return str(error) or type(error).__name__


class _Deadline:
    """The time for a login; it stands still while a person is asked."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.timeout = asyncio.timeout(seconds)

    def stop(self) -> None:
        """A person is asked."""
        self.timeout.reschedule(None)

    def restart(self) -> None:
        """They have answered."""
        self.timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)


async def _log_in_to(endpoint: SshEndpoint) -> Link:
    """Log in to one endpoint, through whatever hosts its configuration names."""
    deadline = _Deadline(endpoint.connect_timeout_seconds)
    opened: list[asyncssh.SSHClientConnection] = []
    try:
        async with deadline.timeout:
            await _open(endpoint, deadline, opened, on_the_way=(endpoint.host,))
    except BaseException:
        for connection in reversed(opened):
            connection.abort()
        raise
    return Link(opened)


async def _open(
    endpoint: SshEndpoint,
    deadline: _Deadline,
    opened: list[asyncssh.SSHClientConnection],
    on_the_way: tuple[str, ...],
) -> None:
    """Append a connection to the endpoint to *opened*, after those that it goes through."""
    told = await _configuration(endpoint)
    await _open_hops(endpoint, told, deadline, opened, on_the_way)
    keys = trusted_keys(endpoint, told)
    agent = cast("str | None", told.config.get("IdentityAgent", endpoint.agent_socket))
    named = named_identities(endpoint.identity_files, endpoint.host)
    identities = named or configured_identities(told)
    client = _Client(endpoint, deadline, keys)
    if endpoint.prompt is not None:
        client.locked = LockedKeys(identities, agent, client.ask_passphrase)
    try:
        connection = await asyncssh.connect(
            endpoint.host,
            **_names(endpoint),
            config=_config_files(endpoint),
            client_factory=lambda: client,
            known_hosts=keys,
            server_host_key_algs=_wanted_kinds(told, keys),
            client_keys=identities,
            ignore_encrypted=True,
            agent_path=agent or "",
            agent_forwarding=False,
            tunnel=opened[-1] if opened else None,
            connect_timeout=None,
            login_timeout=0,
            keepalive_interval=endpoint.keepalive_seconds,
            keepalive_count_max=_KEEPALIVE_COUNT,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise client.explain(error) from error
    except (asyncssh.KeyImportError, asyncssh.ConfigParseError, ValueError) as error:
        raise ConfigError(f"cannot log in to {endpoint}: {error}") from error
    opened.append(connection)


async def _open_hops(
    endpoint: SshEndpoint,
    told: asyncssh.SSHClientConnectionOptions,
    deadline: _Deadline,
    opened: list[asyncssh.SSHClientConnection],
    on_the_way: tuple[str, ...],
) -> None:
    """Append connections to the hosts that the endpoint is reached through."""
    hops: Sequence[str] = endpoint.proxy_jump
    if not hops and isinstance(told.tunnel, str) and not opened:
        hops = told.tunnel.split(",")
    for hop in hops:
        step = _hop(endpoint, hop)
        # `Host *` with a ProxyJump concerns the jump host too; OpenSSH skips it likewise.
        if endpoint.proxy_jump or step.host not in on_the_way:
            await _open(step, deadline, opened, (*on_the_way, step.host))


async def ask_host_key(endpoint: SshEndpoint) -> HostKey:
    """The key that the endpoint shows, and whether it is known; see `ssh.read_host_key`."""
    deadline = _Deadline(endpoint.connect_timeout_seconds)
    opened: list[asyncssh.SSHClientConnection] = []
    try:
        async with deadline.timeout:
            told = await _configuration(endpoint)
            await _open_hops(endpoint, told, deadline, opened, (endpoint.host,))
            key = await asyncssh.get_server_host_key(
                told.host,
                told.port,
                tunnel=opened[-1] if opened else (),
                proxy_command=told.proxy_command,
                config=None,
                server_host_key_algs=_PLAIN_KINDS,
            )
    except (OSError, asyncssh.Error) as error:
        raise _refused([(endpoint, error)]) from error
    finally:
        for connection in reversed(opened):
            connection.abort()
    if key is None:
        raise _refused([(endpoint, ConnectionError("it showed no key"))])
    trusted, authorities, revoked = known_keys(told, trusted_keys(endpoint, told))
    trust = "unknown" if not trusted else "changed"
    if key in trusted or authorities:
        trust = "known"
    if key in revoked:
        trust = "changed"
    line = key.export_public_key().decode().strip()
    return HostKey(line=line, fingerprint=key.get_fingerprint(), trust=trust)


def _wanted_kinds(
    told: asyncssh.SSHClientConnectionOptions, keys: asyncssh.SSHKnownHosts
) -> str | tuple[()]:
    """
    The kinds of host keys to ask for, in order.

    A host of which nothing is known is asked for its key, not for a certificate by somebody of
    whom nothing is known either: people can compare the first.
    """
    if told.config.get("HostKeyAlgorithms"):
        return ()
    trusted, authorities, _ = known_keys(told, keys)
    return f"+{_PLAIN_KINDS}" if trusted or authorities else _PLAIN_KINDS


def _hop(endpoint: SshEndpoint, words: str) -> SshEndpoint:
    """A host on the way, as ProxyJump names it: ``[user@]host[:port]``."""
    words = words.strip().removeprefix("ssh://")
    user, _, place = words.rpartition("@")
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit():
        host, port = place, ""
    return replace(
        endpoint,
        host=host.strip("[]"),
        user=user or None,
        port=int(port) if port else None,
        proxy_jump=(),
        host_key=None,
        identity_files=(),
    )


def _names(endpoint: SshEndpoint) -> dict[str, Any]:
    """The names that were given; asyncssh takes the others from the configuration."""
    given: dict[str, Any] = {}
    if endpoint.user is not None:
        given["username"] = endpoint.user
    if endpoint.port is not None:
        given["port"] = endpoint.port
    return given


async def _configuration(endpoint: SshEndpoint) -> asyncssh.SSHClientConnectionOptions:
    """What the configuration files say of the host; reads no keys."""
    try:
        told: asyncssh.SSHClientConnectionOptions
        told = await asyncssh.SSHClientConnectionOptions.construct(
            host=endpoint.host,
            **_names(endpoint),
            config=_config_files(endpoint),
            client_keys=None,
            agent_path="",
        )
        return told
    except (asyncssh.ConfigParseError, ValueError, OSError) as error:
        raise ConfigError(f"cannot read the SSH configuration of {endpoint}: {error}") from error


def _config_files(endpoint: SshEndpoint) -> Sequence[str]:
    """Empty means asyncssh's default, ``~/.ssh/config`` where there is one."""
    return [str(Path(path).expanduser()) for path in endpoint.config_files] or ()


class _Client(asyncssh.SSHClient):
    """Answers asyncssh's questions during one login."""

    def __init__(
        self,
        endpoint: SshEndpoint,
        deadline: _Deadline,
        keys: asyncssh.SSHKnownHosts,
    ) -> None:
        self._endpoint = endpoint
        self._deadline = deadline
        self._keys = keys
        self._offered: asyncssh.SSHKey | None = None
        self._is_known = False
        self._attempts = 0
        self.locked: LockedKeys | None = None

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Asked when the key is not among the trusted ones; remember it, and refuse."""
        self._offered = key
        asked_port = None if port == 22 else port
        trusted = asyncssh.match_known_hosts(self._keys, host, addr, asked_port)
        self._is_known = bool(trusted[0])
        return False

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Asked when the host's certificate is signed by nobody we trust."""
        return self.validate_host_public_key(host, addr, port, key)

    def explain(self, error: asyncssh.HostKeyNotVerifiable) -> HostKeyError:
        """Why the host was not accepted."""
        where = self._endpoint
        if self._offered is None:
            return HostKeyError(f"{where} cannot prove who it is: {error.reason}")
        key = self._offered
        line = key.export_public_key().decode().strip()
        details = [f"offered: {key.get_fingerprint()} ({key.get_algorithm()})", f"key: {line}"]
        if where.host_key is not None:
            message = f"{where} does not have the pinned host key"
            hint = (
                "If the site says that this is its new key, pin that one; "
                "if not, somebody may be listening."
            )
        elif self._is_known:
            message = f"{where} has another host key than before"
            hint = (
                "If the site says that this is its new key, replace the old one in known_hosts; "
                "if not, somebody may be listening."
            )
        else:
            message = f"the host key of {where} is not known: {key.get_fingerprint()}"
            hint = (
                "Compare the fingerprint with the one that the site publishes; if it is right, "
                "run `ssh` to the host once and accept it, or pin it in the configuration."
            )
        return HostKeyError(message, hint=hint, details=details)

    # --- who we are ----------------------------------------------------------------------------

    async def public_key_auth_requested(self) -> Sequence[asyncssh.SSHKeyPair] | None:
        """Another key, when those that are open were refused."""
        return await self.locked.next() if self.locked is not None else None

    async def ask_passphrase(self, text: str) -> str | None:
        """Ask for what opens a key."""
        return await self._ask(text, is_secret=True)

    async def password_auth_requested(self) -> str | None:
        """A password, while the person wants to give one."""
        self._attempts += 1
        if self._attempts > _PASSWORD_ATTEMPTS:
            return None
        return await self._ask(f"Password for {self._endpoint}: ", is_secret=True)

    async def kbdint_auth_requested(self) -> str | None:
        """Whether the host may ask its own questions."""
        self._attempts += 1
        may_ask = self._endpoint.prompt is not None and self._attempts <= _PASSWORD_ATTEMPTS
        return "" if may_ask else None

    async def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> Sequence[str] | None:
        """The host's questions, one by one."""
        del lang
        said = "\n".join(filter(None, (name, instructions)))
        answers = []
        for text, is_shown in prompts:
            answer = await self._ask(f"{said}\n{text}" if said else text, is_secret=not is_shown)
            if answer is None:
                return None
            answers.append(answer)
            said = ""
        return answers

    async def _ask(self, text: str, *, is_secret: bool) -> str | None:
        if self._endpoint.prompt is None:
            return None
        # A host must not be able to paint on the person's terminal.
        shown = "".join(c for c in text if c.isprintable() or c == "\n")
        self._deadline.stop()
        try:
            return await self._endpoint.prompt(shown, is_secret=is_secret)
        finally:
            self._deadline.restart()
