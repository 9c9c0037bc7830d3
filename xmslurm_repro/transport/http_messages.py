"""What goes over HTTP and what goes wrong, without the library that does it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol
from urllib.parse import urljoin, urlsplit, urlunsplit


class HttpError(Exception):
    """
    There was no whole answer.

    Attributes:
        kind: ``connect``, ``tls``, ``timeout``, ``broken``, ``proxy``, ``redirect``, ``status``
            or ``too-large``.
        url: What was asked, without query, user and password.
        reason: What happened, for people.
        status: The status of the answer, where there was one.
    """

    def __init__(self, kind: str, url: str, reason: str, *, status: int | None = None) -> None:
        super().__init__(f"{public_url(url)}: {reason}")
        self.kind, self.url, self.reason, self.status = kind, public_url(url), reason, status


class Authorizer(Protocol):
    """Says who is asking. Its headers go to the origin that was asked, never to another."""

    def headers(self) -> Mapping[str, str]:
        """What to send with the next request; empty while nothing was asked for."""
        ...

    def challenged(self, challenges: Sequence[str]) -> bool:
        """
        Take the ``WWW-Authenticate`` headers of a 401.

        Returns:
            Whether the same request is worth sending again with new `headers`.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer. Its headers are in their order, names in lower case."""

    status: int
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header called *name* (in lower case), or ``None``."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request, but for where it goes. A body that is a stream begins where it stands."""

    method: str
    headers: dict[str, str]
    body: bytes | BinaryIO | None
    auth: Authorizer | None
    retry: bool

    def may_move(self, status: int) -> bool:
        """Whether a redirect may be followed: reads always, writes only unchanged."""
        return self.method in {"GET", "HEAD"} or status in {307, 308}

    def position(self) -> int:
        """Where the body stands."""
        return 0 if self.body is None or isinstance(self.body, bytes) else self.body.tell()

    def rewind(self, position: int) -> None:
        """Make the body ready to be sent again from *position*."""
        if self.body is not None and not isinstance(self.body, bytes):
            self.body.seek(position)


def public_url(url: str) -> str:
    """*url* without user, password, query and fragment: fit to be shown."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:  # such as a bracket that is not closed
        return re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url)[0])


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """
    Scheme, host and port: what may see credentials that were meant for it.

    Raises:
        HttpError: If *url* is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname, port
    except ValueError as error:
        raise HttpError("connect", url, f"not a URL: {error}") from error


def redirect_target(at: str, location: str | None) -> str:
    """
    Where a redirect leads.

    Raises:
        HttpError: If that is nowhere, or from https to anything else.
    """
    if not location:
        raise HttpError("redirect", at, "a redirect to nowhere")
    try:
        target = urljoin(at, location)
    except ValueError as error:
        raise HttpError("redirect", at, "a redirect to what is no URL") from error
    scheme = origin_of(target)[0]
    if scheme not in {"http", "https"} or (origin_of(at)[0] == "https" and scheme == "http"):
        raise HttpError("redirect", at, f"a redirect from https to {scheme} is not followed")
    return target
