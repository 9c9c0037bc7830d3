"""A cluster at the end of a shell: every command goes through one transport."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from xmslurm_repro.cluster.apptainer import Apptainer
from xmslurm_repro.cluster.charliecloud import Charliecloud
from xmslurm_repro.cluster.checking import Checker
from xmslurm_repro.cluster.delivery import deliver_blobs
from xmslurm_repro.cluster.docker import Docker
from xmslurm_repro.cluster.estimating import estimate_start
from xmslurm_repro.cluster.fetching import Fetcher
from xmslurm_repro.cluster.following import Follower
from xmslurm_repro.cluster.hello import Hello, say_hello
from xmslurm_repro.cluster.observing import observe_runs
from xmslurm_repro.cluster.podman import Podman
from xmslurm_repro.cluster.program import (
    compose,
    inline_argv,
    readable_lines,
    run_program,
)
from xmslurm_repro.cluster.records import OutputRecord, read_outputs
from xmslurm_repro.cluster.runtime import Bubblewrap, Runtime
from xmslurm_repro.cluster.scheduler import JOB_NAME_PREFIX, Scheduler
from xmslurm_repro.cluster.script import PLAIN, Surroundings, render_script
from xmslurm_repro.cluster.secrets import send_secrets
from xmslurm_repro.cluster.submitting import Payload, Submitter
from xmslurm_repro.cluster.surveying import survey_inputs
from xmslurm_repro.cluster.tasks import encode_tasks
from xmslurm_repro.errors import ClusterError, DigestMismatchError, NoRuntimeError, NotFoundError
from xmslurm_repro.model.image import Image
from xmslurm_repro.model.run import RunId
from xmslurm_repro.model.work import Input, Resources
from xmslurm_repro.ports.clock import Clock
from xmslurm_repro.ports.cluster import Estimate, Fact, Observation, Submission, WantedFile
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore
from xmslurm_repro.ports.transport import Transport

_SCANCEL_IDS = 500
"""Ids for one command, well below the limit on a command line's length."""

_LONG_SECONDS = 30.0 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryTarget:
    """
    Where jobs can pull images from.

    Attributes:
        repository: Host and path, such as ``registry.example:5000/lab/runs``.
        is_insecure: Whether it speaks plain HTTP or shows a certificate that nobody vouches for.
    """

    repository: str
    is_insecure: bool = False

    @property
    def host_and_port(self) -> str:
        """Where it listens."""
        host = self.repository.partition("/")[0]
        return host if ":" in host else f"{host}:{80 if self.is_insecure else 443}"


def default_runtimes() -> tuple[Runtime, ...]:
    """The runtimes that are tried, in order, where the configuration names none."""
    return (Bubblewrap(), Podman(), Apptainer(), Charliecloud(), Docker())


