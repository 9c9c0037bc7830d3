"""Registries: how images are named."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmslurm_repro.image.registry_reference import Reference
from xmslurm_repro.model.digest import Digest

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("python", "docker.io/library/python"),
        ("python:3.11", "docker.io/library/python:3.11"),
        ("nvidia/cuda:12.4.1-base", "docker.io/nvidia/cuda:12.4.1-base"),
        ("index.docker.io/python:3", "docker.io/library/python:3"),
        ("localhost/x", "localhost/x"),
        ("localhost:5000/x", "localhost:5000/x"),
        ("registry.example/a/b/c:v1", "registry.example/a/b/c:v1"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a"),
        ("[::1]:5000/a:v1", "[::1]:5000/a:v1"),
        (f"registry.example/x@sha256:{HEX}", f"registry.example/x@sha256:{HEX}"),
        (f"registry.example/x:v1@sha256:{HEX}", f"registry.example/x:v1@sha256:{HEX}"),
        ("docker://quay.example/a/b", "quay.example/a/b"),
        ("registry.example:5000/a__b/c-d.e", "registry.example:5000/a__b/c-d.e"),
    ],
)
def test_names_are_read_as_docker_reads_them(text, full) -> None:
    assert full == str(Reference.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Python",
        "registry.example/",
        "registry.example/A",
        "a:",
        "a:-x",
        "a b",
        "a//b",
        "a/../b",
        "registry.example/a@sha256:12",
        "registry.example/a@md5:" + "0" * 32,
        f"registry.example/a@blake3:{HEX}",
        "https://registry.example/a",
        "user:pw@registry.example/a",
        "registry.example/" + "a" * 256,
    ],
)
def test_what_is_no_name_is_refused(text) -> None:
    with pytest.raises(ValueError):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("a", "latest"),
        ("a:v1", "v1"),
        (f"a@sha256:{HEX}", f"sha256:{HEX}"),
        (f"a:v1@sha256:{HEX}", f"sha256:{HEX}"),
    ],
)
def test_a_digest_outranks_a_tag(text, target) -> None:
    assert target == Reference.parse(text).target


def test_docker_hub_is_asked_at_another_host() -> None:
    assert "registry-1.docker.io" == Reference.parse("python").api_host
    assert "ghcr.example" == Reference.parse("ghcr.example/a/b").api_host


COMPONENT = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-)[a-z0-9]{1,5})?", fullmatch=True)


@settings(database=None, deadline=None)
@given(
    registry=st.sampled_from(["docker.io", "localhost", "localhost:5000", "r.example", "[::1]:5"]),
    components=st.lists(COMPONENT, min_size=2, max_size=4),
    tag=st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    digest=st.none() | st.just(Digest.sha256(HEX)),
)
def test_reading_undoes_writing(registry, components, tag, digest) -> None:
    reference = Reference(
        registry=registry, repository="/".join(components), tag=tag, digest=digest
    )

    assert reference == Reference.parse(str(reference))
