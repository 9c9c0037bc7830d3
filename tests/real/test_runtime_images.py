"""What runtimes make of an image before they run it: once, checked, and no more than is new."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster_places import Place, fresh_token, outcome_of, ssh_place
from tests.cluster_support import shell_image, submission
from tests.testbed.bed import Testbed
from xmslurm_repro.cluster.charliecloud import Charliecloud
from xmslurm_repro.cluster.docker import Docker
from xmslurm_repro.cluster.podman import Podman
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.model.image import Image, LayerKind
from xmslurm_repro.model.run import Outcome, RunState
from xmslurm_repro.ports.progress import SilentProgress


@pytest.fixture(params=["charliecloud", "podman", "docker"])
def place(request, testbed: Testbed) -> Iterator[Place]:
    made = {"charliecloud": Charliecloud(), "podman": Podman()}
    if request.param == "docker":
        made["docker"] = Docker(options=(f"--host={request.getfixturevalue('docker_engine')}",))
    with ssh_place(testbed, made[request.param]) as there:
        yield there


def edited(place: Place) -> Image:
    """The usual image, with other code."""
    return shell_image(place.blobs, code={"probe.sh": f"echo {fresh_token()}\n".encode()})


def play(place: Place, image: Image) -> Outcome:
    wanted = submission(image, ["sh", "probe.sh"], token=fresh_token())
    return outcome_of(place.play(wanted))


def blob_of(place: Place, image: Image, kind: LayerKind):
    (layer,) = [layer for layer in image.layers if layer.kind is kind]
    return place.seen / "blobs" / "sha256" / layer.blob.digest.hex


def test_a_blob_that_is_damaged_after_delivery_is_refused_and_sent_again(place: Place):
    image = edited(place)
    wanted = submission(image, ["sh", "probe.sh"], token=fresh_token())

    async def scenario(cluster: ShellCluster):
        await cluster.deliver(image, place.blobs, SilentProgress())
        blob = blob_of(place, image, LayerKind.CODE)
        blob.chmod(0o644)
        blob.write_bytes(blob.read_bytes()[:-1] + b"x")
        job_id = await cluster.submit(wanted)
        return await place.finish(cluster, {wanted.tasks[0].run_id: job_id})

    refused = outcome_of(place.run(scenario))
    again = play(place, image)

    digits = blob_of(place, image, LayerKind.CODE).name
    assert (RunState.REFUSED, None) == (refused.state, refused.exit_code)
    assert refused.reason == f"blob sha256:{digits} is damaged"
    assert (RunState.COMPLETED, None) == (again.state, again.reason)


# podman reads an image whole, and keeps apart what it makes of each layer.
@pytest.mark.parametrize("place", ["charliecloud", "docker"], indirect=True)
def test_an_edit_of_the_code_does_not_read_the_packages_again(place: Place):
    image = edited(place)
    first = play(place, place.image())
    wanted = submission(image, ["sh", "probe.sh"], token=fresh_token())

    async def scenario(cluster: ShellCluster):
        await cluster.deliver(image, place.blobs, SilentProgress())
        # Whoever wanted it now would not find it.
        blob_of(place, image, LayerKind.BASE).unlink()
        job_id = await cluster.submit(wanted)
        return await place.finish(cluster, {wanted.tasks[0].run_id: job_id})

    second = outcome_of(place.run(scenario))

    assert [(RunState.COMPLETED, None)] * 2 == [(o.state, o.reason) for o in (first, second)]
    assert second.image == image.manifest.digest
    assert first.image != second.image


@pytest.mark.parametrize("place", ["docker"], indirect=True)
def test_a_container_of_docker_is_held_to_the_memory_of_its_job(place: Place):
    argv = ["bash", "-c", "printf -v x '%300000000s'; echo still here"]
    wanted = submission(place.image(), argv, token=fresh_token())

    outcome = outcome_of(place.play(wanted))

    assert (RunState.OUT_OF_MEMORY, 137) == (outcome.state, outcome.exit_code)
