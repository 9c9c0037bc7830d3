"""
Every format as it is on disk, for ever.

The files in tests/golden/formats are what released versions wrote. A format may gain members, and
then a fixture; a fixture that is there must go on loading and may not change.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from xmslurm_repro.errors import FormatError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import Descriptor, Image, Layer, LayerKind, Recipe
from xmslurm_repro.model.lock import Artifact, Built, Lock, Target
from xmslurm_repro.model.manifest import Manifest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.run import Outcome, OutputFile, Receipt, RunId, RunState
from xmslurm_repro.model.snapshot import (
    EntryKind,
    Origin,
    TreeEntry,
    decode_node,
    encode_node,
)
from xmslurm_repro.model.work import Job, Network, Resources, WorkUnit
from xmslurm_repro.ports.record import Annotation, ExperimentRow, RunRow
from xmslurm_repro.record.pieces import KeptRun, Piece

FORMATS = Path(__file__).parents[1] / "golden" / "formats"


def ours(text: str) -> Digest:
    return Digest.blake3(blake3(text.encode()).hexdigest())


def theirs(text: str) -> Digest:
    return Digest.sha256(hashlib.sha256(text.encode()).hexdigest())


TARGET = Target(
    architecture="amd64",
    libc=("glibc", 2, 36),
    python="3.11.2",
    python_executable="/usr/bin/python3.11",
    source="usr/bin/python3.11",
)
WHEEL = Artifact(
    name="numpy", version="2.1.0", filename="numpy-2.1.0-py3-none-any.whl", sha256=theirs("wheel")
)


def layer(kind: LayerKind, title: str) -> Layer:
    blob = Descriptor(
        media_type="application/vnd.oci.image.layer.v1.tar+gzip",
        digest=theirs(f"blob {title}"),
        size_bytes=1234,
    )
    return Layer(kind=kind, title=title, diff_id=theirs(f"tar {title}"), blob=blob)


IMAGE = Image(
    manifest=Descriptor(
        media_type="application/vnd.oci.image.manifest.v1+json",
        digest=theirs("manifest"),
        size_bytes=700,
    ),
    config=Descriptor(
        media_type="application/vnd.oci.image.config.v1+json",
        digest=theirs("config"),
        size_bytes=600,
    ),
    architecture="amd64",
    layers=(
        layer(LayerKind.BASE, "base 1 of 1"),
        layer(LayerKind.PACKAGES, "numpy 2.1.0"),
        layer(LayerKind.CODE, "code 1 of 8"),
    ),
    env=(("PATH", "/xm/venv/bin:/usr/bin"), ("EMPTY", ""), ("EQUALS", "a=b")),
    recipe=Recipe(
        layout=1,
        base=theirs("base manifest"),
        base_reference="default",
        target=TARGET,
        artifacts=(WHEEL,),
        snapshot=ours("root"),
    ),
)
UNIT = WorkUnit(
    jobs=(
        Job(
            name="main",
            image=theirs("manifest"),
            argv=("python", "train.py", "", "two words", "$HOME", "ä\n"),
            env=(("A", ""), ("PATH", "/xm/venv/bin:/usr/bin")),
            workdir="/xm/code/sub",
            resources=Resources(
                cpus=4,
                memory_mib=16384,
                disk_mib=10,
                gpus=2,
                gpu_type="a100",
                time_limit_minutes=90,
                replicas=2,
                nodes=1,
                gres=(("licence", 1),),
            ),
            network=Network.HOST,
        ),
    )
)
RUN = RunId(token="abcdefgh23456723", task=4)

CURRENT: dict[str, Any] = {
    "manifest-1": Manifest(
        title="größe",
        snapshots=(ours("root"),),
        locks=(
            Lock(
                digest=ours("lock"),
                path="sub/uv.lock",
                kind="uv.lock",
                artifacts=(WHEEL,),
                sources=("packages/a/src",),
            ),
        ),
        images=(IMAGE,),
        units=(ours("unit"), ours("unit")),
    ),
    "work-unit-1": UNIT,
    "receipt-1": Receipt(
        run_id=RUN,
        experiment_id=41,
        unit_number=5,
        unit=ours("unit"),
        cluster="alpha",
        options=(("account", "lab"), ("exclusive", "")),
        promised_at="2026-01-02T03:04:05Z",
        tool_version="0.1.0",
        replay_of=RunId(token="zyxwvuts23456723", task=0),
        job_id="123_4",
        origin=ours("origin"),
        max_parallel_tasks=8,
    ),
    "outcome-1": Outcome(
        run_id=RUN,
        attempt="123_4.1",
        state=RunState.FAILED,
        exit_code=3,
        reason="the command ended with 3",
        started_at="2026-01-02T03:05:00Z",
        ended_at="2026-01-02T03:06:00Z",
        image=theirs("manifest"),
        facts=(("cpu_model", "Some CPU"), ("kernel", "6.1.0")),
        outputs=(
            OutputFile(path="a b.txt", sha256=theirs("a"), size_bytes=3),
            OutputFile(path="sub/b", sha256=theirs("b"), size_bytes=0),
        ),
        log=theirs("log"),
    ),
    "origin-1": Origin(
        commit="0123456789abcdef0123456789abcdef01234567",
        branch="main",
        remotes=(("origin", "https://forge.example/group/project.git"),),
        changed=(("new.py", "untracked"), ("train.py", "modified")),
        submodules=(("vendor/lib", "89abcdef0123456789abcdef0123456789abcdef"),),
        skipped=(("socket", "a socket"),),
    ),
}
"""What each format says in its current version."""

PACKAGES = (
    WHEEL,
    Artifact(
        name="antlr4",
        version="4.9.3",
        filename="antlr4-4.9.3-py3-none-any.whl",
        sha256=theirs("built"),
        built=Built(
            filename="antlr4-4.9.3.tar.gz", sha256=theirs("sdist"), tools=("setuptools 80.9.0",)
        ),
    ),
    Artifact(
        name="python",
        version="3.12.4",
        filename="python-3.12.4-h0_0_cpython.conda",
        sha256=theirs("conda"),
        channel="https://conda.example/forge/linux-64",
    ),
)
CURRENT["manifest-1-packages"] = replace(
    CURRENT["manifest-1"],
    locks=(Lock(digest=ours("lock"), path="pixi.lock", kind="pixi.lock", artifacts=PACKAGES),),
    images=(replace(IMAGE, recipe=replace(IMAGE.recipe, artifacts=PACKAGES, conda_layout=1)),),
)
"""Packages of every kind that have members of their own."""

CURRENT["record-1"] = Piece(
    experiment=ExperimentRow(
        id=41,
        title="größe",
        manifest=ours("manifest"),
        created_at="2026-01-02T03:04:05Z",
        replay_of=40,
    ),
    runs=(
        KeptRun(row=RunRow(receipt=CURRENT["receipt-1"], state=RunState.FAILED, reason="a reason")),
        KeptRun(
            row=RunRow(receipt=CURRENT["receipt-1"], state=RunState.CANCELLED), is_withdrawn=True
        ),
    ),
    outcomes=(CURRENT["outcome-1"],),
    annotations=(Annotation(unit_number=3, name="tags", value=["a", {"b": 1}]),),
)

NODE = (
    TreeEntry(name=b"data", kind=EntryKind.DIRECTORY, digest=ours("below"), size_bytes=12),
    TreeEntry(name=b"link", kind=EntryKind.SYMLINK, digest=ours("target"), size_bytes=6),
    TreeEntry(name=b"run.sh", kind=EntryKind.EXECUTABLE, digest=ours("run"), size_bytes=5),
    TreeEntry(name="ä b\n".encode(), kind=EntryKind.FILE, digest=ours("a"), size_bytes=0),
    TreeEntry(name=b"\xff", kind=EntryKind.FILE, digest=ours("b"), size_bytes=1 << 40),
)


def read(name: str) -> Reader:
    return Reader.of_json((FORMATS / f"{name}.json").read_bytes(), "the file")


@pytest.mark.parametrize("name", sorted(CURRENT))
def test_a_document_is_written_the_way_it_always_was(name, golden):
    golden(f"formats/{name}.json", canonical_json(CURRENT[name].to_json()))


@pytest.mark.parametrize("name", sorted(CURRENT))
def test_a_document_of_the_current_version_says_what_it_said(name):
    value = CURRENT[name]

    assert value == type(value).from_json(read(name))


def test_a_directory_node_is_written_the_way_it_always_was(golden):
    golden("formats/node-1", encode_node(NODE))


def test_a_directory_node_says_what_it_said():
    data = (FORMATS / "node-1").read_bytes()

    assert sorted(NODE, key=lambda entry: entry.name) == list(decode_node(data, "node"))


def test_the_digests_of_the_fixtures_never_change(golden):
    lines = [
        f"{blake3(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(FORMATS.iterdir())
        if path.name != "B3SUMS"
    ]

    golden("formats/B3SUMS", "".join(lines))


@pytest.mark.parametrize("name", ["manifest", "work-unit", "receipt", "outcome"])
@pytest.mark.parametrize("version", ["2", "0", "x", "", "1.0", "-1"])
def test_a_version_that_is_not_known_is_refused(name, version):
    document = read(f"{name}-1").value
    document["format"] = f"xmslurm-{name}/{version}"

    with pytest.raises(FormatError, match=rf"format: expected the format xmslurm-{name}/1"):
        type(CURRENT[f"{name}-1"]).from_json(Reader(document, "the file"))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value inside a document."""
    inside = list(value.items()) if isinstance(value, dict) else []
    inside = list(enumerate(value)) if isinstance(value, list) else inside
    return [path, *(found for key, item in inside for found in places(item, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The document with another value at *path*."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(copy[path[0]], path[1:], new)
    return copy


DAMAGE: list[Any] = [
    None, True, 0, -1, 1.5, 10**20, "", "x", "glibc", "glibc-2", "glibc-a.b", "a\0b", "\ud800",
    "sha256:00", "main.0", [], [[]], [None], {}, {"": ""}, {"a": 1}, {"A=B": "x"},
]  # fmt: skip


@pytest.mark.parametrize("name", sorted(CURRENT))
def test_whatever_is_wrong_in_a_document_is_a_format_error_that_names_the_file(name):
    kind, document = type(CURRENT[name]), read(name).value
    refusals = []
    for path in places(document):
        for new in DAMAGE:
            try:
                kind.from_json(Reader(changed(document, path, new), "the file"))
            except FormatError as error:
                refusals.append(error.message)
            except Exception as error:
                pytest.fail(f"{path} set to {new!r}: {error!r}")

    assert len(refusals) > 100
    assert [] == [message for message in refusals if not message.startswith("the file:")]


@pytest.mark.parametrize("name", sorted(CURRENT))
def test_a_member_that_is_missing_is_named(name):
    kind, document = type(CURRENT[name]), read(name).value
    optional = {
        "receipt-1": {"replay_of", "job_id", "origin", "max_parallel_tasks"},
        "outcome-1": {"exit_code", "reason", "started_at", "ended_at", "image", "log"},
        "origin-1": {"commit", "branch"},
    }.get(name, set())
    for member in sorted(document.keys() - optional):
        less = Reader({key: value for key, value in document.items() if key != member}, "the file")
        with pytest.raises(FormatError, match=f"the member '{member}'"):
            kind.from_json(less)
    for member in optional:
        less = Reader({key: value for key, value in document.items() if key != member}, "the file")
        assert getattr(kind.from_json(less), member) is None


def test_documents_are_canonical():
    for path in FORMATS.glob("*.json"):
        assert path.read_bytes() == canonical_json(json.loads(path.read_bytes()))
