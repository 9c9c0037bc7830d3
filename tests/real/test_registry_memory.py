"""After an edit, a push asks for one image and sends what that has not: not for each layer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.test_registry import before
from tests.support.registries import make_image, run_registry
from xmslurm_repro.image.credentials import NoCredentials
from xmslurm_repro.image.registry import RegistryClient
from xmslurm_repro.store.memory_blobs import MemoryBlobStore
from xmslurm_repro.transport.http import Http


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A registry and its folder."""
    root = tmp_path / "registry"
    root.mkdir()
    with run_registry(root) as host:
        yield host, root / "data" / "docker" / "registry" / "v2"


@pytest.fixture
def client(tmp_path: Path) -> RegistryClient:
    door = Http(user_agent="test", backoff_seconds=0.01)
    return RegistryClient(door, NoCredentials(), notes_dir=tmp_path / "notes")


LAYERS = [f"layer {number}" for number in range(30)]


def test_an_edit_costs_a_handful_of_requests_however_many_layers_there_are(place, client):
    host, _ = place
    blobs = MemoryBlobStore()
    first, edited = (make_image(blobs, *LAYERS, code) for code in ("code 1", "code 2"))
    with before(host, lambda request, reply: None) as proxy:
        client.push(first.manifest, blobs, f"{proxy.host}/lab/x")
        many = len(proxy.requests)
        report = client.push(edited.manifest, blobs, f"{proxy.host}/lab/x")

    assert (2, 30) == (report.uploaded, report.present)
    assert many > 60
    assert len(proxy.requests) - many < 14
    back = MemoryBlobStore()
    client.pull(f"{host}/lab/x@{edited.manifest.digest}", back)
    assert all(back.has(layer) for layer in edited.layers)


def test_an_image_that_was_removed_is_not_counted_on(place, client):
    host, root = place
    blobs = MemoryBlobStore()
    first, edited = (make_image(blobs, *LAYERS[:3], code) for code in ("code 1", "code 2"))
    client.push(first.manifest, blobs, f"{host}/lab/x")
    shutil.rmtree(root)
    report = client.push(edited.manifest, blobs, f"{host}/lab/x")

    assert (5, 0) == (report.uploaded, report.present)


def test_a_layer_that_the_registry_lost_from_an_image_that_it_has_is_sent_again(place, client):
    host, root = place
    blobs = MemoryBlobStore()
    first, edited = (make_image(blobs, *LAYERS[:3], code) for code in ("code 1", "code 2"))
    client.push(first.manifest, blobs, f"{host}/lab/x")
    lost = edited.layers[1].hex
    shutil.rmtree(root / "repositories/lab/x/_layers/sha256" / lost)
    client.push(edited.manifest, blobs, f"{host}/lab/x")

    back = MemoryBlobStore()
    client.pull(f"{host}/lab/x@{edited.manifest.digest}", back)
    assert all(back.has(layer) for layer in edited.layers)
