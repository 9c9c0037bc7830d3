"""Pushes to a real registry that are cut go on where they broke off, and do not begin anew."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.real.test_registry import before
from tests.support.loopback import Reply
from tests.support.registries import HandMade, make_image, run_registry
from xmslurm_repro.errors import RegistryError
from xmslurm_repro.image.credentials import NoCredentials
from xmslurm_repro.image.registry import RegistryClient
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.memory_blobs import MemoryBlobStore
from xmslurm_repro.transport.http import Http

SIZE = 24_000_000


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[str]:
    with run_registry(tmp_path_factory.mktemp("plain")) as host:
        yield host


@dataclass
class Wire:
    """What went through a proxy of bytes towards the registry."""

    host: str
    cuts: list[int] = field(default_factory=list)
    sent_bytes: int = 0
    heads: list[bytes] = field(default_factory=list)
    has_stalled: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def wire(target: str, cuts: list[int]) -> Iterator[Wire]:
    """Passes bytes on; each connection that has sent as much as the next of *cuts* is cut."""
    host, _, port = target.partition(":")
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen = Wire(host=f"127.0.0.1:{server.getsockname()[1]}", cuts=cuts)

        def accept() -> None:
            while True:
                try:
                    near = server.accept()[0]
                except OSError:
                    return
                far = socket.create_connection((host, int(port)))
                threading.Thread(target=forward, args=(near, far), daemon=True).start()
                threading.Thread(target=back, args=(far, near), daemon=True).start()

        def forward(near: socket.socket, far: socket.socket) -> None:
            count = 0
            with contextlib.suppress(OSError), near, far:
                while data := near.recv(1 << 16):
                    seen.heads += re.findall(rb"^(?:PATCH|POST|PUT|GET) \S+", data, re.MULTILINE)
                    count += len(data)
                    seen.sent_bytes += len(data)
                    if seen.cuts and count >= seen.cuts[0]:
                        seen.cuts.pop(0)
                        seen.has_stalled.set()
                        seen.may_go_on.wait(60)
                        # The registry sees an end, not a reset, as behind most proxies.
                        far.shutdown(socket.SHUT_WR)
                        near.shutdown(socket.SHUT_RDWR)
                        time.sleep(0.3)
                        break
                    far.sendall(data)

        def back(far: socket.socket, near: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := far.recv(1 << 16):
                    near.sendall(data)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def big_image(blobs, seed: str) -> HandMade:
    noise = hashlib.shake_128(seed.encode()).hexdigest(SIZE // 2)
    return make_image(blobs, noise)


def client(**options) -> RegistryClient:
    door = Http(user_agent="test", backoff_seconds=0.05)
    return RegistryClient(door, NoCredentials(), **options)


def uploads(seen: Wire, method: bytes) -> int:
    return sum(head.startswith(method) and b"/blobs/uploads/" in head for head in seen.heads)


@pytest.fixture
def buffered(registry) -> Iterator[str]:
    """The registry behind a proxy that passes on whole requests only, as nginx does."""
    with before(registry, lambda request, reply: None) as proxy:
        yield proxy.host


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch) -> None:
    monkeypatch.setattr("xmslurm_repro.image.registry_chunks.CHUNK_BYTES", 4_000_000)


def assert_there(host: str, repository: str, image: HandMade, blobs) -> None:
    back = MemoryBlobStore()
    client().pull(f"{host}/{repository}@{image.manifest.digest}", back)

    assert blobs.get(image.layers[0]) == back.get(image.layers[0])


def test_a_connection_that_is_cut_in_the_middle_of_a_large_blob_is_gone_on_with(registry, buffered):
    blobs = MemoryBlobStore()
    image = big_image(blobs, "cut twice")
    with wire(buffered, [10_000_000, 6_000_000]) as seen:
        seen.may_go_on.set()
        report = client().push(image.manifest, blobs, f"{seen.host}/cut/twice")

    assert 2 == report.uploaded
    assert 2 == uploads(seen, b"POST"), "one for each blob: no upload was begun anew"
    # What is sent twice is less than a chunk each time.
    assert SIZE <= seen.sent_bytes < SIZE + 2 * 4_100_000
    assert_there(registry, "cut/twice", image, blobs)


def test_where_the_registry_forgets_a_cut_upload_it_is_begun_anew(registry):
    blobs = MemoryBlobStore()
    image = big_image(blobs, "forgotten")
    with wire(registry, [10_000_000, 6_000_000]) as seen:
        seen.may_go_on.set()
        client().push(image.manifest, blobs, f"{seen.host}/cut/anew")

    assert_there(registry, "cut/anew", image, blobs)


PUSH = """
import sys
from pathlib import Path
from tests.real.test_registry_resume import client
from xmslurm_repro.image import registry_chunks
from xmslurm_repro.store.layout import DiskBlobStore
registry_chunks.CHUNK_BYTES = 4_000_000
folder, repository = Path(sys.argv[1]), sys.argv[2]
blobs = DiskBlobStore(folder / "oci")
client(notes_dir=folder / "notes").push(blobs.ref("image"), blobs, repository)
"""


def test_a_push_that_was_killed_is_gone_on_with_by_the_next_one(registry, buffered, tmp_path: Path):
    blobs = DiskBlobStore(tmp_path / "oci")
    image = big_image(blobs, "killed")
    blobs.set_ref("image", image.manifest)
    words = [sys.executable, "-c", PUSH, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with wire(buffered, [15_000_000]) as seen:
        first = subprocess.Popen([*words, f"{seen.host}/killed"], env=env)
        assert seen.has_stalled.wait(60)
        first.send_signal(signal.SIGKILL)
        first.wait()
        seen.may_go_on.set()
        time.sleep(0.5)
        seen.sent_bytes = 0
        subprocess.run([*words, f"{seen.host}/killed"], env=env, check=True)

    assert seen.sent_bytes < SIZE - 10_000_000
    assert [] == list((tmp_path / "notes" / "uploads").glob("*.json"))
    assert_there(registry, "killed", image, blobs)


@pytest.mark.parametrize("status", [400, 405, 413, 501])
def test_a_registry_that_takes_no_chunks_gets_large_blobs_in_one_piece(registry, status):
    blobs = MemoryBlobStore()
    image = big_image(blobs, f"whole {status}")

    def meddle(request, reply):
        return Reply(status=status) if reply is None and request.method == "PATCH" else None

    with before(registry, meddle) as proxy:
        client().push(image.manifest, blobs, f"{proxy.host}/whole")

    assert_there(registry, "whole", image, blobs)


def test_a_busy_registry_is_waited_for_in_the_middle_of_a_blob(registry):
    blobs = MemoryBlobStore()
    image = big_image(blobs, "busy")
    answers = iter([None, Reply(status=429, headers={"Retry-After": "1"}), Reply(status=503)])
    times = []

    def meddle(request, reply):
        if reply is not None or request.method != "PATCH":
            return None
        times.append(time.monotonic())
        return next(answers, None)

    with before(registry, meddle) as proxy:
        client().push(image.manifest, blobs, f"{proxy.host}/busy/middle")

    assert times[2] - times[1] >= 1
    posts = [r for r in proxy.requests if r.method == "POST"]
    assert 2 == len(posts), "no upload was begun anew"
    assert_there(registry, "busy/middle", image, blobs)


def test_a_registry_that_breaks_every_chunk_is_given_up(registry):
    blobs = MemoryBlobStore()
    image = big_image(blobs, "never")

    def meddle(request, reply):
        return Reply(cut_after=0) if reply is None and request.method == "PATCH" else None

    with before(registry, meddle) as proxy, pytest.raises(RegistryError) as caught:
        client().push(image.manifest, blobs, f"{proxy.host}/never")

    assert f"cannot write {image.layers[0]}" in caught.value.message
