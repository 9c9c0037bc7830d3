"""Locks: bringing wheels into the blob store, from wherever they are, and only the right ones."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.support.lock_trees import FilesTree
from tests.support.loopback import Reply, serve
from tests.support.wheels import Index, artifact, make_wheel
from xmslurm_repro.errors import FetchError
from xmslurm_repro.lock.fetch import fetch_artifacts
from xmslurm_repro.lock.locate import _INTERPRETER
from xmslurm_repro.lock.logins import Logins, named_indexes
from xmslurm_repro.lock.source import Locks
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.memory import MemoryObjectStore
from xmslurm_repro.store.memory_blobs import MemoryBlobStore
from xmslurm_repro.transport.http import Http

ALPHA, BETA = "alpha-1.0-py3-none-any.whl", "beta-2.0-py3-none-any.whl"
WHEELS = {ALPHA: make_wheel("alpha"), BETA: make_wheel("beta", "2.0")}


class Watch:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.total: int | None = -1
        self.done = self.finished = 0

    def start(self, label: str, *, total: int | None = None, unit: str = "bytes") -> Watch:
        del label, unit
        self.total = total
        return self

    def advance(self, amount: int) -> None:
        self.done += amount

    def finish(self) -> None:
        self.finished += 1


def fetch(*artifacts, blobs=None, **options) -> MemoryBlobStore:
    blobs = MemoryBlobStore() if blobs is None else blobs
    door = Http(user_agent="test", attempts=2, backoff_seconds=0.01)
    fetch_artifacts(artifacts, blobs=blobs, http=door, **options)
    return blobs


def wanted(name: str, url: str | None = None):
    return artifact(name, WHEELS[name], url=url)


def test_wheels_come_from_the_urls_of_the_lock() -> None:
    watch = Watch()
    with serve(Index(WHEELS)) as server:
        both = [wanted(name, f"{server.url}/files/{name}") for name in WHEELS]
        blobs = fetch(*both, progress=watch)

    assert list(WHEELS.values()) == [blobs.get(one.sha256) for one in both]
    total = sum(map(len, WHEELS.values()))
    assert (total, total, 1) == (watch.total, watch.done, watch.finished)


def test_what_is_there_is_not_fetched_again() -> None:
    blobs = MemoryBlobStore()
    blobs.put(WHEELS[ALPHA])
    with serve(Index(WHEELS)) as server:
        fetch(wanted(ALPHA, f"{server.url}/files/{ALPHA}"), blobs=blobs, index_urls=[server.url])

    assert [] == server.requests


def test_a_wheelhouse_comes_before_the_network(tmp_path: Path) -> None:
    (tmp_path / ALPHA).write_bytes(WHEELS[ALPHA])
    with serve(Index(WHEELS)) as server:
        one = wanted(ALPHA, f"{server.url}/files/{ALPHA}")
        blobs = fetch(one, wheelhouses=[tmp_path / "gone", tmp_path])

    assert blobs.has(one.sha256)
    assert [] == server.requests


def test_another_file_of_the_same_name_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ALPHA).write_bytes(make_wheel("alpha", content="# patched here"))
    with serve(Index(WHEELS)) as server:
        one = wanted(ALPHA, f"{server.url}/files/{ALPHA}")
        blobs = fetch(one, wheelhouses=[tmp_path])

    assert WHEELS[ALPHA] == blobs.get(one.sha256)


@pytest.mark.parametrize(
    "options",
    [{}, {"has_json": False}, {"has_hashes": False}, {"has_json": False, "has_hashes": False}],
)
def test_a_mirror_is_asked_when_the_lock_names_a_place_that_is_gone(options) -> None:
    with serve(lambda _: Reply(status=404)) as gone, serve(Index(WHEELS, **options)) as mirror:
        one = wanted(ALPHA, f"{gone.url}/files/{ALPHA}")
        blobs = fetch(one, index_urls=[f"{gone.url}/simple", f"{mirror.url}/simple/"])

    assert WHEELS[ALPHA] == blobs.get(one.sha256)


def test_a_lock_without_urls_needs_only_an_index() -> None:
    with serve(Index(WHEELS)) as mirror:
        blobs = fetch(wanted(BETA), index_urls=[f"{mirror.url}/simple"])

    assert blobs.has(wanted(BETA).sha256)


def test_a_wheel_of_the_snapshot_comes_from_the_store() -> None:
    store = MemoryObjectStore()
    digest = store.put(WHEELS[ALPHA])
    one = wanted(ALPHA, str(digest))

    assert WHEELS[ALPHA] == fetch(one, store=store).get(one.sha256)


def test_an_index_with_a_password_is_shown_it_and_so_are_its_files() -> None:
    secret = "Basic " + base64.b64encode(b"me@site:s3cret").decode()
    with serve(Index(WHEELS, login=secret)) as server:
        index = server.url.replace("//", "//me%40site:s3cret@") + "/simple"
        blobs = fetch(
            wanted(ALPHA, f"{server.url}/files/{ALPHA}"), wanted(BETA), index_urls=[index]
        )

    assert blobs.has(wanted(ALPHA).sha256)
    assert blobs.has(wanted(BETA).sha256)


def test_a_password_is_shown_to_its_own_host_only() -> None:
    with serve(Index({})) as private, serve(Index(WHEELS)) as public:
        index = private.url.replace("//", "//me:s3cret@") + "/simple"
        fetch(wanted(ALPHA, f"{public.url}/files/{ALPHA}"), index_urls=[index])

    assert [None] == [request.headers.get("authorization") for request in public.requests]


def test_every_failure_is_told_with_its_reason_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / BETA).write_bytes(b"damaged")
    with serve(Index({ALPHA: b"other bytes"})) as server:
        index = server.url.replace("//", "//me:s3cret@") + "/simple"
        with pytest.raises(FetchError) as caught:
            fetch(
                wanted(ALPHA, f"{server.url}/files/{ALPHA}?token=abc"),
                wanted(BETA),
                index_urls=[index],
                wheelhouses=[tmp_path],
            )

    error = caught.value
    assert "cannot fetch 2 packages: alpha, beta" == error.message
    text = "\n".join(error.details)
    assert f"{ALPHA}: {server.url}/files/{ALPHA}: expected {wanted(ALPHA).sha256}, got" in text
    assert f"{BETA}: {tmp_path / BETA}: expected" in text
    assert f"{BETA}: {server.url}/simple: has no {BETA} with that hash" in text
    assert "s3cret" not in text
    assert "abc" not in text


def test_nothing_to_ask_is_said() -> None:
    with pytest.raises(FetchError) as caught:
        fetch(wanted(ALPHA))

    assert (f"{ALPHA}: the lock names no URL, and no index is configured",) == caught.value.details


def test_what_was_fetched_is_kept_when_something_else_fails() -> None:
    blobs = MemoryBlobStore()
    with serve(Index({ALPHA: WHEELS[ALPHA]})) as server, pytest.raises(FetchError):
        fetch(*(wanted(name, f"{server.url}/files/{name}") for name in WHEELS), blobs=blobs)

    assert [wanted(ALPHA).sha256] == list(blobs.digests())


def test_a_damaged_wheel_leaves_nothing_behind() -> None:
    blobs = MemoryBlobStore()
    with serve(Index({ALPHA: WHEELS[ALPHA][:-1]})) as server, pytest.raises(FetchError):
        fetch(wanted(ALPHA, f"{server.url}/files/{ALPHA}"), blobs=blobs)

    assert [] == list(blobs.digests())


def test_the_mechanism_serves_the_port(tmp_path: Path) -> None:
    with serve(Index(WHEELS)) as server:
        locks = Locks(
            store=MemoryObjectStore(),
            blobs=MemoryBlobStore(),
            http=Http(user_agent="test"),
            cache_dir=tmp_path,
            index_urls=(f"{server.url}/simple",),
        )
        locks.fetch([wanted(ALPHA)], progress=SilentProgress())

    assert locks.blobs.has(Digest.sha256(wanted(ALPHA).sha256.hex))


@pytest.fixture
def uv_index(tmp_path: Path, monkeypatch):
    """Lets uv think that a loopback server is the index."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with serve(Index(WHEELS)) as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{server.url}/simple")
        yield server


