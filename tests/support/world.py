"""A world in memory for the services: real store and record, a cluster that only remembers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from xmslurm_repro.errors import ConnectionLostError, NotFoundError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_MANIFEST,
    BaseImage,
    Descriptor,
    Image,
    Recipe,
)
from xmslurm_repro.model.run import Outcome, OutputFile, RunState
from xmslurm_repro.model.snapshot import EntryKind, Origin, Snapshot, TreeEntry, encode_node
from xmslurm_repro.ports.cluster import Estimate, Observation
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.record.memory import MemoryRecord
from xmslurm_repro.services.prepare import Plan, Prepared
from xmslurm_repro.services.tools import ClusterSite, Defaults, Tools
from xmslurm_repro.snapshot.tree import StoredTree
from xmslurm_repro.store.memory import MemoryObjectStore
from xmslurm_repro.store.memory_blobs import MemoryBlobStore


class SteppingClock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self):
        self.time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def now(self):
        return self.time

    async def sleep(self, seconds):
        self.time += timedelta(seconds=seconds)


class CountingIds:
    def __init__(self):
        self.count = 0

    def token(self):
        self.count += 1
        return f"token{self.count:08d}"


@dataclass
class MemoryCluster:
    """Remembers what was submitted; what becomes of a run is up to the test."""

    name: str = "alpha"
    jobs: dict = field(default_factory=dict)
    """Token to job id: submitting a token twice gives the same job."""
    submissions: list = field(default_factory=list)
    delivered: list = field(default_factory=list)
    outcomes: dict = field(default_factory=dict)
    states: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    most_tasks: int | None = None
    wait_seconds: int = 0
    trouble: dict = field(default_factory=dict)
    """Method name to an exception raised before it has any effect."""
    inputs: dict = field(default_factory=dict)
    """What is at a path."""
    printed: list = field(default_factory=lambda: [b""])
    """What every run printed, in chunks."""
    files: dict = field(default_factory=dict)
    """Bytes by run and path, of outputs to fetch."""
    cut_after: int | None = None
    """Break the line once, after so many bytes of a file."""
    late_trouble: dict = field(default_factory=dict)
    """Method name to an exception raised after it took effect."""

    def _enter(self, method):
        self.asked.append(method)
        if method in self.trouble:
            raise self.trouble[method]

    def _leave(self, method):
        if method in self.late_trouble:
            raise self.late_trouble[method]

    async def check(self, *, options=(), with_job=False):
        return []

    def warm_up(self):
        self.asked.append("warm_up")

    async def charges(self):
        return []

    async def deliver(self, image, blobs, progress):
        self._enter("deliver")
        self.delivered.append(image.manifest.digest)
        return 0

    async def max_tasks(self, options):
        return self.most_tasks

    async def survey(self, paths):
        self._enter("survey")
        return tuple(self.inputs[path] for _, path in sorted(paths))

    async def estimate(self, resources, options):
        self._enter("estimate")
        return Estimate(starts_in_seconds=self.wait_seconds)

    async def submit(self, submission):
        self._enter("submit")
        if submission.token not in self.jobs:
            self.jobs[submission.token] = str(100 + len(self.jobs))
            self.submissions.append(submission)
        self._leave("submit")
        return self.jobs[submission.token]

    async def find(self, tokens):
        self._enter("find")
        return {token: self.jobs[token] for token in tokens if token in self.jobs}

    async def observe(self, runs):
        self._enter("observe")
        return {
            run_id: Observation(
                state=self.states.get(run_id, RunState.PENDING),
                outcomes=tuple(self.outcomes.get(run_id, ())),
            )
            for run_id in runs
        }

    def end(self, run_id, *, state=RunState.COMPLETED, outputs=None, image=None, facts=()):
        """Let a run end, with outputs by path."""
        self.states[run_id] = state
        self.outcomes[run_id] = [
            Outcome(
                run_id=run_id,
                attempt="1.0",
                state=state,
                exit_code=0 if state is RunState.COMPLETED else 1,
                reason=None,
                started_at="2026-01-02T03:04:05Z",
                ended_at="2026-01-02T03:04:06Z",
                image=image,
                facts=tuple(sorted(facts)),
                outputs=tuple(
                    OutputFile(path=path, sha256=Digest.sha256(character * 64), size_bytes=1)
                    for path, character in sorted((outputs or {}).items())
                ),
                log=Digest.sha256("f" * 64),
            )
        ]

    async def fetch(self, run_id, attempt, path, target):
        raise NotFoundError(path)

    async def logs(self, run_id, *, attempt, follow):
        for chunk in self.printed:
            yield chunk

    async def follow(self, runs, *, attempt=None, follow=False, last_lines=None):
        for run_id in runs:
            for chunk in self.printed:
                yield run_id, chunk

    async def fetch_many(self, wanted):
        self._enter("fetch_many")
        for file in wanted:
            data = self.files[file.run_id, file.path][file.offset :]
            if self.cut_after is not None and len(data) > self.cut_after:
                yield file, data[: self.cut_after]
                self.cut_after = None
                raise ConnectionLostError("the line went dead", may_have_run=True)
            yield file, data

    async def cancel(self, job_ids):
        self._enter("cancel")

    async def close(self):
        pass


@dataclass
class MemorySnapshots:
    store: MemoryObjectStore

    def find_work_tree(self, start):
        return start

    def capture(self, start, *, allow_unborn, allow_no_repository, progress):
        raise NotImplementedError

    def tree(self, root):
        return StoredTree(self.store, root)


class Nothing:
    """Stands where a test must not go."""

    def __getattr__(self, name):
        raise AssertionError(f"the test should not need {name}")


def make_world(**changes):
    """Tools in memory, with one cluster called ``alpha``."""
    store = MemoryObjectStore()
    cluster = changes.pop("cluster", None) or MemoryCluster()
    tools = Tools(
        store=store,
        blobs=MemoryBlobStore(),
        snapshots=MemorySnapshots(store),
        bases=Nothing(),
        locks=Nothing(),
        builder=Nothing(),
        fresh_builder=Nothing(),
        publisher=Nothing(),
        record=MemoryRecord(),
        site=lambda name: ClusterSite(cluster=cluster),
        defaults=Defaults(base="default"),
        clock=SteppingClock(),
        ids=CountingIds(),
        progress=SilentProgress(),
        version="1.2.3",
    )
    return replace(tools, **changes), cluster


def make_snapshot(store, files):
    """Keep a tree of top-level *files* (name to bytes); return its snapshot."""
    entries = [
        TreeEntry(
            name=name.encode(), kind=EntryKind.FILE, digest=store.put(data), size_bytes=len(data)
        )
        for name, data in files.items()
    ]
    root = store.put(encode_node(entries))
    total = sum(len(data) for data in files.values())
    return Snapshot(root=root, file_count=len(files), size_bytes=total, origin=Origin())


def make_prepared(tools, files):
    """An image, as if built, over a tree of *files*. Its blobs are in the local store."""
    snapshot = make_snapshot(tools.store, files)

    def blob(media_type, data):
        return Descriptor(media_type=media_type, digest=tools.blobs.put(data), size_bytes=len(data))

    base = BaseImage(
        reference="default",
        manifest=blob(MEDIA_TYPE_MANIFEST, b"base"),
        config=blob(MEDIA_TYPE_CONFIG, b"base config"),
        architecture="amd64",
        target=None,
        env=(),
        layers=(),
    )
    recipe = Recipe(
        layout=1,
        base=base.manifest.digest,
        base_reference="default",
        target=None,
        artifacts=(),
        snapshot=snapshot.root,
    )
    image = Image(
        manifest=blob(MEDIA_TYPE_MANIFEST, b"image of " + snapshot.root.hex.encode()),
        config=blob(MEDIA_TYPE_CONFIG, b"config of " + snapshot.root.hex.encode()),
        architecture="amd64",
        layers=(),
        env=(("PATH", "/xm/venv/bin"),),
        recipe=recipe,
    )
    plan = Plan(
        snapshot=snapshot,
        origin=tools.store.put(canonical_json(snapshot.origin.to_json())),
        lock=None,
        base=base,
        recipe=recipe,
        workdir="/xm/code",
    )
    return Prepared(plan=plan, image=image)
