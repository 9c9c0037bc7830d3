"""Blobs on their way to a cluster: cut off, sent by two at once, and on to a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_places import Place, fresh_token, local_place, outcome_of, ssh_place
from tests.cluster_support import layer_tar, make_image, make_layer, submission
from tests.testbed.bed import Testbed
from xmslurm_repro import errors
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.model.image import Image, LayerKind
from xmslurm_repro.model.run import RunState
from xmslurm_repro.ports.progress import SilentProgress


def bulky(place: Place, *, mib: int = 6, count: int = 3) -> Image:
    """An image with *count* layers of *mib* MiB that no compressor makes smaller."""
    layers = list(place.image().layers)
    for number in range(count):
        noise = os.urandom(mib << 20)
        tar = layer_tar({f"noise/{number}": noise})
        layers.insert(1, make_layer(place.blobs, tar, LayerKind.PACKAGES, f"noise {number}"))
    return make_image(place.blobs, layers)


def blobs_there(place: Place) -> int:
    return sum(path.stat().st_size for path in (place.seen / "blobs" / "sha256").iterdir())


def size_of(image: Image) -> int:
    return sum(blob.size_bytes for blob in image.blobs)


class CutProgress(SilentProgress):
    """Breaks every connection when so many bytes are on their way."""

    def __init__(self, testbed: Testbed, after: int) -> None:
        self._testbed, self._left = testbed, after

    def start(self, label, *, total=None, unit="bytes"):
        return self

    def advance(self, amount: int) -> None:
        before, self._left = self._left, self._left - amount
        if before > 0 >= self._left:
            self._testbed.cut_connections()

    def finish(self) -> None:
        pass


def test_a_delivery_that_is_cut_goes_on_where_it_was(testbed: Testbed):
    with ssh_place(testbed) as place:
        image = bulky(place, mib=24, count=1)

        async def cut(cluster: ShellCluster) -> None:
            with pytest.raises(errors.ConnectionLostError):
                await cluster.deliver(image, place.blobs, CutProgress(testbed, 16 << 20))

        async def again(cluster: ShellCluster) -> int:
            return await cluster.deliver(image, place.blobs, SilentProgress())

        place.run(cut)
        kept = sum(p.stat().st_size for p in (place.seen / "incoming").glob("*[0-9a-f]"))
        kept += blobs_there(place)
        moved = place.run(again)

        assert kept > 4 << 20
        assert size_of(image) == kept + moved == blobs_there(place)
        wanted = submission(image, ["ls", "/noise"], token=fresh_token())
        assert place.log_of(outcome_of(place.play(wanted)).run_id) == b"0\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return local_place(tmp_path / "state")


def test_two_who_launch_at_once_send_once(place: Place):
    image = bulky(place)

    async def both() -> list[int]:
        async def one(cluster: ShellCluster) -> int:
            return await cluster.deliver(image, place.blobs, SilentProgress())

        # Each in a thread of its own, as two commands would be.
        threads = (asyncio.to_thread(place.run, one) for _ in range(3))
        return list(await asyncio.gather(*threads))

    moved = asyncio.run(both())

    assert size_of(image) == sum(moved) == blobs_there(place)
    assert [] == [path.name for path in (place.seen / "incoming").iterdir()]


def test_a_blob_that_was_cut_short_on_the_disk_is_sent_again(place: Place):
    image = place.image()

    async def deliver(cluster: ShellCluster) -> int:
        return await cluster.deliver(image, place.blobs, SilentProgress())

    place.run(deliver)
    blob = max((place.seen / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    size = blob.stat().st_size
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.truncate(size // 2)

    assert size == place.run(deliver)
    assert size == blob.stat().st_size


def test_a_part_that_is_not_what_it_should_be_is_not_built_upon(place: Place):
    image = place.image()
    blob = max(image.blobs, key=lambda blob: blob.size_bytes)
    part = place.seen / "incoming" / blob.digest.hex
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)

    async def deliver(cluster: ShellCluster) -> int:
        return await cluster.deliver(image, place.blobs, SilentProgress())

    with pytest.raises(errors.DigestMismatchError):
        place.run(deliver)

    assert blob.size_bytes == place.run(deliver)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="xsdisk-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def test_an_image_that_does_not_fit_is_not_sent(small_disk: Path):
    place = local_place(small_disk / "state")
    image = bulky(place, mib=12, count=2)

    async def deliver(cluster: ShellCluster) -> int:
        return await cluster.deliver(image, place.blobs, SilentProgress())

    with pytest.raises(errors.ClusterError, match="does not fit") as caught:
        place.run(deliver)

    assert "MiB are free" in caught.value.message
    assert 0 == blobs_there(place)


def fill(ballast: Path, *, leave: int) -> None:
    """Write until so many bytes are left, or none."""
    ballast.touch()
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while leave == 0 or shutil.disk_usage(ballast.parent).free > leave:
            file.write(b"\0" * 65536)


class FillingProgress(SilentProgress):
    """Fills the disk while blobs are on their way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, label, *, total=None, unit="bytes"):
        fill(self._folder / "other", leave=0)
        return self

    def advance(self, amount: int) -> None:
        pass

    def finish(self) -> None:
        pass


