"""Answering a registry's challenge: Basic, or a bearer token from the realm it names.

The protocol is Docker's (distribution.github.io, "Token Authentication"); the challenge's grammar
is RFC 9110, 11.6.1.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlencode, urlsplit

from xmslurm_repro.errors import FormatError, RegistryError
from xmslurm_repro.image.credentials import Credential, CredentialSource
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.transport.http import Http
from xmslurm_repro.transport.http_messages import Answer, HttpError, public_url

_CLIENT_ID = "xmslurm-repro"
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][A-Za-z0-9_-]*)(?=\s+[A-Za-z0-9_-]+\s*=|\s*(?:,|$))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge: its scheme in lower case, and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Sequence[str]) -> tuple[Challenge, ...]:
    """Read ``WWW-Authenticate`` headers; each may hold several challenges."""
    found = []
    for header in headers:
        # Quoted text may hold anything: blank it out before looking for schemes.
        masked = re.sub(r'"(?:[^"\\]|\\.)*"', lambda m: '"' + "x" * (len(m[0]) - 2) + '"', header)
        starts = [match.start(1) for match in _SCHEME.finditer(masked)]
        for start, end in pairwise([*starts, len(header)]):
            scheme, *rest = header[start:end].split(maxsplit=1)
            parameters = {
                name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
                for name, quoted, plain in _PARAMETER.findall("".join(rest))
            }
            found.append(Challenge(scheme=scheme.strip(",").lower(), parameters=parameters))
    return tuple(found)


class RegistryAuthorizer:
    """
    Says who we are to one registry, for one set of repositories.

    Usable from several threads; a token is asked for once for all of them.

    Args:
        http: The door to the realm.
        credentials: Asked only when the registry wants to know.
        registry: As the user calls it.
        repository: The one that is read or written.
        scopes: What we are going to do, such as ``repository:a/b:pull,push``.
        may_be_plain: Whether a realm without TLS may see credentials: only that of a registry
            which itself has none.
    """

    def __init__(
        self,
        http: Http,
        credentials: CredentialSource,
        *,
        registry: str,
        repository: str,
        scopes: Collection[str],
        may_be_plain: bool,
    ) -> None:
        self._http, self._credentials = http, credentials
        self._registry, self._repository = registry, repository
        self._scopes, self._may_be_plain = tuple(sorted(scopes)), may_be_plain
        self._lock = threading.Lock()
        self._header: str | None = None
        self._sent = threading.local()

    def headers(self) -> Mapping[str, str]:
        """See `Authorizer`."""
        self._sent.header = self._header
        return {"Authorization": self._header} if self._header else {}

    def challenged(self, challenges: Sequence[str]) -> bool:
        """See `Authorizer`. Another thread may have answered it meanwhile."""
        with self._lock:
            refused = getattr(self._sent, "header", None)
            if self._header is not None and self._header != refused:
                return True
            fresh = self._answer(parse_challenges(challenges))
            is_new = fresh is not None and fresh != refused
            self._header = fresh if is_new else self._header
            return is_new

    def _answer(self, challenges: Sequence[Challenge]) -> str | None:
        by_scheme = {challenge.scheme: challenge for challenge in challenges}
        credential = self._credentials.credential(self._registry, self._repository)
        if "bearer" in by_scheme:
            return f"Bearer {self._token(by_scheme['bearer'].parameters, credential)}"
        if "basic" in by_scheme and credential is not None:
            return credential.basic()
        return None

    def _token(self, parameters: Mapping[str, str], credential: Credential | None) -> str:
        realm = parameters.get("realm", "")
        scheme = urlsplit(realm).scheme
        if scheme != "https" and not (scheme == "http" and self._may_be_plain):
            raise RegistryError(
                f"the registry {self._registry} asks us to log in at {public_url(realm)!r}, which "
                "has no TLS"
            )
        scopes = sorted({*self._scopes, *parameters.get("scope", "").split()})
        try:
            answer = self._ask(realm, parameters.get("service"), scopes, credential)
        except HttpError as error:
            raise RegistryError(
                f"no token for the registry {self._registry}: {error}",
                hint="Check the network and the proxy settings.",
            ) from error
        if answer.status != 200:
            known = f"as {credential.username!r}" if credential else "without a login"
            raise RegistryError(
                f"the registry {self._registry} gives no token {known}: "
                f"{public_url(realm)} answered {answer.status}",
                hint=f"Log in again, for example by `podman login {self._registry}`.",
            )
        return _token_of(answer, public_url(realm))

    def _ask(
        self,
        realm: str,
        service: str | None,
        scopes: Sequence[str],
        credential: Credential | None,
    ) -> Answer:
        if credential is not None and credential.identity_token is not None:
            form = {
                "grant_type": "refresh_token",
                "service": service or self._registry,
                "client_id": _CLIENT_ID,
                "scope": " ".join(scopes),
                "refresh_token": credential.identity_token,
            }
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._http.request(
                "POST", realm, headers=kind, body=urlencode(form).encode(), retry=True
            )
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query)}"
        headers = {"Authorization": credential.basic()} if credential else {}
        return self._http.request("GET", url, headers=headers)


def _token_of(answer: Answer, where: str) -> str:
    try:
        reader = Reader.of_json(answer.body, where)
        token = reader.maybe("token") or reader.field("access_token")
    except FormatError:
        # Not even as the cause: its text may show what was answered.
        raise RegistryError(f"{where}: the answer holds no token") from None
    if not isinstance(token.value, str):
        raise RegistryError(f"{where}: the answer holds no token")
    return token.value
