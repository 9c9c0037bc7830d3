"""Hypothesis strategies for every document of ours."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import Descriptor, Image, Layer, LayerKind, Recipe
from xmslurm_repro.model.lock import Artifact, Built, Lock, Target
from xmslurm_repro.model.manifest import Manifest
from xmslurm_repro.model.project import EntryPoint, Project
from xmslurm_repro.model.run import Outcome, OutputFile, Receipt, RunId, RunState
from xmslurm_repro.model.snapshot import EntryKind, Origin, TreeEntry
from xmslurm_repro.model.work import Job, Network, Resources, WorkUnit

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0="), min_size=1, max_size=8
)
counts = st.integers(1, 2**53 - 1)
sizes = st.integers(0, 2**53 - 1)
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
blake3s = hexes.map(Digest.blake3)
sha256s = hexes.map(Digest.sha256)


def tuples(items: st.SearchStrategy[Any], **limits: int) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, **{"max_size": 3, **limits}).map(tuple)


def tables(
    keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any]
) -> st.SearchStrategy[tuple[Any, ...]]:
    """Pairs by name, each name once, sorted."""
    return st.dictionaries(keys, values, max_size=3).map(lambda d: tuple(sorted(d.items())))


targets = st.builds(
    Target,
    architecture=texts,
    libc=st.tuples(st.sampled_from(["glibc", "musl"]), st.integers(0, 99), st.integers(0, 99)),
    python=texts,
    python_executable=texts,
    source=texts,
)
artifacts = st.builds(
    Artifact,
    name=texts,
    version=texts,
    filename=texts,
    sha256=sha256s,
    channel=st.none() | texts,
    built=st.none() | st.builds(Built, filename=texts, sha256=sha256s, tools=tuples(texts)),
)
locks = st.builds(
    Lock,
    digest=blake3s,
    path=texts,
    kind=texts,
    artifacts=tuples(artifacts),
    sources=tuples(texts),
    extras=tuples(texts),
    groups=tuples(texts),
)
projects = st.builds(
    Project,
    name=texts,
    version=texts,
    sources=tuples(texts),
    entry_points=tables(st.tuples(texts, texts), texts).map(
        lambda table: tuple(
            EntryPoint(group=group, name=name, value=value) for (group, name), value in table
        )
    ),
)
descriptors = st.builds(Descriptor, media_type=texts, digest=sha256s, size_bytes=sizes)
layers = st.builds(
    Layer, kind=st.sampled_from(LayerKind), title=texts, diff_id=sha256s, blob=descriptors
)
recipes = st.builds(
    Recipe,
    layout=counts,
    base=sha256s,
    base_reference=texts,
    target=st.none() | targets,
    artifacts=tuples(artifacts),
    snapshot=st.none() | blake3s,
    projects=tuples(projects),
    conda_layout=st.none() | counts,
)
images = st.builds(
    Image,
    manifest=descriptors,
    config=descriptors,
    architecture=texts,
    layers=tuples(layers),
    env=tuples(st.tuples(names, texts)),
    recipe=recipes,
)
manifests = st.builds(
    Manifest,
    title=texts,
    snapshots=tuples(blake3s),
    locks=tuples(locks),
    images=tuples(images),
    units=tuples(blake3s),
)
resources = st.builds(
    Resources,
    cpus=counts,
    memory_mib=st.none() | counts,
    disk_mib=st.none() | counts,
    gpus=sizes,
    gpu_type=st.none() | texts,
    time_limit_minutes=st.none() | counts,
    replicas=counts,
    nodes=st.none() | counts,
    gres=tables(texts, counts),
)


def jobs(name: str) -> st.SearchStrategy[Job]:
    return st.builds(
        Job,
        name=st.just(name),
        image=sha256s,
        argv=tuples(words).flatmap(lambda rest: names.map(lambda first: (first, *rest))),
        env=tables(names, words),
        workdir=words.map(lambda text: "/" + text),
        resources=resources,
        network=st.sampled_from(Network),
    )


work_units = st.lists(texts, min_size=1, max_size=2, unique=True).flatmap(
    lambda unit_names: st.tuples(*map(jobs, unit_names)).map(lambda made: WorkUnit(jobs=made))
)
run_ids = st.builds(
    RunId,
    token=st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=8, max_size=40),
    task=sizes,
)
receipts = st.builds(
    Receipt,
    run_id=run_ids,
    experiment_id=counts,
    unit_number=counts,
    unit=blake3s,
    cluster=texts,
    options=tables(texts, texts),
    promised_at=texts,
    tool_version=texts,
    replay_of=st.none() | run_ids,
    job_id=st.none() | texts,
    origin=st.none() | blake3s,
    max_parallel_tasks=st.none() | counts,
)
outcomes = st.builds(
    Outcome,
    run_id=run_ids,
    attempt=texts,
    state=st.sampled_from(RunState),
    exit_code=st.none() | st.integers(-255, 255),
    reason=st.none() | texts,
    started_at=st.none() | texts,
    ended_at=st.none() | texts,
    image=st.none() | sha256s,
    facts=tables(texts, texts),
    outputs=tuples(st.builds(OutputFile, path=texts, sha256=sha256s, size_bytes=sizes)),
    log=st.none() | sha256s,
)
origins = st.builds(
    Origin,
    commit=st.none() | texts,
    branch=st.none() | texts,
    remotes=tables(texts, texts),
    changed=tables(texts, texts),
    submodules=tables(texts, texts),
    skipped=tables(texts, texts),
)
entry_names = st.binary(min_size=1, max_size=8).filter(
    lambda name: name not in {b".", b".."} and b"/" not in name and b"\0" not in name
)
entries = st.lists(
    st.builds(
        TreeEntry,
        name=entry_names,
        kind=st.sampled_from(EntryKind),
        digest=blake3s,
        size_bytes=sizes,
    ),
    max_size=5,
    unique_by=lambda entry: entry.name,
)

DOCUMENTS = {
    "image": (Image, images),
    "lock": (Lock, locks),
    "manifest": (Manifest, manifests),
    "origin": (Origin, origins),
    "outcome": (Outcome, outcomes),
    "receipt": (Receipt, receipts),
    "work-unit": (WorkUnit, work_units),
}
"""Every JSON document that is kept, by name: its type and how to make any."""