def test_a_disk_that_fills_meanwhile_is_said_and_nothing_half_written_stays(small_disk: Path):
    place = local_place(small_disk / "state")
    image = bulky(place, mib=4, count=2)

    async def deliver(cluster: ShellCluster) -> int:
        return await cluster.deliver(image, place.blobs, FillingProgress(small_disk))

    with pytest.raises(errors.ClusterError) as caught:
        place.run(deliver)

    whole = {blob.digest.hex: blob.size_bytes for blob in image.blobs}
    there = {p.name: p.stat().st_size for p in (place.seen / "blobs" / "sha256").iterdir()}
    assert "no space left" in "\n".join(caught.value.details)
    assert there.items() <= whole.items()
    assert not [path for path in (place.seen / "incoming").iterdir() if path.stat().st_size]


def elsewhere(disk: Path, scratch: Path) -> Place:
    """A place whose state folder only is on the small disk."""
    (disk / "scratch").symlink_to(scratch)
    return local_place(disk / "state")


def test_a_job_that_finds_no_room_for_the_image_says_so_and_the_next_one_runs(
    small_disk: Path, tmp_path: Path
):
    place = elsewhere(small_disk, tmp_path)
    image = place.image()

    async def run_full(cluster: ShellCluster):
        await cluster.deliver(image, place.blobs, SilentProgress())
        wanted = submission(image, ["true"], token=fresh_token())
        ballast = small_disk / "ballast"
        fill(ballast, leave=2 << 20)
        job_id = await cluster.submit(wanted)
        (observation,) = await place.finish(cluster, {wanted.tasks[0].run_id: job_id})
        ballast.unlink()
        return observation

    full = place.run(run_full)
    after = outcome_of(place.play(submission(image, ["true"], token=fresh_token())))

    assert RunState.FAILED is full.state
    assert "no space left" in (full.reason or "")
    assert (RunState.COMPLETED, None) == (after.state, after.reason)
    assert not list((place.seen / "layers").glob("*.new.*"))


def test_a_command_that_fills_the_disk_leaves_its_record(small_disk: Path, tmp_path: Path):
    place = elsewhere(small_disk, tmp_path)
    script = "echo early >/xm/outputs/early; exec cat /dev/zero >/xm/outputs/zeros"
    wanted = submission(place.image(), ["bash", "-c", script], token=fresh_token())

    outcome = outcome_of(place.play(wanted))

    assert (RunState.FAILED, 1) == (outcome.state, outcome.exit_code)
    assert {"early", "zeros"} == {file.path for file in outcome.outputs}
    assert "there is no space left in" in (outcome.reason or "")
