"""Registries: credentials as Docker and Podman keep them; never shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from xmslurm_repro.errors import ConfigError, FormatError
from xmslurm_repro.image.credentials import (
    Credential,
    FileCredentials,
    NoCredentials,
    as_config_json,
)


def encoded(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


@pytest.fixture
def config(tmp_path: Path):
    def write(document, name: str = "config.json") -> Path:
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


@pytest.fixture
def helper(tmp_path: Path):
    """Installs credential helpers; each writes down what it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(name: str, script: str) -> str:
        path = folder / f"docker-credential-{name}"
        path.write_text(f'#!/bin/sh\nread server\necho "$1 $server" >> {folder}/asked\n{script}\n')
        path.chmod(0o755)
        return f"{folder}:/usr/bin:/bin"

    install.asked = lambda: (folder / "asked").read_text().splitlines()
    return install


ANSWER = """echo '{"ServerURL": "x", "Username": "alice", "Secret": "s3cret"}'"""


def test_a_login_is_found_by_host(config) -> None:
    path = config({"auths": {"registry.example": {"auth": encoded("alice:s3:cret")}}})

    found = FileCredentials([path]).credential("registry.example", "a/b")
    assert Credential(username="alice", password="s3:cret") == found
    assert f"Basic {encoded('alice:s3:cret')}" == found.basic()


@pytest.mark.parametrize(
    "key",
    ["registry.example:5000", "https://registry.example:5000", "https://registry.example:5000/v2/"],
)
def test_old_files_write_hosts_as_urls(config, key) -> None:
    path = config({"auths": {key: {"username": "alice", "password": "s3cret"}}})

    found = FileCredentials([path]).credential("registry.example:5000", "a")
    assert Credential(username="alice", password="s3cret") == found


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_docker_hub_goes_by_several_names(config, key) -> None:
    path = config({"auths": {key: {"auth": encoded("alice:s3cret")}}})

    assert "alice" == FileCredentials([path]).credential("docker.io", "library/x").username


def test_podman_may_keep_a_login_for_a_part_of_a_registry(config) -> None:
    path = config(
        {
            "auths": {
                "registry.example": {"auth": encoded("host:1")},
                "registry.example/team": {"auth": encoded("team:2")},
                "registry.example/team/images": {"auth": encoded("images:3")},
            }
        }
    )
    source = FileCredentials([path])

    names = ["team/images", "team/images/deep", "team/other", "teamwork/x", "x"]
    expected = ["images", "images", "team", "host", "host"]
    assert expected == [source.credential("registry.example", n).username for n in names]


def test_the_first_file_that_knows_wins(config, tmp_path: Path) -> None:
    first = config({"auths": {"a.example": {"auth": encoded("first:1")}}}, "one.json")
    second = config(
        {
            "auths": {
                "a.example": {"auth": encoded("x:1")},
                "b.example": {"auth": encoded("second:1")},
            }
        },
        "two.json",
    )
    source = FileCredentials([tmp_path / "gone.json", first, second])

    assert "first" == source.credential("a.example", "x").username
    assert "second" == source.credential("b.example", "x").username
    assert source.credential("c.example", "x") is None


@pytest.mark.parametrize("document", ["", "{}", {"auths": {}}, {"auths": {"a.example": {}}}])
def test_an_empty_file_knows_nothing(config, document) -> None:
    assert FileCredentials([config(document)]).credential("a.example", "x") is None


def test_nobody_knows_nothing() -> None:
    assert NoCredentials().credential("a.example", "x") is None


def test_a_token_takes_the_place_of_a_password(config) -> None:
    path = config({"auths": {"a.example": {"auth": encoded("u:"), "identitytoken": "t0ken"}}})

    assert "t0ken" == FileCredentials([path]).credential("a.example", "x").identity_token


def test_a_helper_for_one_host_is_asked(config, helper) -> None:
    search = helper("vault", ANSWER)
    path = config({"credHelpers": {"a.example": "vault"}, "auths": {"a.example": {}}})
    source = FileCredentials([path], helper_path=search)

    assert Credential(username="alice", password="s3cret") == source.credential("a.example", "x")
    assert source.credential("b.example", "x") is None
    assert ["get a.example"] == helper.asked()


def test_a_helper_for_all_hosts_is_asked_last(config, helper) -> None:
    search = helper("store", ANSWER)
    path = config({"credsStore": "store", "auths": {"b.example": {"auth": encoded("bob:1")}}})
    source = FileCredentials([path], helper_path=search)

    assert "bob" == source.credential("b.example", "x").username
    assert "alice" == source.credential("a.example", "x").username
    assert "alice" == source.credential("docker.io", "library/x").username
    assert ["get a.example", "get https://index.docker.io/v1/"] == helper.asked()


def test_a_helper_may_give_a_token(config, helper) -> None:
    search = helper("vault", """echo '{"Username": "<token>", "Secret": "t0ken"}'""")
    path = config({"credsStore": "vault"})

    found = FileCredentials([path], helper_path=search).credential("a.example", "x")
    assert Credential(username="", identity_token="t0ken") == found


def test_a_helper_that_knows_nothing_is_no_error(config, helper) -> None:
    search = helper("vault", "echo 'credentials not found in native keychain'; exit 1")
    path = config({"credsStore": "vault"})

    assert FileCredentials([path], helper_path=search).credential("a.example", "x") is None


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo 's3cret is broken'; exit 3", "exit 3"), (None, "no such program")],
)
def test_a_helper_that_fails_is_named_and_not_quoted(config, helper, script, reason) -> None:
    search = helper("vault" if script else "other", script or "")
    path = config({"credsStore": "vault"})

    with pytest.raises(ConfigError) as caught:
        FileCredentials([path], helper_path=search).credential("a.example", "x")
    assert f"docker-credential-vault, which failed: {reason}" in caught.value.message
    assert "s3cret" not in caught.value.message


def test_a_helper_that_talks_nonsense_is_not_quoted(config, helper) -> None:
    search = helper("vault", """echo '{"Username": "alice", "Secret": ["s3cret"]}'""")
    path = config({"credsStore": "vault"})

    with pytest.raises(ConfigError) as caught:
        FileCredentials([path], helper_path=search).credential("a.example", "x")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "-x", ""])
def test_a_helper_is_a_plain_name(config, name) -> None:
    path = config({"credHelpers": {"a.example": name}})

    with pytest.raises(ConfigError):
        FileCredentials([path]).credential("a.example", "x")


def test_broken_files_are_named(config) -> None:
    with pytest.raises(FormatError, match=r"config\.json"):
        FileCredentials([config("not json")]).credential("a.example", "x")
    with pytest.raises(ConfigError, match=r"a\.example\.auth is not base64"):
        FileCredentials([config({"auths": {"a.example": {"auth": "s3cret!"}}})]).credential(
            "a.example", "x"
        )
    with pytest.raises(ConfigError) as caught:
        FileCredentials([config({"auths": {"a.example": "s3cret"}})]).credential("a.example", "x")
    assert "s3cret" not in caught.value.message


def test_secrets_are_not_in_what_is_printed() -> None:
    shown = repr(Credential(username="alice", password="s3cret", identity_token="t0ken"))

    assert "alice" in shown
    assert "s3cret" not in shown
    assert "t0ken" not in shown


def test_what_is_written_for_other_tools_is_read_again(config) -> None:
    one = Credential(username="alice", password="s3cret")
    path = config(as_config_json({"a.example": one}).decode())

    assert one == FileCredentials([path]).credential("a.example", "x")
