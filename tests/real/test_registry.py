"""Images go to real registries and come back, to the byte."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3

from tests.support.certificates import Certificates, make_certificates
from tests.support.loopback import Reply, Request, serve
from tests.support.registries import (
    HandMade,
    Once,
    before,
    client,
    index_of,
    is_upload,
    make_image,
    run_registry,
)
from tests.testbed.processes import program
from xmslurm_repro.errors import (
    BaseUnreachableError,
    DigestMismatchError,
    ImageError,
    RegistryError,
)
from xmslurm_repro.image.credentials import (
    Credential,
    FileCredentials,
    NoCredentials,
    as_config_json,
)
from xmslurm_repro.image.registry import PushReport, RegistryClient
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import MEDIA_TYPE_INDEX, Descriptor
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.memory_blobs import MemoryBlobStore
from xmslurm_repro.transport.http import Http


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[str]:
    with run_registry(tmp_path_factory.mktemp("plain")) as host:
        yield host


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, certificates) -> Iterator[str]:
    """With TLS by a CA of its own, and a login."""
    root = tmp_path_factory.mktemp("guarded")
    with run_registry(root, certificates=certificates, has_login=True) as host:
        yield host


@pytest.fixture
def repository(registry, request) -> str:
    return f"{registry}/{request.node.name.lower().partition('[')[0]}"


@pytest.fixture
def blobs() -> MemoryBlobStore:
    return MemoryBlobStore()


def raw(url: str, method: str = "GET", **options) -> urllib3.BaseHTTPResponse:
    return urllib3.request(method, url, retries=False, **options)


class Damaged(MemoryBlobStore):
    """A store with one blob whose bytes are not its name's."""

    def __init__(self, whole: MemoryBlobStore, digest: Digest) -> None:
        super().__init__()
        for each in whole.digests():
            self.put(whole.get(each))
        self._blobs[digest] = self._blobs[digest][:-1] + b"?"


def test_an_image_comes_back_as_it_went(repository, blobs, tmp_path: Path) -> None:
    image = make_image(blobs, "one", "two")
    report = client().push(image.manifest, blobs, repository)
    back = DiskBlobStore(tmp_path)
    got = client().pull(f"{repository}@{image.manifest.digest}", back)

    assert image.manifest == got
    assert (3, 0, 0) == (report.uploaded, report.mounted, report.present)
    assert list(blobs.digests()) == list(back.digests())
    for digest in blobs.digests():
        assert blobs.get(digest) == back.get(digest)


def test_the_registry_keeps_the_image_manifest_to_the_byte(repository, blobs) -> None:
    image = make_image(blobs, "bytes")
    client().push(image.manifest, blobs, repository)

    host, _, name = repository.partition("/")
    answer = raw(
        f"http://{host}/v2/{name}/manifests/{image.manifest.digest}",
        headers={"Accept": image.manifest.media_type},
    )
    assert blobs.get(image.manifest.digest) == answer.data


def test_an_image_is_tagged_so_that_nothing_collects_it(repository, blobs) -> None:
    image = make_image(blobs, "tags")
    client().push(image.manifest, blobs, repository, tag="v1")

    host, _, name = repository.partition("/")
    tags = json.loads(raw(f"http://{host}/v2/{name}/tags/list").data)["tags"]
    assert ["v1", f"xms-{image.config.hex[:32]}"] == sorted(tags)
    assert image.manifest == client().resolve(f"{repository}:v1")


def test_pushing_twice_moves_nothing(repository, blobs) -> None:
    image = make_image(blobs, "again")
    client().push(image.manifest, blobs, repository)

    nothing = PushReport(moved_bytes=0, uploaded=0, mounted=0, present=2)
    host, _, name = repository.partition("/")
    with before(host, lambda request, reply: None) as proxy:
        assert nothing == client().push(image.manifest, blobs, f"{proxy.host}/{name}")
    tag = f"/v2/{name}/manifests/xms-{image.config.hex[:32]}"
    assert [("HEAD", tag)] == [(request.method, request.path) for request in proxy.requests]


