"""Places to run jobs at: this machine, and a real Slurm with and without SSH in between."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import urllib.request
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.cluster_support import Blobs, RealClock, scratch_state, shell_image
from tests.testbed.bed import Testbed
from xmslurm_repro.cluster.local import LocalScheduler
from xmslurm_repro.cluster.runtime import Runtime
from xmslurm_repro.cluster.scheduler import Scheduler
from xmslurm_repro.cluster.script import PLAIN, Surroundings
from xmslurm_repro.cluster.shell import RegistryTarget, ShellCluster
from xmslurm_repro.cluster.slurm import SlurmScheduler
from xmslurm_repro.model.image import Image
from xmslurm_repro.model.run import Outcome, RunId
from xmslurm_repro.ports.cluster import Observation, Submission
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.ports.transport import Completed, Transport

T = TypeVar("T")

OCTETS = "application/octet-stream"

_numbers = itertools.count()


def fresh_token() -> str:
    """A token that no other test uses."""
    return f"test{os.getpid()}x{next(_numbers)}"


CODE = {
    "probe.sh": b"""\
echo "argv: $#"
for word; do printf '[%s]\\n' "$word"; done
echo "cwd: $PWD"
""",
    "data/numbers.txt": b"1\n2\n3\n",
}


@dataclass(frozen=True)
class Place:
    """
    Somewhere to run jobs.

    Attributes:
        make_transport: The way there.
        scheduler: What runs jobs there.
        state_dir: As the cluster is told.
        seen: The same folder, as seen from here.
    """

    make_transport: Callable[[], Transport]
    scheduler: Scheduler
    state_dir: str
    seen: Path
    runtime: Runtime | None = None
    registry: RegistryTarget | None = None
    surroundings: Surroundings = PLAIN
    patience_seconds: float = 60
    blobs: Blobs = field(default_factory=Blobs)
    images: dict[str, Image] = field(default_factory=dict)

    def image(self) -> Image:
        """An image with a shell and `CODE`; always the same one."""
        if "shell" not in self.images:
            self.images["shell"] = shell_image(self.blobs, code=CODE)
        return self.images["shell"]

    def run(self, scenario: Callable[[ShellCluster], Awaitable[T]]) -> T:
        """Run *scenario* with a cluster that is closed afterwards."""

        async def play() -> T:
            cluster = ShellCluster(
                "place",
                self.make_transport(),
                self.scheduler,
                self.runtime,
                clock=RealClock(),
                state_dir=self.state_dir,
                registry=self.registry,
                surroundings=self.surroundings,
                patience_seconds=self.patience_seconds,
            )
            try:
                return await scenario(cluster)
            finally:
                await cluster.close()

        return asyncio.run(play())

    async def launch(self, cluster: ShellCluster, wanted: Submission) -> dict[RunId, str]:
        """Deliver and submit; the job id of each run."""
        await cluster.deliver(wanted.image, self.blobs, SilentProgress())
        job_id = await cluster.submit(wanted)
        many = len(wanted.tasks) > 1
        return {
            task.run_id: f"{job_id}_{task.run_id.task}" if many else job_id for task in wanted.tasks
        }

    async def finish(
        self, cluster: ShellCluster, runs: dict[RunId, str], *, seconds: float = 90
    ) -> list[Observation]:
        """Wait until all *runs* have ended."""
        for _ in range(int(seconds * 5)):
            seen = await cluster.observe(runs)
            if all(observation.state.is_final for observation in seen.values()):
                return [seen[run_id] for run_id in runs]
            await asyncio.sleep(0.2)
        raise AssertionError(f"still not ended after {seconds} s: {seen}")

    def play(self, wanted: Submission, *, seconds: float = 90) -> list[Observation]:
        """Deliver, submit and wait."""

        async def scenario(cluster: ShellCluster) -> list[Observation]:
            return await self.finish(cluster, await self.launch(cluster, wanted), seconds=seconds)

        return self.run(scenario)

    def attempt_folder(self, run_id: RunId, attempt: str) -> Path:
        """Where an attempt's records are, as seen from here."""
        return self.seen / "runs" / run_id.token / str(run_id.task) / attempt

    def log_of(self, run_id: RunId, attempt: str | None = None) -> bytes:
        """What a run printed."""

        async def scenario(cluster: ShellCluster) -> bytes:
            chunks = [c async for c in cluster.logs(run_id, attempt=attempt, follow=False)]
            return b"".join(chunks)

        return self.run(scenario)