def test_a_replay_finds_wheels_on_the_index_of_uv(uv_index, tmp_path: Path) -> None:
    """A manifest keeps hashes, not places."""
    blobs = MemoryBlobStore()
    locks = Locks(
        store=MemoryObjectStore(),
        blobs=blobs,
        http=Http(user_agent="test"),
        cache_dir=tmp_path / "cache",
    )
    locks.fetch([wanted(ALPHA)], progress=SilentProgress())
    assert blobs.has(wanted(ALPHA).sha256)

    other = artifact(BETA, b"bytes that the index does not have")
    with pytest.raises(FetchError) as caught:
        locks.fetch([other], progress=SilentProgress())
    assert (f"{BETA}: the index of uv: has no {BETA} with that hash",) == caught.value.details


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "3.11"),
        ("a-1.0-cp39-abi3-musllinux_1_2_aarch64.whl", "3.9"),
        ("a-1.0-1-py312-none-any.whl", "3.12"),
    ],
)
def test_the_index_is_asked_for_the_wheels_own_python(filename, expected) -> None:
    found = _INTERPRETER.search(filename)

    assert expected == f"{found[1]}.{found[2]}"
    assert _INTERPRETER.search("a-1.0-py3-none-any.whl") is None


SECRET = f"Basic {base64.b64encode(b'me:p@ss word').decode()}"


