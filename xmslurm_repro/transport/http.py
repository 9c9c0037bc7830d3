"""
HTTP: the one door to urllib3.

TLS is always verified. What goes wrong is raised as `HttpError`, which is no `ReproError`:
whoever calls knows what was wanted, and says so. No message holds a query, a user or a password.
"""

from __future__ import annotations

import functools
import logging
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from xmslurm_repro.errors import ConfigError
from xmslurm_repro.transport.http_messages import (
    Answer,
    Authorizer,
    Call,
    HttpError,
    origin_of,
    public_url,
    redirect_target,
)
from xmslurm_repro.transport.http_proxy import is_bypassed

if TYPE_CHECKING:
    import urllib3

_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_BUSY = (429, 500, 502, 503, 504)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 8
_MAX_RETRY_AFTER_SECONDS = 60.0
_MAX_BROKEN_READS = 4
_CHUNK_BYTES = 1 << 18


class Stream:
    """An answer whose body has not been read."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        self._response, self.url = response, url
        self.status = response.status

    def header(self, name: str) -> str | None:
        """The header *name*, or ``None``."""
        return self._response.headers.get(name)

    def header_items(self) -> tuple[tuple[str, str], ...]:
        """All headers, names in lower case."""
        return tuple((key.lower(), value) for key, value in self._response.headers.iteritems())

    def chunks(self) -> Iterator[bytes]:
        """
        The body, as it was sent.

        Raises:
            HttpError: If it breaks off, or is shorter than it was said to be.
        """
        with _explained(self.url):
            while chunk := self._response.read(_CHUNK_BYTES, decode_content=False):
                yield chunk


class Http:
    """
    A pool of connections; usable from several threads at once.

    Args:
        proxies: ``http`` and ``https`` to the URL of a proxy, which may hold a user and password.
        no_proxy: Hosts that are asked directly, as the variable ``NO_PROXY`` lists them. Loopback
            always is.
        ca_file: More certificate authorities (PEM), beside the system's.
        user_agent: What we call ourselves.
        connect_timeout_seconds: For a connection to be made.
        read_timeout_seconds: For the next bytes to come.
        attempts: How often an idempotent request is sent in all.
        backoff_seconds: The first pause between attempts; it doubles. ``Retry-After`` outranks it.
    """

    def __init__(
        self,
        *,
        proxies: Mapping[str, str] | None = None,
        no_proxy: str = "",
        ca_file: str | None = None,
        user_agent: str,
        connect_timeout_seconds: float = 10.0,
        read_timeout_seconds: float = 60.0,
        attempts: int = 4,
        backoff_seconds: float = 0.5,
    ) -> None:
        self._proxies, self._no_proxy, self._ca_file = dict(proxies or {}), no_proxy, ca_file
        self._user_agent = user_agent
        self._timeouts = (connect_timeout_seconds, read_timeout_seconds)
        self._attempts, self._backoff_seconds = attempts, backoff_seconds
        self._pools: dict[str | None, urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | BinaryIO | None = None,
        auth: Authorizer | None = None,
        retry: bool | None = None,
        limit_bytes: int = 64 << 20,
    ) -> Answer:
        """
        Ask, and read the whole answer, whatever its status.

        Args:
            method: Such as ``GET``.
            url: With ``http`` or ``https``.
            headers: To send.
            body: A stream is sent from where it stands to its end; it must be seekable to be
                sent again, and its length is taken from ``Content-Length`` in *headers*.
            auth: Who is asking.
            retry: Whether it may be sent again after a failure; by default if *method* is
                idempotent.
            limit_bytes: The longest body that is read.

        Raises:
            HttpError: If there is no whole answer, after all attempts.
        """
        with self.stream(method, url, headers=headers, body=body, auth=auth, retry=retry) as stream:
            held = bytearray()
            for chunk in stream.chunks():
                held += chunk
                if len(held) > limit_bytes:
                    raise HttpError("too-large", url, f"the answer exceeds {limit_bytes} bytes")
            return Answer(
                status=stream.status,
                url=stream.url,
                headers=stream.header_items(),
                body=bytes(held),
            )

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | BinaryIO | None = None,
        auth: Authorizer | None = None,
        retry: bool | None = None,
    ) -> Iterator[Stream]:
        """
        Ask, and leave the body to be read inside the block; otherwise as `request`.

        Raises:
            HttpError: If no answer comes.
        """
        again = method in _IDEMPOTENT if retry is None else retry
        call = Call(method=method, headers=dict(headers or {}), body=body, auth=auth, retry=again)
        response, at = self._follow(url, call)
        try:
            yield Stream(response, at)
        except BaseException:
            response.close()  # what is left of the body is not worth reading
            raise
        finally:
            response.release_conn()

    def download(
        self,
        url: str,
        write: Callable[[bytes], object],
        *,
        headers: Mapping[str, str] | None = None,
        auth: Authorizer | None = None,
    ) -> int:
        """
        Pass the body at *url* to *write*, going on where it broke off.

        Only for content that is checked against a digest afterwards: if the server's copy
        changes between two parts, what was written is neither.

        Returns:
            The number of bytes written.

        Raises:
            HttpError: If it cannot be had whole, with ``status`` where the server said no.
        """
        received = broken = 0
        while True:
            before = received
            ranged = {"Range": f"bytes={received}-"} if received else {}
            try:
                with self.stream("GET", url, headers={**(headers or {}), **ranged}, auth=auth) as s:
                    _check_status(s)
                    skip = _bytes_to_skip(s, received)
                    for chunk in s.chunks():
                        fresh = chunk[skip:]
                        skip -= min(skip, len(chunk))
                        write(fresh)
                        received += len(fresh)
                return received
            except HttpError as error:
                broken = 1 if received > before else broken + 1
                if error.kind not in {"broken", "timeout"} or broken > _MAX_BROKEN_READS:
                    raise

    def wait_as_told(self, answer: Answer, attempt: int) -> None:
        """
        Pause before a request that is not sent again by itself is.

        As long as ``Retry-After`` in *answer* says, a minute at most; else longer each time.
        """
        from urllib3.exceptions import InvalidHeader  # noqa: PLC0415 (start-up time)

        told = answer.header("retry-after")
        try:
            seconds = _retry_class()().parse_retry_after(told) if told else None
        except InvalidHeader:
            seconds = None
        if seconds is None:
            seconds = self._backoff_seconds * 2 ** (attempt - 1)
        threading.Event().wait(min(seconds, _MAX_RETRY_AFTER_SECONDS))

    def close(self) -> None:
        """Close all connections. Idempotent; a later request would open new ones."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()

    def _follow(self, url: str, call: Call) -> tuple[urllib3.BaseHTTPResponse, str]:
        """Send *call*, answer one challenge, follow redirects; return the answer and its URL."""
        at, start = url, call.position()
        may_answer = call.auth is not None
        for _ in range(_MAX_REDIRECTS + 1):
            is_home = origin_of(at) == origin_of(url)
            with _explained(at):
                response = self._send(at, call, with_auth=is_home)
            if response.status == 401 and is_home and may_answer and call.auth:
                may_answer = False
                asked = response.headers.getlist("WWW-Authenticate")
                if not call.auth.challenged(asked):
                    return response, at
            elif response.status in _REDIRECTS and call.may_move(response.status):
                at = redirect_target(at, response.headers.get("Location"))
            else:
                return response, at
            response.drain_conn()
            response.release_conn()
            call.rewind(start)
        raise HttpError("redirect", url, f"more than {_MAX_REDIRECTS} redirects")

    def _send(self, url: str, call: Call, *, with_auth: bool) -> urllib3.BaseHTTPResponse:
        headers = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", **call.headers}
        if with_auth and call.auth:
            headers.update(call.auth.headers())
        elif not with_auth:
            headers.pop("Authorization", None)
        import urllib3  # noqa: PLC0415 (start-up time)

        return self._pool_for(url).urlopen(
            call.method,
            url,
            headers=headers,
            body=call.body,
            redirect=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(connect=self._timeouts[0], read=self._timeouts[1]),
            retries=_retry_class()(
                self._attempts - 1 if call.retry else 0,
                redirect=0,
                other=0,
                allowed_methods=None,  # `total` decides
                status_forcelist=_BUSY,
                backoff_factor=self._backoff_seconds,
                backoff_max=20,
                raise_on_status=False,
            ),
        )

    def _pool_for(self, url: str) -> urllib3.PoolManager:
        import urllib3  # noqa: PLC0415 (start-up time)

        scheme, host, port = origin_of(url)
        if scheme not in {"http", "https"}:
            raise HttpError("connect", url, f"{scheme or 'nothing'} is not spoken here")
        proxy = self._proxies.get(scheme)
        if proxy and is_bypassed(host, port, self._no_proxy):
            proxy = None
        with self._lock:
            pool = self._pools.get(proxy)
            if pool is None:
                # It would write whole URLs, with what they carry, to the user's terminal.
                logging.getLogger("urllib3").setLevel(logging.ERROR)
                shared: dict[str, Any] = {
                    "maxsize": 64,
                    "blocksize": _CHUNK_BYTES,
                    "ssl_context": _tls_context(self._ca_file),
                }
                pool = _proxied(proxy, shared) if proxy else urllib3.PoolManager(**shared)
                self._pools[proxy] = pool
            return pool


