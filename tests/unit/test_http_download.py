"""HTTP: downloads that break off go on, and never mix two files."""

from __future__ import annotations

import pytest

from tests.support.loopback import Reply, Request, serve
from xmslurm_repro.transport.http import Http
from xmslurm_repro.transport.http_messages import HttpError

CONTENT = bytes(range(256)) * 4096


class Flaky:
    """Breaks off after some bytes, several times; understands ranges or does not."""

    def __init__(self, *, breaks: int, after: int = 100_000, has_ranges: bool = True) -> None:
        self.breaks, self.after, self.has_ranges = breaks, after, has_ranges

    def __call__(self, request: Request) -> Reply:
        start = 0
        if self.has_ranges and "range" in request.headers:
            start = int(request.headers["range"].removeprefix("bytes=").rstrip("-"))
        body = CONTENT[start:]
        span = {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        self.breaks -= 1
        return Reply(
            status=206 if start else 200,
            headers=span if start else {},
            body=body,
            cut_after=self.after if self.breaks >= 0 else None,
        )


def download(url: str) -> bytes:
    held = bytearray()
    count = Http(user_agent="test", backoff_seconds=0.01).download(url, held.extend)
    assert len(held) == count
    return bytes(held)


def test_a_download_goes_on_where_it_broke_off() -> None:
    with serve(Flaky(breaks=3)) as server:
        got = download(server.url)

    assert CONTENT == got
    assert [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"] == [
        request.headers.get("range") for request in server.requests
    ]


def test_a_server_without_ranges_is_read_again_from_the_start() -> None:
    with serve(Flaky(breaks=2, has_ranges=False)) as server:
        got = download(server.url)

    assert CONTENT == got


def test_a_download_that_makes_no_progress_is_given_up() -> None:
    with serve(Flaky(breaks=10**6, after=0)) as server, pytest.raises(HttpError) as caught:
        download(server.url)

    assert "broken" == caught.value.kind
    assert 5 == len(server.requests)


def test_a_server_that_sends_another_part_is_not_believed() -> None:
    replies = [
        Reply(body=CONTENT, cut_after=1000),
        Reply(status=206, headers={"Content-Range": "bytes 500-999/*"}, body=CONTENT[500:1000]),
    ]
    with serve(lambda _: replies.pop(0)) as server, pytest.raises(HttpError) as caught:
        download(server.url)

    assert "asked for bytes from 1000" in caught.value.reason


def test_a_refusal_is_told_with_its_status() -> None:
    with serve(lambda _: Reply(status=404)) as server, pytest.raises(HttpError) as caught:
        download(server.url + "/x")

    assert ("status", 404) == (caught.value.kind, caught.value.status)


def test_content_is_taken_as_it_is_sent() -> None:
    """A wheel served with ``Content-Encoding: gzip`` must not be unpacked on the way."""
    reply = Reply(body=b"\x1f\x8b not really", headers={"Content-Encoding": "gzip"})
    with serve(lambda _: reply) as server:
        got = download(server.url)

    assert b"\x1f\x8b not really" == got
    assert "identity" == server.requests[0].headers["accept-encoding"]
