"""HTTP: what is sent again, what is followed, what is trusted, and what is never shown."""

from __future__ import annotations

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from urllib3 import HTTPResponse

from tests.support.certificates import make_certificates
from tests.support.loopback import Reply, Request, serve
from xmslurm_repro.errors import ConfigError
from xmslurm_repro.transport.http import Http, _retry_class
from xmslurm_repro.transport.http_messages import HttpError, public_url, redirect_target
from xmslurm_repro.transport.http_proxy import is_bypassed


def http(**options) -> Http:
    return Http(**{"user_agent": "test", "backoff_seconds": 0.01, **options})


class Answers:
    """Gives one reply after the other, the last one for ever."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)

    def __call__(self, request: Request) -> Reply:
        del request
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class Login:
    """An authorizer that learns its password at the first challenge."""

    def __init__(self) -> None:
        self.word: str | None = None
        self.heard: list[str] = []

    def headers(self):
        return {"Authorization": self.word} if self.word else {}

    def challenged(self, challenges):
        self.heard += challenges
        is_new, self.word = self.word is None, "Secret 42"
        return is_new


def test_a_busy_server_is_asked_again() -> None:
    with serve(Answers(Reply(status=503), Reply(status=429), Reply(body=b"at last"))) as server:
        answer = http().request("GET", server.url)

    assert (200, b"at last") == (answer.status, answer.body)
    assert 3 == len(server.requests)


def test_the_last_refusal_of_a_busy_server_is_the_answer() -> None:
    with serve(Answers(Reply(status=503, body=b"down for maintenance"))) as server:
        answer = http(attempts=3).request("GET", server.url)

    assert (503, b"down for maintenance") == (answer.status, answer.body)
    assert 3 == len(server.requests)


def test_a_post_is_sent_once_unless_it_is_said_to_be_safe() -> None:
    with serve(Answers(Reply(status=503))) as server:
        http().request("POST", server.url, body=b"x")
        once = len(server.requests)
        http(attempts=2).request("POST", server.url, body=b"x", retry=True)

    assert 1 == once
    assert 3 == len(server.requests)


def test_a_stream_that_is_sent_again_is_sent_from_where_it_stood() -> None:
    body = io.BytesIO(b"....payload")
    body.seek(4)
    with serve(Answers(Reply(status=503), Reply(status=201))) as server:
        http().request("PUT", server.url, body=body, headers={"Content-Length": "7"})

    assert [b"payload", b"payload"] == [request.body for request in server.requests]


def test_an_answer_that_is_too_long_is_not_read_to_its_end() -> None:
    with serve(Answers(Reply(body=b"x" * 2_000_000))) as server, pytest.raises(HttpError) as caught:
        http().request("GET", server.url, limit_bytes=1000)

    assert "too-large" == caught.value.kind


def test_a_connection_that_was_not_read_to_its_end_is_not_used_again() -> None:
    door = http()
    with serve(Answers(Reply(body=b"x" * 20_000_000), Reply(body=b"next"))) as server:
        with pytest.raises(HttpError):
            door.request("GET", server.url, limit_bytes=1000)
        answer = door.request("GET", server.url)

    assert b"next" == answer.body


def test_an_answer_shorter_than_announced_is_an_error() -> None:
    with (
        serve(Answers(Reply(body=b"x" * 1000, cut_after=10))) as server,
        pytest.raises(HttpError) as caught,
    ):
        http().request("GET", server.url)

    assert "broken" == caught.value.kind


def test_nobody_listening_is_told_apart_from_a_refusal() -> None:
    with serve(Answers(Reply())) as server:
        url = server.url

    with pytest.raises(HttpError) as caught:
        http(attempts=1).request("GET", url)

    assert "connect" == caught.value.kind
    assert "refused" in caught.value.reason


@pytest.mark.parametrize(
    "url",
    ["http://[::1/x", "http://a.example:port/", "ftp://a.example/", "file:///etc/passwd", "x"],
)
def test_what_is_no_url_is_an_error_like_others(url) -> None:
    with pytest.raises(HttpError):
        http().request("GET", url)


def test_a_silent_server_is_given_up_on() -> None:
    release = threading.Event()

    def wait(request: Request) -> Reply:
        del request
        release.wait(10)
        return Reply()

    with serve(wait) as server:
        with pytest.raises(HttpError) as caught:
            http(attempts=1, read_timeout_seconds=0.2).request("GET", server.url)
        release.set()

    assert "timeout" == caught.value.kind


def test_a_challenge_is_answered_once() -> None:
    login = Login()
    challenge = {"WWW-Authenticate": 'Basic realm="r"'}
    with serve(Answers(Reply(status=401, headers=challenge), Reply(body=b"in"))) as server:
        answer = http().request("GET", server.url, auth=login)

    assert b"in" == answer.body
    assert [None, "Secret 42"] == [r.headers.get("authorization") for r in server.requests]
    assert ['Basic realm="r"'] == login.heard


def test_a_second_challenge_is_the_answer() -> None:
    with serve(Answers(Reply(status=401))) as server:
        answer = http().request("GET", server.url, auth=Login())

    assert 401 == answer.status
    assert 2 == len(server.requests)


def test_redirects_are_followed_without_what_was_meant_for_the_first_host() -> None:
    login = Login()
    login.word = "Secret 42"
    with serve(Answers(Reply(body=b"here"))) as other:
        away = Reply(status=307, headers={"Location": f"{other.url}/blob?signature=1"})
        with serve(Answers(away)) as first:
            answer = http().request(
                "GET", first.url, auth=login, headers={"Authorization": "Secret 43"}
            )

    assert b"here" == answer.body
    assert "Secret 42" == first.requests[0].headers["authorization"]
    assert "authorization" not in other.requests[0].headers


def test_a_redirect_on_the_same_host_keeps_the_login() -> None:
    login = Login()
    login.word = "Secret 42"
    with serve(Answers(Reply(status=302, headers={"Location": "/b"}), Reply())) as server:
        http().request("GET", server.url + "/a", auth=login)

    assert ["/a", "/b"] == [request.path for request in server.requests]
    assert "Secret 42" == server.requests[1].headers["authorization"]


def test_redirects_in_a_circle_end() -> None:
    with (
        serve(Answers(Reply(status=302, headers={"Location": "/again"}))) as server,
        pytest.raises(HttpError) as caught,
    ):
        http().request("GET", server.url)

    assert "redirect" == caught.value.kind


@pytest.mark.parametrize("location", ["http://b.example/", "file:///etc/passwd", None, ""])
def test_a_redirect_never_leaves_tls(location) -> None:
    with pytest.raises(HttpError) as caught:
        redirect_target("https://a.example/x", location)

    assert "redirect" == caught.value.kind


def test_a_redirect_after_a_write_is_not_turned_into_a_read() -> None:
    with serve(Answers(Reply(status=303, headers={"Location": "/b"}))) as server:
        answer = http().request("PUT", server.url, body=b"x")

    assert 303 == answer.status
    assert 1 == len(server.requests)


def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    with (
        serve(Answers(Reply()), tls=made.server_context()) as server,
        pytest.raises(HttpError) as caught,
    ):
        http(attempts=1).request("GET", server.url)

    assert "tls" == caught.value.kind
    assert "certificate verify failed" in caught.value.reason
    assert [] == server.requests


def test_a_site_can_add_its_own_authority(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    with serve(Answers(Reply(body=b"ours")), tls=made.server_context()) as server:
        answer = http(ca_file=str(made.ca)).request("GET", server.url)

    assert b"ours" == answer.body


def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, names=("far.example",), address="192.0.2.1")
    with (
        serve(Answers(Reply()), tls=made.server_context()) as server,
        pytest.raises(HttpError) as caught,
    ):
        http(ca_file=str(made.ca), attempts=1).request("GET", server.url)

    assert "tls" == caught.value.kind
    assert [] == server.requests


def test_a_missing_authority_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        http(ca_file=str(tmp_path / "ca.pem")).request("GET", "https://127.0.0.1:1/")

    assert "ca.pem" in caught.value.message


def test_a_proxy_is_shown_its_password_and_nobody_else_is() -> None:
    with serve(Answers(Reply(body=b"by proxy"))) as proxy:
        url = proxy.url.replace("http://", "http://alice:s3cret@")
        answer = http(proxies={"http": url}).request("GET", "http://far.example/x?y=1")

    assert b"by proxy" == answer.body
    assert "http://far.example/x?y=1" == proxy.requests[0].path
    expected = "Basic " + base64.b64encode(b"alice:s3cret").decode()
    assert expected == proxy.requests[0].headers["proxy-authorization"]


def test_loopback_is_never_asked_through_a_proxy() -> None:
    with serve(Answers(Reply(body=b"direct"))) as server:
        answer = http(proxies={"http": "http://127.0.0.1:9"}).request("GET", server.url)

    assert b"direct" == answer.body


def test_a_broken_proxy_is_named_without_its_password() -> None:
    with serve(Answers(Reply())) as server:
        dead = server.url
    with pytest.raises(HttpError) as caught:
        http(proxies={"http": dead.replace("//", "//alice:s3cret@")}, attempts=1).request(
            "GET", "http://bob:hunter2@far.example/x?token=abc"
        )

    assert "proxy" == caught.value.kind
    assert "http://far.example/x" == caught.value.url
    for secret in ("s3cret", "hunter2", "abc"):
        assert secret not in f"{caught.value} {caught.value.reason}"


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "expected"),
    [
        ("a.example", 443, "", False),
        ("a.example", 443, "example", True),
        ("a.example", 443, ".example", True),
        ("a.example", 443, "*.example", True),
        ("example", 443, ".example", True),
        ("anexample", 443, "example", False),
        ("a.example", 443, "b.example, a.example", True),
        ("a.example", 443, "*", True),
        ("a.example", 443, "a.example:443", True),
        ("a.example", 80, "a.example:443", False),
        ("A.Example.", 443, "a.example", True),
        ("10.1.2.3", 443, "10.0.0.0/8", True),
        ("11.1.2.3", 443, "10.0.0.0/8", False),
        ("10.1.2.3", 443, "10.1.2.3", True),
        ("1.10.1.2", 443, "10.1.2", False),
        ("fd00::1", 443, "fd00::/8", True),
        ("fd00::1", 443, "[fd00::1]", True),
        ("127.0.0.1", 80, "", True),
        ("127.8.9.10", 80, "", True),
        ("::1", 80, "", True),
        ("localhost", 80, "", True),
        ("10.1.2.3", 443, "10.0.0.0/99", False),
    ],
)
def test_hosts_are_asked_directly_as_no_proxy_says(host, port, no_proxy, expected) -> None:
    assert expected == is_bypassed(host, port, no_proxy)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/x?sig=1#f", "https://a.example/x"),
        ("https://user:pw@a.example:8443/x", "https://a.example:8443/x"),
        ("http://u%40v:p@[::1]:5000/", "http://[::1]:5000/"),
        ("http://u:p@[::1/x?y", "http://[::1/x"),
    ],
)
def test_a_shown_url_holds_no_secret(url, expected) -> None:
    assert expected == public_url(url)


def test_threads_share_one_door() -> None:
    with serve(lambda request: Reply(body=request.path.encode())) as server:
        door = http()
        with ThreadPoolExecutor(8) as workers:
            paths = [f"/{number}" for number in range(64)]
            got = workers.map(lambda path: door.request("GET", server.url + path).body, paths)
            bodies = [body.decode() for body in got]
        door.close()

    assert paths == bodies


def test_a_stream_is_sent_again_whole_after_a_challenge() -> None:
    body = io.BytesIO(b"payload")
    with serve(Answers(Reply(status=401), Reply(status=201))) as server:
        http().request("PUT", server.url, body=body, headers={"Content-Length": "7"}, auth=Login())

    assert [b"payload", b"payload"] == [request.body for request in server.requests]


@pytest.mark.parametrize(("said", "expected"), [("3", 3), ("86400", 60), (None, None)])
def test_retry_after_is_heeded_but_not_for_hours(said, expected) -> None:
    response = HTTPResponse(status=429, headers={"Retry-After": said} if said else {})

    assert expected == _retry_class()(3).get_retry_after(response)


def test_nothing_is_logged_that_a_url_carries(caplog) -> None:
    caplog.set_level(0)
    with serve(Answers(Reply())) as server:
        http().request("GET", server.url + "/x?token=abc")
    with pytest.raises(HttpError):
        http(attempts=2).request("GET", server.url + "/x?token=abc")

    assert "abc" not in caplog.text