@pytest.mark.parametrize("source", ["netrc", "named index", "UV_INDEX", "URL"])
def test_a_private_index_is_shown_the_login_that_the_user_has_for_it(tmp_path, source) -> None:
    with serve(Index(WHEELS, login=SECRET)) as server:
        host, _ = server.host.split(":")
        url = f"{server.url}/files/{ALPHA}"
        rc = tmp_path / ".netrc"
        environ, index = {}, f"{server.url}/simple/"
        if source == "netrc":
            rc.write_text(f'machine {host} login me password "p@ss word"\n')
        elif source == "URL":
            url = url.replace("//", "//me:p%40ss%20word@")
        else:
            environ = {"UV_INDEX_MY_LAB_USERNAME": "me", "UV_INDEX_MY_LAB_PASSWORD": "p@ss word"}
        if source == "UV_INDEX":
            environ["UV_INDEX"] = f"https://elsewhere.example/x my-lab={index}"
        logins = Logins(environ=environ, netrc_file=rc)
        if source == "named index":
            toml = f'[[tool.uv.index]]\nname = "my-lab"\nurl = "{index}"\n'
            tree = FilesTree(MemoryObjectStore(), {"pyproject.toml": toml})
            logins.learn(named_indexes(tree, "sub"))
        blobs = fetch(wanted(ALPHA, url), logins=logins)

    assert blobs.has(wanted(ALPHA).sha256)
    assert "p@ss" not in repr(logins.of(url))


def test_a_login_is_for_its_host_only(tmp_path) -> None:
    rc = tmp_path / ".netrc"
    rc.write_text("machine other.example login me password secret\n")
    with serve(Index(WHEELS)) as server:
        fetch(wanted(ALPHA, f"{server.url}/files/{ALPHA}"), logins=Logins(netrc_file=rc))

    assert all("authorization" not in request.headers for request in server.requests)


def test_a_broken_netrc_is_named_and_not_shown(tmp_path) -> None:
    rc = tmp_path / ".netrc"
    rc.write_text("machine a.example login me pass secret-word\n")

    with pytest.raises(FetchError) as caught:
        fetch(wanted(ALPHA, "http://127.0.0.1:9/a.whl"), logins=Logins(netrc_file=rc))
    said = " ".join(caught.value.details)
    assert f"{rc} cannot be read" in said
    assert "secret-word" not in said


def test_without_a_netrc_nobody_is_asking(tmp_path) -> None:
    assert Logins(netrc_file=tmp_path / "none").of("https://a.example/x") is None
    assert Logins().of("https://a.example/x") is None


def test_a_file_elsewhere_on_this_machine_is_taken_by_its_hash(tmp_path) -> None:
    folder = tmp_path / "shared wheels"
    folder.mkdir()
    (folder / ALPHA).write_bytes(WHEELS[ALPHA])
    (folder / BETA).write_bytes(b"something else")
    blobs = fetch(wanted(ALPHA, (folder / ALPHA).as_uri()))

    assert WHEELS[ALPHA] == blobs.get(wanted(ALPHA).sha256)
    with pytest.raises(FetchError, match="beta") as caught:
        fetch(wanted(BETA, (folder / BETA).as_uri()))
    assert f"{folder / BETA}: expected sha256:" in caught.value.details[0]
    with pytest.raises(FetchError) as caught:
        fetch(wanted(ALPHA, "file:///nowhere/alpha.whl"))
    assert "/nowhere/alpha.whl" in caught.value.details[0]
