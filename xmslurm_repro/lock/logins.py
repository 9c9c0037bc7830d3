"""Who is asking: users and passwords for package indexes, each for one origin only.

In this order: what stands in a configured index's URL; ``UV_INDEX_<NAME>_USERNAME`` and
``UV_INDEX_<NAME>_PASSWORD`` for an index that the project or the environment names, as uv has it;
the netrc file. None of it is kept, recorded or shown.
"""

from __future__ import annotations

import base64
import netrc
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from xmslurm_repro.errors import FormatError
from xmslurm_repro.lock.project import folders_up, join, read_toml, table
from xmslurm_repro.ports.store import Tree
from xmslurm_repro.transport.http_messages import HttpError, origin_of

Origin: TypeAlias = tuple[str, str | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user and password for one index."""

    username: str
    password: str = field(repr=False)

    def headers(self) -> Mapping[str, str]:
        """Basic authentication (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def challenged(self, challenges: Sequence[str]) -> bool:
        """There is nothing better to say."""
        del challenges
        return False


class Logins:
    """Logins by origin."""

    def __init__(
        self,
        index_urls: Iterable[str] = (),
        *,
        environ: Mapping[str, str] | None = None,
        netrc_file: Path | None = None,
    ) -> None:
        """Take those of *index_urls*, and look for others where *environ* and *netrc_file* say."""
        self._environ = environ or {}
        self._netrc_file = netrc_file
        self._netrc: netrc.netrc | None = None
        self._known: dict[Origin, Login] = {}
        for url in index_urls:
            self._learn_from_url(url)
        for variable in ("UV_INDEX", "UV_DEFAULT_INDEX"):
            for word in self._environ.get(variable, "").split():
                name, equals, url = word.partition("=")
                named = bool(equals) and re.fullmatch(r"[\w.-]+", name) is not None
                self._learn_from_url(url if named else word)
                if named:
                    self.learn({name: url})

    def learn(self, indexes: Mapping[str, str]) -> None:
        """Look for logins of *indexes*, URLs by name."""
        for name, url in indexes.items():
            stem = f"UV_INDEX_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}"
            username = self._environ.get(f"{stem}_USERNAME")
            password = self._environ.get(f"{stem}_PASSWORD")
            origin = _origin(url)
            if origin and (username is not None or password is not None):
                login = Login(username=username or "", password=password or "")
                self._known.setdefault(origin, login)

    def of(self, url: str) -> Login | None:
        """The login for *url*; one that stands in it goes before all others."""
        parts = urlsplit(url)
        if parts.username is not None:
            return _login_in(url)
        origin = _origin(url)
        return (self._known.get(origin) or self._of_netrc(origin)) if origin else None

    def _learn_from_url(self, url: str) -> None:
        origin, login = _origin(url), _login_in(url)
        if origin and login:
            self._known[origin] = login

    def _of_netrc(self, origin: Origin) -> Login | None:
        if self._netrc_file is None or origin[1] is None:
            return None
        if self._netrc is None:
            try:
                self._netrc = netrc.netrc(str(self._netrc_file))
            except FileNotFoundError:
                self._netrc_file = None
                return None
            except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
                # What the library says may hold a password.
                at = f"line {error.lineno}" if isinstance(error, netrc.NetrcParseError) else None
                reason = at or type(error).__name__
                raise FormatError(f"{self._netrc_file} cannot be read: {reason}") from None
        found = self._netrc.authenticators(origin[1])
        if found is None:
            return None
        return Login(username=found[0] or "", password=found[2] or "")


def netrc_path(environ: Mapping[str, str], user_home: Path) -> Path:
    """Where the netrc file is: ``NETRC``, else ``~/.netrc``."""
    said = environ.get("NETRC")
    return Path(said) if said else user_home / ".netrc"


def named_indexes(tree: Tree, folder: str) -> dict[str, str]:
    """The indexes that uv's settings in *folder* of a snapshot, or the nearest above, name."""
    for place in folders_up(folder):
        for name, keys in (("uv.toml", ()), ("pyproject.toml", ("tool", "uv"))):
            path = join(place, name)
            if tree.read(path) is None:
                continue
            listed = table(read_toml(tree, path), *keys).get("index", [])
            found = dict(_named(listed if isinstance(listed, list) else []))
            if found:
                return found
    return {}


def _named(listed: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for item in listed:
        name, url = (item.get("name"), item.get("url")) if isinstance(item, dict) else (None, None)
        if isinstance(name, str) and isinstance(url, str):
            yield name, url


def _origin(url: str) -> Origin | None:
    try:
        return origin_of(url)
    except HttpError:
        return None


def _login_in(url: str) -> Login | None:
    parts = urlsplit(url)
    if parts.username is None:
        return None
    return Login(username=unquote(parts.username), password=unquote(parts.password or ""))


def without_login(url: str) -> str:
    """*url* without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
