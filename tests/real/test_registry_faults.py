"""A registry behind a proxy that misbehaves: what is moved is whole, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.loopback import Reply, Request
from tests.support.registries import (
    Once,
    before,
    client,
    is_upload,
    make_image,
    paths,
    run_registry,
)
from xmslurm_repro.errors import (
    BaseUnreachableError,
    RegistryError,
)
from xmslurm_repro.store.memory_blobs import MemoryBlobStore


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[str]:
    with run_registry(tmp_path_factory.mktemp("plain")) as host:
        yield host


@pytest.fixture
def blobs() -> MemoryBlobStore:
    return MemoryBlobStore()


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=503),
        Reply(status=429, headers={"Retry-After": "0"}),
        Reply(status=404, body=b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}'),
        Reply(status=201, body=b"broken off", cut_after=0),
    ],
    ids=["down", "busy", "forgotten", "broken"],
)
def test_an_upload_that_fails_is_begun_anew(registry, blobs, reply) -> None:
    image = make_image(blobs, f"upload {reply.status} {reply.cut_after}")
    with before(registry, Once(is_upload, reply)) as proxy:
        report = client().push(image.manifest, blobs, f"{proxy.host}/anew")

    assert 2 == report.uploaded
    uploads = [path.partition("?")[0] for path in paths(proxy, "PUT") if "/uploads/" in path]
    assert len(uploads) == len(set(uploads)) == 3
    assert image.manifest == client().pull(
        f"{registry}/anew@{image.manifest.digest}", MemoryBlobStore()
    )


def test_an_upload_that_always_fails_is_given_up(registry, blobs) -> None:
    image = make_image(blobs, "never")
    refusal = Reply(status=500, body=b'{"errors": [{"code": "UNKNOWN", "message": "disk full"}]}')
    with (
        before(registry, lambda q, r: refusal if r is None and is_upload(q) else None) as proxy,
        pytest.raises(RegistryError) as caught,
    ):
        client().push(image.manifest, blobs, f"{proxy.host}/never")

    assert "UNKNOWN: disk full" in caught.value.message
    with pytest.raises(BaseUnreachableError):
        client().resolve(f"{registry}/never@{image.manifest.digest}")


def test_a_busy_registry_is_asked_again(registry, blobs) -> None:
    image = make_image(blobs, "busy")
    tries: dict[str, int] = {}

    def meddle(request: Request, reply: Reply | None) -> Reply | None:
        if reply is not None or (request.method == "PUT" and is_upload(request)):
            return None
        key = f"{request.method} {request.path}"
        tries[key] = tries.get(key, 0) + 1
        return Reply(status=503) if tries[key] == 1 else None

    with before(registry, meddle) as proxy:
        client().push(image.manifest, blobs, f"{proxy.host}/busy")
        got = client().pull(f"{proxy.host}/busy@{image.manifest.digest}", MemoryBlobStore())

    assert image.manifest == got


def test_a_layer_that_breaks_off_is_resumed(registry, blobs) -> None:
    image = make_image(blobs, "x" * 3_000_000)
    client().push(image.manifest, blobs, f"{registry}/resume")
    cut = []

    def meddle(request: Request, reply: Reply | None) -> Reply | None:
        if reply is None or str(image.layers[0]) not in request.path or len(cut) == 2:
            return None
        cut.append(request.headers.get("range"))
        return replace(reply, cut_after=1_000_000)

    with before(registry, meddle) as proxy:
        back = MemoryBlobStore()
        client().pull(f"{proxy.host}/resume@{image.manifest.digest}", back)

    assert [None, "bytes=1000000-"] == cut
    assert blobs.get(image.layers[0]) == back.get(image.layers[0])


def test_a_layer_with_other_bytes_is_refused(registry, blobs) -> None:
    image = make_image(blobs, "genuine")
    client().push(image.manifest, blobs, f"{registry}/forged")

    def meddle(request: Request, reply: Reply | None) -> Reply | None:
        if reply is None or str(image.layers[0]) not in request.path:
            return None
        return replace(reply, body=reply.body.replace(b"genuine", b"forged!"))

    back = MemoryBlobStore()
    with before(registry, meddle) as proxy, pytest.raises(BaseUnreachableError) as caught:
        client().pull(f"{proxy.host}/forged@{image.manifest.digest}", back)

    assert f"expected {image.layers[0]}" in caught.value.message
    assert not back.has(image.layers[0])
    assert not back.has(image.manifest.digest)


def test_an_image_manifest_with_other_bytes_is_refused(registry, blobs) -> None:
    image = make_image(blobs, "genuine too")
    client().push(image.manifest, blobs, f"{registry}/forged-manifest", tag="v1")

    def meddle(request: Request, reply: Reply | None) -> Reply | None:
        if reply is None or "/manifests/" not in request.path:
            return None
        return replace(reply, body=reply.body.replace(b"   ", b"\t\t\t"))

    with before(registry, meddle) as proxy, pytest.raises(BaseUnreachableError) as caught:
        client().pull(f"{proxy.host}/forged-manifest@{image.manifest.digest}", MemoryBlobStore())

    assert "served another image manifest" in caught.value.message


def test_a_registry_that_rewrites_image_manifests_is_found_out(registry, blobs) -> None:
    image = make_image(blobs, "rewritten")

    def meddle(request: Request, reply: Reply | None) -> Reply | None:
        if reply is None or request.method != "PUT" or "/manifests/" not in request.path:
            return None
        return replace(reply, headers={"Docker-Content-Digest": f"sha256:{'0' * 64}"})

    with before(registry, meddle) as proxy, pytest.raises(RegistryError) as caught:
        client().push(image.manifest, blobs, f"{proxy.host}/rewritten")

    assert "changed the image manifest" in caught.value.message


UNKNOWN = b"""{"errors": [{"code": "DIGEST_INVALID"}, {"code": "MANIFEST_BLOB_UNKNOWN"}]}"""


def is_manifest(request: Request) -> bool:
    return request.method == "PUT" and "/manifests/" in request.path


@pytest.mark.parametrize("said", [UNKNOWN, b'{"errors": [{"code": "DIGEST_INVALID"}]}'])
def test_a_registry_that_overlooks_a_blob_is_asked_again(registry, blobs, said: bytes) -> None:
    """As docker-registry does while somebody else uploads the same blob."""
    image = make_image(blobs, "overlooked")
    with before(registry, Once(is_manifest, Reply(status=400, body=said))) as proxy:
        client().push(image.manifest, blobs, f"{proxy.host}/overlooked")

    assert image.manifest == client().resolve(f"{registry}/overlooked@{image.manifest.digest}")


def test_a_registry_that_goes_on_missing_a_blob_is_believed(registry, blobs) -> None:
    image = make_image(blobs, "missed")
    refusal = Reply(status=400, body=UNKNOWN)
    with (
        before(registry, lambda q, r: refusal if r is None and is_manifest(q) else None) as proxy,
        pytest.raises(RegistryError) as caught,
    ):
        client().push(image.manifest, blobs, f"{proxy.host}/missed")

    assert ("status: 400", "MANIFEST_BLOB_UNKNOWN") == caught.value.details
    assert len(paths(proxy, "PUT")) < 10