def _check_status(stream: Stream) -> None:
    if not 200 <= stream.status < 300:
        reason = f"the server answered {stream.status}"
        raise HttpError("status", stream.url, reason, status=stream.status)


def _bytes_to_skip(stream: Stream, received: int) -> int:
    """How much of the body we have already. A server may ignore ``Range`` (RFC 9110, 14.2)."""
    if not received or stream.status != 206:
        return received
    span = stream.header("Content-Range") or ""
    if not span.startswith(f"bytes {received}-"):
        raise HttpError("status", stream.url, f"asked for bytes from {received}, got {span!r}")
    return 0


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"the certificates in {ca_file} cannot be read: {error}") from error
    return context


def _proxied(proxy: str, shared: dict[str, Any]) -> urllib3.PoolManager:
    import urllib3  # noqa: PLC0415 (start-up time)
    from urllib3.util import make_headers, parse_url  # noqa: PLC0415

    try:
        parts = parse_url(proxy)
    except urllib3.exceptions.LocationParseError as error:
        raise ConfigError(f"the proxy {public_url(proxy)} is no URL") from error
    headers = make_headers(proxy_basic_auth=parts.auth) if parts.auth else None
    bare = parts._replace(auth=None).url
    return urllib3.ProxyManager(bare, proxy_headers=headers, **shared)