def test_only_what_is_new_is_moved(repository, blobs) -> None:
    client().push(make_image(blobs, "base", "old code").manifest, blobs, repository)
    second = make_image(blobs, "base", "new code")
    report = client().push(second.manifest, blobs, repository)

    assert (2, 0, 1) == (report.uploaded, report.mounted, report.present)
    new = (second.config, second.layers[1])
    assert sum(blobs.size_bytes(digest) for digest in new) == report.moved_bytes


@pytest.mark.parametrize("has_host", [True, False])
def test_blobs_are_mounted_from_another_repository(repository, blobs, has_host) -> None:
    base = make_image(blobs, f"base {has_host}")
    client().push(base.manifest, blobs, f"{repository}/base")
    image = make_image(blobs, f"base {has_host}", f"code {has_host}")
    source = f"{repository}/base:latest" if has_host else f"{repository.partition('/')[2]}/base"
    report = client().push(
        image.manifest,
        blobs,
        f"{repository}/mine-{str(has_host).lower()}",
        mount_from=["elsewhere.example/x", source, "not a name"],
    )

    assert (2, 1, 0) == (report.uploaded, report.mounted, report.present)


def test_a_mount_that_is_not_possible_becomes_an_upload(repository, blobs) -> None:
    image = make_image(blobs, "nowhere")
    report = client().push(image.manifest, blobs, repository, mount_from=["no/such-repository"])

    assert (2, 0) == (report.uploaded, report.mounted)


def test_skopeo_reads_what_we_pushed(repository, blobs, tmp_path: Path) -> None:
    image = make_image(blobs, "for skopeo", "second layer")
    client().push(image.manifest, blobs, repository)
    name = f"docker://{repository}@{image.manifest.digest}"

    seen = json.loads(skopeo("inspect", "--tls-verify=false", name))
    assert [str(layer) for layer in image.layers] == seen["Layers"]
    target = tmp_path / "copy"
    skopeo("copy", "--src-tls-verify=false", "--preserve-digests", name, f"dir:{target}")
    assert blobs.get(image.manifest.digest) == (target / "manifest.json").read_bytes()
    assert blobs.get(image.layers[0]) == (target / image.layers[0].hex).read_bytes()


def test_we_read_what_skopeo_pushed(repository, blobs, tmp_path: Path) -> None:
    layout = DiskBlobStore(tmp_path / "layout")
    image = make_image(layout, "from skopeo")
    layout.set_ref("image", image.manifest)
    target = f"docker://{repository}:v2"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}:image", target)

    got = client().pull(f"{repository}:v2", blobs)
    assert image.config in blobs.digests()
    assert blobs.get(got.digest)