def outcome_of(observations: Sequence[Observation]) -> Outcome:
    """The outcome of the newest attempt of the only run."""
    (observation,) = observations
    assert observation.outcomes, observation
    return observation.outcomes[-1]


def local_place(seen: Path, runtime: Runtime | None = None) -> Place:
    """This machine, as whoever runs the tests."""
    from xmslurm_repro.transport.local import LocalTransport

    scratch = seen.parent / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(seen.parent), "LC_ALL": "C.UTF-8"}
    env["TMPDIR"] = str(scratch)
    return Place(
        make_transport=lambda: LocalTransport(env=env),
        scheduler=LocalScheduler(),
        state_dir=str(seen),
        seen=seen,
        runtime=runtime,
    )


@dataclass(frozen=True)
class Entering:
    """Runs commands where *words* before them lead to."""

    inner: Transport
    words: tuple[str, ...]

    @property
    def description(self) -> str:
        return self.inner.description

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | AsyncIterable[bytes] = b"",
        timeout_seconds: float | None = None,
    ) -> Completed:
        words = (*self.words, *argv)
        return await self.inner.run(words, stdin=stdin, timeout_seconds=timeout_seconds)

    def stream(self, argv: Sequence[str], *, stdin: bytes = b"") -> AsyncIterator[bytes]:
        return self.inner.stream((*self.words, *argv), stdin=stdin)

    async def close(self) -> None:
        await self.inner.close()


@contextmanager
def slurm_place(bed: Testbed, runtime: Runtime | None = None) -> Iterator[Place]:
    """The test bed's Slurm, as root on this machine."""
    from xmslurm_repro.transport.local import LocalTransport

    with scratch_state(bed.root / f"state-{fresh_token()}") as seen:
        yield Place(
            make_transport=lambda: Entering(LocalTransport(env=bed.env), tuple(bed.enter)),
            scheduler=SlurmScheduler(),
            state_dir=str(seen),
            seen=seen,
            runtime=runtime,
        )


@contextmanager
def ssh_place(bed: Testbed, runtime: Runtime | None = None) -> Iterator[Place]:
    """The test bed's Slurm, as an unprivileged user at the end of an SSH connection."""
    folder = f".xmslurm-{fresh_token()}"
    seen = bed.homes[bed.ssh_user] / folder
    yield Place(
        make_transport=lambda: ssh_transport(bed),
        scheduler=SlurmScheduler(),
        state_dir=f"~/{folder}",
        seen=seen,
        runtime=runtime,
    )
    subprocess.run(["rm", "-rf", str(seen)], check=False)


def ssh_transport(bed: Testbed, user: str | None = None) -> Transport:
    """A connection to the test bed's login node."""
    from xmslurm_repro.transport.ssh import SshEndpoint, SshTransport

    return SshTransport(
        SshEndpoint(
            host=bed.ssh_host,
            port=bed.ssh_port,
            user=user or bed.ssh_user,
            config_files=(os.devnull,),
            known_hosts=str(bed.ssh_known_hosts),
            identity_files=(str(bed.ssh_key),),
        )
    )


def push_image(repository: str, image: Image, blobs: Blobs) -> None:
    """Push *image* to a plain-HTTP registry, as the OCI distribution specification says."""
    host, _, name = repository.partition("/")
    base = f"http://{host}/v2/{name}"
    for blob in image.blobs[:-1]:
        with request("POST", f"{base}/blobs/uploads/") as answer:
            place = answer.headers["Location"]
        joint = "&" if "?" in place else "?"
        request("PUT", f"{place}{joint}digest={blob.digest}", blobs.get(blob.digest)).close()
    manifest = image.manifest
    request(
        "PUT",
        f"{base}/manifests/{manifest.digest}",
        blobs.get(manifest.digest),
        media_type=manifest.media_type,
    ).close()


def request(method: str, url: str, data: bytes = b"", *, media_type: str = OCTETS):
    """One request to a registry on loopback."""
    headers = {"Content-Type": media_type, "Content-Length": str(len(data))}
    return urllib.request.urlopen(
        urllib.request.Request(url, data=data, method=method, headers=headers), timeout=30
    )


def forget_images(folder: Path) -> None:
    """podman keeps its store mounted while it is root's."""
    for mounted in [*folder.glob("podman-*/root/overlay"), *folder.glob("*/podman-*/root/overlay")]:
        subprocess.run(["umount", str(mounted)], check=False, capture_output=True)
