"""Registries: answering what they ask of us."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.loopback import Reply, Request, serve
from xmslurm_repro.errors import RegistryError
from xmslurm_repro.image.credentials import Credential, NoCredentials
from xmslurm_repro.image.registry_auth import RegistryAuthorizer, parse_challenges
from xmslurm_repro.transport.http import Http


class Known:
    def __init__(self, credential: Credential) -> None:
        self.one = credential

    def credential(self, registry: str, repository: str) -> Credential | None:
        del registry, repository
        return self.one


ALICE = Known(Credential(username="alice", password="s3cret"))


def authorizer(credentials=None, *, may_be_plain: bool = True) -> RegistryAuthorizer:
    return RegistryAuthorizer(
        Http(user_agent="test", attempts=1),
        credentials or NoCredentials(),
        registry="registry.example",
        repository="a/b",
        scopes=["repository:a/b:pull,push", "repository:c:pull"],
        may_be_plain=may_be_plain,
    )


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        (["Basic"], [("basic", {})]),
        (['Basic realm="a, b"'], [("basic", {"realm": "a, b"})]),
        (
            ['Bearer realm="https://auth.example/t?a=1",service="r",scope="x:y:pull,push"'],
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.example/t?a=1",
                        "service": "r",
                        "scope": "x:y:pull,push",
                    },
                )
            ],
        ),
        (
            ['Negotiate, Basic realm="r", Bearer realm=x , service = "q\\"d"'],
            [
                ("negotiate", {}),
                ("basic", {"realm": "r"}),
                ("bearer", {"realm": "x", "service": 'q"d'}),
            ],
        ),
        (['Basic realm="Bearer realm=fake"'], [("basic", {"realm": "Bearer realm=fake"})]),
        (
            ["BEARER REALM=a", "basic realm=b"],
            [("bearer", {"realm": "a"}), ("basic", {"realm": "b"})],
        ),
    ],
)
def test_challenges_are_read(headers, expected) -> None:
    assert expected == [(one.scheme, dict(one.parameters)) for one in parse_challenges(headers)]


def test_a_password_is_shown_when_asked_for() -> None:
    auth = authorizer(ALICE)

    assert {} == auth.headers()
    assert auth.challenged(['Basic realm="r"'])
    expected = "Basic " + base64.b64encode(b"alice:s3cret").decode()
    assert {"Authorization": expected} == auth.headers()


def test_a_password_that_was_refused_is_not_shown_again() -> None:
    auth = authorizer(ALICE)
    auth.headers()
    auth.challenged(["Basic"])
    auth.headers()

    assert not auth.challenged(["Basic"])


@pytest.mark.parametrize("challenge", ["Basic", "Negotiate", ""])
def test_who_knows_nothing_says_nothing(challenge) -> None:
    auth = authorizer()
    auth.headers()

    assert not auth.challenged([challenge])
    assert {} == auth.headers()


def token(request: Request) -> Reply:
    del request
    return Reply(body=json.dumps({"token": "t0ken"}).encode())


def test_a_token_is_fetched_for_all_that_we_will_do() -> None:
    with serve(token) as realm:
        auth = authorizer(ALICE)
        auth.headers()
        again = auth.challenged(
            [f'Bearer realm="{realm.url}/token?v=1",service="r",scope="repository:a/b:pull"']
        )

    assert again
    assert {"Authorization": "Bearer t0ken"} == auth.headers()
    query = parse_qs(urlsplit(realm.requests[0].path).query)
    assert {
        "v": ["1"],
        "service": ["r"],
        "scope": ["repository:a/b:pull", "repository:a/b:pull,push", "repository:c:pull"],
    } == query
    assert "Basic " in realm.requests[0].headers["authorization"]


def test_without_a_login_a_token_is_asked_for_anonymously() -> None:
    with serve(lambda _: Reply(body=b'{"access_token": "t0ken"}')) as realm:
        auth = authorizer()
        auth.headers()
        assert auth.challenged([f'Bearer realm="{realm.url}"'])

    assert {"Authorization": "Bearer t0ken"} == auth.headers()
    assert "authorization" not in realm.requests[0].headers


def test_an_identity_token_is_exchanged() -> None:
    with serve(token) as realm:
        auth = authorizer(Known(Credential(username="", identity_token="r3fresh")))
        auth.headers()
        assert auth.challenged([f'Bearer realm="{realm.url}",service="r"'])

    request = realm.requests[0]
    form = parse_qs(request.body.decode())
    assert "POST" == request.method
    assert ["r3fresh"] == form["refresh_token"]
    assert ["refresh_token"] == form["grant_type"]
    assert "r3fresh" not in request.path


def test_a_token_that_ran_out_is_fetched_anew() -> None:
    numbers = iter(range(100))
    with serve(lambda _: Reply(body=b'{"token": "t%d"}' % next(numbers))) as realm:
        auth = authorizer()
        seen = []
        for _ in range(3):
            seen.append(auth.headers().get("Authorization"))
            assert auth.challenged([f'Bearer realm="{realm.url}"'])

    assert [None, "Bearer t0", "Bearer t1"] == seen


def test_threads_that_are_refused_together_fetch_one_token() -> None:
    together = threading.Barrier(8)
    with serve(token) as realm:
        auth = authorizer()

        def knock(_: int) -> bool:
            auth.headers()
            together.wait(10)
            return auth.challenged([f'Bearer realm="{realm.url}"'])

        with ThreadPoolExecutor(8) as workers:
            answers = list(workers.map(knock, range(8)))

    assert [True] * 8 == answers
    assert 1 == len(realm.requests)


def test_credentials_go_to_no_realm_without_tls() -> None:
    with serve(token) as realm:
        auth = authorizer(ALICE, may_be_plain=False)
        with pytest.raises(RegistryError) as caught:
            auth.challenged([f'Bearer realm="{realm.url}/token?secret=1"'])

    assert [] == realm.requests
    assert "which has no TLS" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(status=401, body=b'{"details": "s3cret"}'), "gives no token as 'alice'"),
        (Reply(body=b'{"details": "s3cret"}'), "holds no token"),
        (Reply(body=b'{"token": ["s3cret"]}'), "holds no token"),
        (Reply(body=b"s3cret"), "holds no token"),
    ],
)
def test_a_realm_that_says_no_is_named_and_not_quoted(reply, expected) -> None:
    with serve(lambda _: reply) as realm:
        auth = authorizer(ALICE)
        with pytest.raises(RegistryError) as caught:
            auth.challenged([f'Bearer realm="{realm.url}"'])

    assert expected in caught.value.message
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_realm_that_cannot_be_reached_is_an_error() -> None:
    with serve(token) as realm:
        url = realm.url
    with pytest.raises(RegistryError, match="no token for the registry"):
        authorizer().challenged([f'Bearer realm="{url}"'])