def skopeo(*words: str) -> bytes:
    done = subprocess.run(
        [program("skopeo"), "--insecure-policy", *words], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def push_index(host: str, name: str, data: bytes, tag: str) -> None:
    answer = raw(
        f"http://{host}/v2/{name}/manifests/{tag}",
        "PUT",
        body=data,
        headers={"Content-Type": MEDIA_TYPE_INDEX},
    )
    assert answer.status == 201, answer.data


def test_an_index_gives_the_image_for_the_architecture(registry, blobs) -> None:
    name = "several/platforms"
    images = {arch: make_image(blobs, arch, architecture=arch) for arch in ("amd64", "arm64")}
    for image in images.values():
        client().push(image.manifest, blobs, f"{registry}/{name}")
    data = index_of(
        (images["arm64"].manifest, {"os": "linux", "architecture": "arm64", "variant": "v8"}),
        (images["amd64"].manifest, {"os": "linux", "architecture": "amd64"}),
        (images["arm64"].manifest, {"os": "unknown", "architecture": "unknown"}),
    )
    push_index(registry, name, data, "all")

    assert MEDIA_TYPE_INDEX == client().resolve(f"{registry}/{name}:all").media_type
    for arch, image in images.items():
        got = client().pull(f"{registry}/{name}:all", MemoryBlobStore(), architecture=arch)
        assert image.manifest == got
    with pytest.raises(BaseUnreachableError) as caught:
        client().pull(f"{registry}/{name}:all", MemoryBlobStore(), architecture="s390x")
    assert ("there are: linux/amd64, linux/arm64",) == caught.value.details


def test_an_image_for_another_architecture_is_refused(repository, blobs) -> None:
    image = make_image(blobs, "arm", architecture="arm64")
    client().push(image.manifest, blobs, repository)

    with pytest.raises(ImageError, match="is for arm64, not for amd64"):
        client().pull(f"{repository}@{image.manifest.digest}", MemoryBlobStore())


def test_what_is_not_there_is_named_with_the_registrys_own_words(repository, blobs) -> None:
    with pytest.raises(BaseUnreachableError) as caught:
        client().resolve(f"{repository}:gone")

    assert f"cannot read {repository}:gone: MANIFEST_UNKNOWN" in caught.value.message
    assert "status: 404" in caught.value.details


def test_a_registry_that_is_not_there_is_named(blobs) -> None:
    with pytest.raises(BaseUnreachableError) as caught:
        client(attempts=1).pull("127.0.0.1:22099/x", blobs)

    assert "cannot reach the registry 127.0.0.1:22099" in caught.value.message
    assert caught.value.hint


def test_a_damaged_blob_of_ours_is_found_out(repository, blobs) -> None:
    image = make_image(blobs, "whole")

    with pytest.raises(DigestMismatchError) as caught:
        client().push(image.manifest, Damaged(blobs, image.layers[0]), repository)
    assert str(image.layers[0]) == caught.value.want
    with pytest.raises(BaseUnreachableError):
        client().resolve(f"{repository}@{image.manifest.digest}")


def test_pulls_and_pushes_may_overlap(registry, blobs) -> None:
    images = [make_image(blobs, "shared", f"own {number}") for number in range(8)]
    one = client()
    with ThreadPoolExecutor(8) as workers:
        jobs = [
            workers.submit(one.push, image.manifest, blobs, f"{registry}/overlap")
            for image in images
        ]
        reports = [job.result() for job in jobs]
        back = MemoryBlobStore()
        names = [f"{registry}/overlap@{image.manifest.digest}" for image in images]
        got = list(workers.map(lambda name: one.pull(name, back), names))

    assert [image.manifest for image in images] == got
    assert all(report.uploaded + report.present == 3 for report in reports)


# Logins and certificates.


def login(tmp_path: Path, host: str, password: str = "s3cret") -> FileCredentials:
    path = tmp_path / "auth.json"
    path.write_bytes(as_config_json({host: Credential(username="alice", password=password)}))
    return FileCredentials([tmp_path / "none.json", path])


def test_a_registry_with_login_and_tls_takes_an_image(
    guarded, certificates, blobs, tmp_path: Path
) -> None:
    image = make_image(blobs, "guarded")
    one = client(login(tmp_path, guarded), ca_file=str(certificates.ca))
    report = one.push(image.manifest, blobs, f"{guarded}/team/images")

    assert 2 == report.uploaded
    assert image.manifest == one.pull(
        f"{guarded}/team/images@{image.manifest.digest}", MemoryBlobStore()
    )


@pytest.mark.parametrize("password", ["wr0ng", None])
def test_without_the_right_login_nothing_is_taken(
    guarded, certificates, blobs, tmp_path: Path, password
) -> None:
    image = make_image(blobs, "refused")
    known = login(tmp_path, guarded, password) if password else None
    with pytest.raises(RegistryError) as caught:
        client(known, ca_file=str(certificates.ca)).push(image.manifest, blobs, f"{guarded}/x")

    assert "it wants a login, or refused ours" in caught.value.message
    assert ("status: 401",) == caught.value.details
    assert "login" in caught.value.hint
    assert "wr0ng" not in f"{caught.value} {caught.value.details}"


def test_a_certificate_that_is_not_trusted_ends_it_even_on_loopback(guarded, blobs) -> None:
    with pytest.raises(BaseUnreachableError) as caught:
        client(attempts=1).pull(f"{guarded}/x", blobs)

    assert "not trusted" in caught.value.message
    assert "CA file" in caught.value.hint


def test_skopeo_reads_from_a_guarded_registry_by_our_login_file(
    guarded, certificates, blobs, tmp_path: Path
) -> None:
    image = make_image(blobs, "both")
    source = login(tmp_path, guarded)
    client(source, ca_file=str(certificates.ca)).push(image.manifest, blobs, f"{guarded}/both")
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(certificates.ca.read_bytes())

    name = f"docker://{guarded}/both@{image.manifest.digest}"
    words = ["inspect", "--cert-dir", str(folder), "--authfile", str(tmp_path / "auth.json"), name]
    assert [str(image.layers[0])] == json.loads(skopeo(*words))["Layers"]


@pytest.fixture
def far_host(registry, monkeypatch) -> str:
    """The plain registry under a name that is not loopback's."""
    real = socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        return real("127.0.0.1" if host == "far.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return registry.replace("127.0.0.1", "far.example")


def test_a_host_elsewhere_is_never_asked_without_tls(far_host, blobs) -> None:
    image = make_image(blobs, "plain")
    with pytest.raises(RegistryError) as caught:
        client(attempts=1).push(image.manifest, blobs, f"{far_host}/plain")

    assert "no trusted TLS connection" in caught.value.message
    assert "insecure registries" in caught.value.hint


@pytest.mark.parametrize("has_port", [True, False])
def test_a_host_elsewhere_may_be_declared_insecure(far_host, blobs, has_port) -> None:
    image = make_image(blobs, f"declared {has_port}")
    named = far_host if has_port else "Far.Example"
    door = Http(user_agent="test")
    one = RegistryClient(door, NoCredentials(), insecure_hosts=[named])
    one.push(image.manifest, blobs, f"{far_host}/declared")

    assert image.manifest == one.resolve(f"{far_host}/declared@{image.manifest.digest}")


def test_uploads_may_go_elsewhere_without_our_login(tmp_path: Path, blobs) -> None:
    """Some registries send uploads and downloads to a signed place in an object store."""
    image = make_image(blobs, "elsewhere")
    secret = Credential(username="alice", password="s3cret").basic()
    with serve(lambda _: Reply(status=201)) as bucket:

        def answer(request: Request) -> Reply:
            if request.headers.get("authorization") != secret:
                return Reply(status=401, headers={"WWW-Authenticate": "Basic"})
            if request.method == "POST":
                place = f"{bucket.url}/{len(request.path)}?signature=abc"
                return Reply(status=202, headers={"Location": place})
            return Reply(status=404 if request.method == "HEAD" else 201)

        with serve(answer) as server:
            one = client(login(tmp_path, server.host))
            report = one.push(image.manifest, blobs, f"{server.host}/x")

    assert 2 == report.uploaded
    assert all("authorization" not in request.headers for request in bucket.requests)
    sent = {request.body for request in bucket.requests}
    assert {blobs.get(image.config), blobs.get(image.layers[0])} == sent
    assert all("&digest=sha256%3A" in request.path for request in bucket.requests)


def test_progress_counts_every_byte_once(registry, blobs) -> None:
    image = make_image(blobs, "y" * 700_000, "z" * 10)
    push, pull = Watch(), Watch()
    with before(registry, Once(is_upload, Reply(status=503))) as proxy:
        client().push(image.manifest, blobs, f"{proxy.host}/progress", progress=push)
    client().pull(f"{registry}/progress@{image.manifest.digest}", MemoryBlobStore(), progress=pull)

    total = sum(blobs.size_bytes(digest) for digest in (image.config, *image.layers))
    assert (total, total, 1) == (pull.total, pull.done, pull.finished)
    assert (total, total, 1) == (push.total, push.done, push.finished)


class Watch:
    def __init__(self) -> None:
        self.total: int | None = None
        self.done = self.finished = 0

    def start(self, label: str, *, total: int | None = None, unit: str = "bytes") -> Watch:
        del label, unit
        self.total = total
        return self

    def advance(self, amount: int) -> None:
        self.done += amount

    def finish(self) -> None:
        self.finished += 1


def test_hand_made_images_are_what_they_say(blobs) -> None:
    image: HandMade = make_image(blobs, "a")

    assert isinstance(image.manifest, Descriptor)
    assert image.manifest.size_bytes == len(blobs.get(image.manifest.digest))