@functools.cache
def _retry_class() -> type[urllib3.Retry]:
    from urllib3 import Retry  # noqa: PLC0415 (start-up time)

    class PatientRetry(Retry):
        """Heeds ``Retry-After``, but not for hours."""

        def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
            seconds = super().get_retry_after(response)
            return None if seconds is None else min(seconds, _MAX_RETRY_AFTER_SECONDS)

    return PatientRetry


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn urllib3's errors into ours."""
    from urllib3 import exceptions as wrong  # noqa: PLC0415 (start-up time)

    try:
        yield
    except (wrong.HTTPError, OSError) as error:
        cause: BaseException = error
        while isinstance(cause, wrong.MaxRetryError) and cause.reason:
            cause = cause.reason
        kinds: tuple[tuple[type[BaseException], str], ...] = (
            (wrong.ProxyError, "proxy"),
            (wrong.SSLError, "tls"),
            (ssl.SSLError, "tls"),
            (wrong.ConnectTimeoutError, "connect"),
            (wrong.NewConnectionError, "connect"),
            (wrong.TimeoutError, "timeout"),
            (wrong.LocationValueError, "connect"),
        )
        kind = next((name for type_, name in kinds if isinstance(cause, type_)), "broken")
        raise HttpError(kind, url, _reason(kind, cause)) from error


def _reason(kind: str, cause: BaseException) -> str:
    """What happened, in one line, without urllib3's object names."""
    text = str(cause).rpartition(": ")[2] if kind == "connect" else str(cause)
    opening = {
        "proxy": "the proxy failed",
        "tls": "no trusted TLS connection",
        "connect": "no connection",
        "timeout": "no bytes came in time",
    }.get(kind, "the connection broke off")
    return f"{opening}: {text.splitlines()[0] if text else type(cause).__name__}"