class ShellCluster:
    """
    A cluster, by what its login node's shell can do; see `ports.cluster.Cluster`.

    Args:
        name: As the configuration calls it.
        transport: The way to a login node, or to this machine.
        scheduler: What runs jobs there.
        runtime: What runs containers; ``None`` to take the first that works there.
        clock: To wait by.
        state_dir: Folder on the cluster that the login node and jobs share; ``~`` is the home
            there.
        options: Options of every submission that does not set them itself.
        registry: Where jobs can pull images from; ``None`` to send blobs.
        surroundings: What the site wants done around each job.
        patience_seconds: See `Submitter`.
    """

    def __init__(  # noqa: PLR0913 (a configured cluster has that many settings)
        self,
        name: str,
        transport: Transport,
        scheduler: Scheduler,
        runtime: Runtime | None = None,
        *,
        clock: Clock,
        state_dir: str = "~/.xmslurm",
        options: Sequence[tuple[str, str]] = (),
        registry: RegistryTarget | None = None,
        surroundings: Surroundings = PLAIN,
        patience_seconds: float = 600,
    ) -> None:
        self._name = name
        self._transport = transport
        self._scheduler = scheduler
        self._runtimes = (runtime,) if runtime is not None else default_runtimes()
        self._clock = clock
        self._state_dir = state_dir
        self._options = tuple(options)
        self._registry = registry
        self._surroundings = surroundings
        self._patience_seconds = patience_seconds
        self._hello: Hello | None = None
        self._warming: asyncio.Future[Hello] | None = None

    @property
    def name(self) -> str:
        """As the configuration calls it."""
        return self._name

    async def check(
        self, *, options: Sequence[tuple[str, str]] = (), with_job: bool = False
    ) -> Sequence[Fact]:
        """What a launch would need, and what is there. Tries every runtime."""
        return await self._checker().check(options=(*self._options, *options), with_job=with_job)

    async def charges(self) -> Sequence[Fact]:
        """Partitions, accounts that may be charged, and limits."""
        return await self._checker().charges()

    def _checker(self) -> Checker:
        registry = self._registry.host_and_port if self._registry else None
        return Checker(
            transport=self._transport,
            scheduler=self._scheduler,
            state_dir=self._state_dir,
            runtimes=self._runtimes,
            setup=self._surroundings.setup,
            registry=registry,
        )

    async def _greet(self) -> Hello:
        return await say_hello(
            *(self._transport, self._scheduler, self._state_dir, self._runtimes),
            setup=self._surroundings.setup,
        )

    def warm_up(self) -> None:
        """Begin to connect. What goes wrong is said when the cluster is needed."""
        if self._hello is None and self._warming is None:
            self._warming = asyncio.ensure_future(self._greet())

    async def _known(self) -> tuple[Hello, Runtime]:
        """What the cluster told of itself, asked once, and the runtime to use."""
        if self._hello is None:
            warming, self._warming = self._warming, None
            self._hello = await (warming or self._greet())
        hello = self._hello
        if hello.missing:
            raise ClusterError(
                f"cluster `{self._name}` lacks {', '.join(hello.missing)}",
                hint="They are part of every Linux distribution; ask whoever runs the cluster.",
            )
        working = {finding.name for finding in hello.runtimes if finding.works}
        for runtime in self._runtimes:
            if runtime.name in working:
                return hello, runtime
        self._hello = None
        raise NoRuntimeError(
            f"no container runtime works on cluster `{self._name}`",
            hint='Where it has to be loaded first, say so: `setup = "module load apptainer"`. '
            "Otherwise ask for bubblewrap, podman, apptainer or charliecloud to be installed.",
            details=(
                *(f"{finding.name}: {finding.said}" for finding in hello.runtimes),
                *hello.complaints,
            ),
        )

    async def deliver(self, image: Image, blobs: BlobStore, progress: Progress) -> int:
        """Make the image's blobs available to jobs; move only what is missing."""
        hello, runtime = await self._known()
        if self._registry is not None and runtime.can_pull:
            return 0
        where = (self._transport, hello.state_dir)
        return await deliver_blobs(*where, image, blobs, progress, self._clock)

    async def max_tasks(self, options: Sequence[tuple[str, str]]) -> int | None:
        """How many tasks a submission may have; ``None`` for any number."""
        told = {**dict(self._options), **dict(options)}
        done = await run_program(
            self._transport,
            compose("common", self._scheduler.name, "limits"),
            *(self._state_dir, *(told.get(name, "") for name in ("account", "partition", "qos"))),
        )
        said = done.stdout.decode("ascii", "replace").strip()
        return max(1, int(said)) if said.isdigit() else None

    async def survey(self, paths: Sequence[tuple[str, str]]) -> tuple[Input, ...]:
        """What is at *paths*, by name; read whole unless it looks untouched."""
        hello, _ = await self._known()
        return await survey_inputs(self._transport, hello.state_dir, paths)

    async def estimate(self, resources: Resources, options: Sequence[tuple[str, str]]) -> Estimate:
        """When a job of this kind would start. Submits nothing."""
        await self._known()
        directives = self._scheduler.estimate_directives(resources, self._inherited(options))
        return await estimate_start(self._transport, self._scheduler, self._state_dir, directives)

    async def submit(self, submission: Submission) -> str:
        """Submit exactly once, however often it is called with the same token."""
        hello, runtime = await self._known()
        submission = replace(
            submission,
            options=self._inherited(submission.options),
            group=tuple(
                replace(member, options=self._inherited(member.options))
                for member in submission.group
            ),
        )
        folder = f"{hello.state_dir}/submit/{submission.token}"
        table = encode_tasks(submission.tasks)
        script = render_script(
            submission,
            state_dir=hello.state_dir,
            scheduler=self._scheduler.name,
            directives=self._scheduler.directives(submission, folder=folder),
            runtime=runtime,
            surroundings=self._surroundings,
            index_sha256=table.index_sha256,
            grace_seconds=max(1, hello.kill_wait_seconds * 6 // 10),
            settings=self._registry_settings(runtime),
        )
        if submission.secret_values:
            words = (hello.state_dir, submission.token, submission.secret_values)
            await send_secrets(self._transport, self._scheduler, *words)
        payload = Payload(
            token=submission.token,
            script=script.encode("utf-8"),
            table=table,
            task_count=1 if submission.group else len(submission.tasks),
            max_parallel_tasks=submission.max_parallel_tasks or 1,
        )
        submitter = self._submitter(hello.state_dir)
        if submission.has_time:
            submitter = replace(submitter, limit_patience_seconds=_LONG_SECONDS)
        return await submitter.submit(payload)

    def _inherited(self, options: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        given = {name for name, _ in options}
        return (*(pair for pair in self._options if pair[0] not in given), *options)

    def _registry_settings(self, runtime: Runtime) -> tuple[tuple[str, str], ...]:
        if self._registry is None or not runtime.can_pull:
            return ()
        is_insecure = "1" if self._registry.is_insecure else "0"
        return (
            ("xm_registry", self._registry.repository),
            ("xm_registry_is_insecure", is_insecure),
        )

    def _submitter(self, state_dir: str) -> Submitter:
        return Submitter(
            transport=self._transport,
            scheduler=self._scheduler,
            clock=self._clock,
            state_dir=state_dir,
            patience_seconds=self._patience_seconds,
        )

    async def find(self, tokens: Sequence[str]) -> Mapping[str, str]:
        """The job id of each submission that did arrive. Submits nothing."""
        return await self._submitter(self._state_dir).find(tokens)

    async def observe(self, runs: Mapping[RunId, str]) -> Mapping[RunId, Observation]:
        """Where runs stand; one command for all, and a second for those that squeue forgot."""
        return await observe_runs(self._transport, self._scheduler, self._state_dir, runs)

    async def logs(
        self, run_id: RunId, *, attempt: str | None, follow: bool
    ) -> AsyncIterator[bytes]:
        """What the command of a run printed; with *follow* until the run has ended."""
        argv = inline_argv(
            compose("common", self._scheduler.name, "logs"),
            *(self._state_dir, f"{JOB_NAME_PREFIX}{run_id.token}", run_id.token),
            *(str(run_id.task), attempt or "", "1" if follow else "0"),
        )
        stream = self._transport.stream(argv)
        try:
            async for chunk in stream:
                yield chunk
        finally:
            # Closing it is what ends the command; leaving the loop does not.
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    def follow(
        self,
        runs: Sequence[RunId],
        *,
        attempt: str | None = None,
        follow: bool = False,
        last_lines: int | None = None,
    ) -> AsyncIterator[tuple[RunId, bytes]]:
        """What the commands of many runs printed, over one channel."""
        follower = Follower(
            transport=self._transport,
            scheduler=self._scheduler,
            clock=self._clock,
            state_dir=self._state_dir,
        )
        return follower.follow(runs, attempt=attempt, follow=follow, last_lines=last_lines)

    async def fetch(self, run_id: RunId, attempt: str, path: str, target: BinaryIO) -> None:
        """Copy one output file here, as its bytes are, checked against the attempt's list."""
        record = await self._find_output(run_id, attempt, path)
        argv = inline_argv(
            compose("common", "fetch"),
            *(self._state_dir, run_id.token, str(run_id.task), attempt, record.kind),
            "".join(f"\\0{byte:03o}" for byte in record.raw_path),
        )
        hasher, size_bytes = hashlib.sha256(), 0
        async for chunk in self._transport.stream(argv):
            hasher.update(chunk)
            size_bytes += len(chunk)
            target.write(chunk)
        if hasher.hexdigest() != record.sha256.hex:
            raise DigestMismatchError(
                f"output {path} of run {run_id}",
                want=str(record.sha256),
                got=f"sha256:{hasher.hexdigest()}",
                size_bytes=size_bytes,
            )

    def fetch_many(self, wanted: Sequence[WantedFile]) -> AsyncIterator[tuple[WantedFile, bytes]]:
        """Many output files over one channel, as their bytes are."""
        return Fetcher(transport=self._transport, state_dir=self._state_dir).fetch(wanted)

    async def _find_output(self, run_id: RunId, attempt: str, path: str) -> OutputRecord:
        where = f"attempt {attempt} of run {run_id}"
        words = (run_id.token, str(run_id.task), attempt)
        done = await run_program(
            self._transport, compose("common", "outputs"), self._state_dir, *words
        )
        if done.exit_status != 0:
            raise NotFoundError(
                f"{where} left no list of outputs", details=readable_lines(done.stderr)
            )
        for record in read_outputs(done.stdout, where):
            if record.path == path:
                return record
        raise NotFoundError(f"{where} left no output {path}")

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs. Idempotent; jobs that have ended are no error."""
        for start in range(0, len(job_ids), _SCANCEL_IDS):
            done = await run_program(
                self._transport,
                compose("common", self._scheduler.name, "cancel"),
                self._state_dir,
                *job_ids[start : start + _SCANCEL_IDS],
            )
            if done.exit_status != 0:
                raise ClusterError(
                    f"jobs on cluster `{self._name}` could not be cancelled",
                    hint="Try again.",
                    details=readable_lines(done.stderr),
                )

    async def close(self) -> None:
        """Let go of the connection."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
            self._warming = None
        await self._transport.close()
