"""Real registries on loopback, and images made by hand to put into them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import urllib3

from tests.support.certificates import Certificates
from tests.support.loopback import Loopback, Reply, Request, serve
from tests.testbed.ports import accepts, is_free
from tests.testbed.processes import Servers, program, search_path, wait_until
from xmslurm_repro.image.credentials import NoCredentials
from xmslurm_repro.image.registry import RegistryClient
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
)
from xmslurm_repro.ports.store import BlobStore
from xmslurm_repro.transport.http import Http

PORTS = range(22000, 22100)
LAYER = "application/vnd.oci.image.layer.v1.tar"

# `htpasswd -Bbn alice s3cret`: registries take bcrypt only.
HTPASSWD = "alice:$2y$05$l7SHOlzJhoyzLoQQSmzwUelhjoU3f7SxmRMtUjNWiVGs8DsHdhhLi\n"


@contextlib.contextmanager
def run_registry(
    root: Path, *, certificates: Certificates | None = None, has_login: bool = False
) -> Iterator[str]:
    """A `docker-registry` of its own; gives ``127.0.0.1:PORT``."""
    port = next(port for port in PORTS if is_free(port))
    config = f"""\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}
http:
  addr: 127.0.0.1:{port}
"""
    if certificates:
        config += f"  tls: {{certificate: {certificates.certificate}, key: {certificates.key}}}\n"
    if has_login:
        (root / "htpasswd").write_text(HTPASSWD)
        config += f"auth: {{htpasswd: {{realm: tests, path: {root}/htpasswd}}}}\n"
    (root / "config.yml").write_text(config)
    servers = Servers(root)
    words = [program("docker-registry"), "serve", os.fspath(root / "config.yml")]
    servers.start("registry", words, {"PATH": search_path()})
    try:
        wait_until(lambda: accepts(port), "the registry listens", log=servers.log("registry"))
        yield f"127.0.0.1:{port}"
    finally:
        servers.stop_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class HandMade:
    """An image in a blob store."""

    manifest: Descriptor
    config: Digest
    layers: tuple[Digest, ...]


def make_image(
    blobs: BlobStore,
    *texts: str,
    architecture: str = "amd64",
    media_type: str = MEDIA_TYPE_MANIFEST,
) -> HandMade:
    """An OCI image with one layer for each text, which is a file of that content."""
    layers = [_layer(number, text) for number, text in enumerate(texts)]
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/file0"]},
            "rootfs": {"type": "layers", "diff_ids": [_name(layer) for layer in layers]},
        }
    ).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _entry(MEDIA_TYPE_CONFIG, config),
        "layers": [_entry(LAYER, layer) for layer in layers],
    }
    data = json.dumps(document, indent=3).encode()  # bytes that no tool would write the same way
    return HandMade(
        manifest=Descriptor(media_type=media_type, digest=blobs.put(data), size_bytes=len(data)),
        config=blobs.put(config),
        layers=tuple(blobs.put(layer) for layer in layers),
    )


def index_of(*entries: tuple[Descriptor, dict[str, str]]) -> bytes:
    """An index of images, each for a platform."""
    manifests = [{**one.to_json(), "platform": platform} for one, platform in entries]
    document = {"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": manifests}
    return json.dumps(document).encode()


def _layer(number: int, text: str) -> bytes:
    held = BytesIO()
    with tarfile.TarFile.open(fileobj=held, mode="w") as archive:
        entry = tarfile.TarInfo(f"file{number}")
        entry.size = len(text.encode())
        archive.addfile(entry, BytesIO(text.encode()))
    return held.getvalue()


def _name(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _entry(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _name(data), "size": len(data)}


def client(credentials=None, **options) -> RegistryClient:
    door = Http(**{"user_agent": "test", "backoff_seconds": 0.01, **options})
    return RegistryClient(door, credentials or NoCredentials())


class Before:
    """Passes requests on to a registry; *meddle* may answer some itself, or change an answer."""

    def __init__(self, host: str, meddle) -> None:
        self.host, self.meddle = host, meddle
        self.pool = urllib3.PoolManager(maxsize=16)

    def __call__(self, request: Request) -> Reply:
        own = self.meddle(request, None)
        if own is not None:
            return own
        headers = {k: v for k, v in request.headers.items() if k not in {"host", "connection"}}
        answer = self.pool.request(
            request.method,
            f"http://{self.host}{request.path}",
            headers={**headers, "Host": self.host},
            body=request.body,
            retries=False,
            redirect=False,
        )
        kept = {k: v for k, v in answer.headers.items() if k.lower() != "connection"}
        if "Location" in kept:
            kept["Location"] = kept["Location"].replace(f"http://{self.host}", "")
        reply = Reply(status=answer.status, headers=kept, body=answer.data)
        return self.meddle(request, reply) or reply


def before(host: str, meddle) -> contextlib.AbstractContextManager[Loopback]:
    return serve(Before(host, meddle))


def paths(server: Loopback, method: str) -> list[str]:
    return [request.path for request in server.requests if request.method == method]


class Once:
    """Meddles with the first request that *fits*, then never again."""

    def __init__(self, fits, reply) -> None:
        self.fits, self.reply, self.done = fits, reply, False

    def __call__(self, request: Request, reply: Reply | None) -> Reply | None:
        if self.done or reply is not None or not self.fits(request):
            return None
        self.done = True
        return self.reply


def is_upload(request: Request) -> bool:
    return request.method == "PUT" and "/blobs/uploads/" in request.path
