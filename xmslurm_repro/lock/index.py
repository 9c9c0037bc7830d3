"""Asking a package index for files: the simple API, as JSON (PEP 691) or HTML (PEP 503)."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from packaging.utils import canonicalize_name

from xmslurm_repro.errors import FormatError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.transport.http import Http
from xmslurm_repro.transport.http_messages import Authorizer, public_url

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """A file that an index offers. Some mirrors give no hash; then the file has to be tried."""

    filename: str
    url: str
    sha256: Digest | None


def list_files(
    http: Http, index_url: str, name: str, *, auth: Authorizer | None
) -> tuple[IndexFile, ...]:
    """
    The files of the project *name* on an index; none where the index does not know it.

    Raises:
        HttpError: If the index gives no answer.
        FormatError: If its answer is not the simple API.
    """
    url = f"{index_url.rstrip('/')}/{canonicalize_name(name)}/"
    answer = http.request("GET", url, headers={"Accept": _ACCEPT}, auth=auth)
    if answer.status in {404, 410}:
        return ()
    where = public_url(answer.url)
    if answer.status != 200:
        raise FormatError(f"{where}: the index answered {answer.status}")
    if "json" in (answer.header("content-type") or ""):
        return _of_json(Reader.of_json(answer.body, where), answer.url)
    return _of_html(answer.body.decode("utf-8", errors="replace"), answer.url)


def _of_json(reader: Reader, base: str) -> tuple[IndexFile, ...]:
    found = []
    for item in reader.field("files").items():
        digits = item.field("hashes").maybe("sha256")
        found.append(
            IndexFile(
                filename=item.field("filename").text(),
                url=urljoin(base, item.field("url").text()),
                sha256=_digest(digits.text()) if digits else None,
            )
        )
    return tuple(found)


def _of_html(text: str, base: str) -> tuple[IndexFile, ...]:
    page = _Anchors()
    page.feed(text)
    base = urljoin(base, page.base) if page.base else base
    found = []
    for href in page.hrefs:
        parts = urlsplit(urljoin(base, href))
        kind, _, digits = parts.fragment.partition("=")
        found.append(
            IndexFile(
                filename=unquote(parts.path.rpartition("/")[2]),
                url=parts._replace(fragment="").geturl(),
                sha256=_digest(digits) if kind == "sha256" else None,
            )
        )
    return tuple(found)


def _digest(digits: str) -> Digest | None:
    try:
        return Digest.sha256(digits.lower())
    except ValueError:
        return None


class _Anchors(HTMLParser):
    """Collects what the page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.base: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take one tag (the parser's interface)."""
        href = dict(attrs).get("href")
        if href and tag == "a":
            self.hrefs.append(href)
        elif href and tag == "base":
            self.base = href
