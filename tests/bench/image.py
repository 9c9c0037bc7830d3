"""Images: building, pushing, and a whole launch after a one-line edit, step by step."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.bench import base
from tests.bench.bench import Bench
from tests.bench.disk import link_copy, need, remove
from tests.bench.harness import Command, Contender, Row, Timing, measure, run_command, run_once
from tests.bench.report import Fact, Table, say_bytes
from tests.bench.trees import BIG_FILE_BYTES, WorkTree, make_quickstart, make_work_tree
from tests.testbed.bed import Parts, Testbed, start_testbed

_TAR = 'set -o pipefail; tar -c --exclude=.git . | gzip -6 | tee "$LAYER" | sha256sum'
"""What an engine does at least with a layer of code."""

_UPLOAD = re.compile(r'"PUT /v2/\S+/blobs/uploads/\S* HTTP')
"""The request that ends the upload of a blob, in the registry's access log."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """
    A work tree, and a warm data folder of ours for it.

    Attributes:
        template: A data folder that holds the base and the wheels, and nothing of the code.
        home: The warm one.
        env: The environment in which the warm one is used.
    """

    name: str
    tree: WorkTree
    template: Path
    home: Path
    env: Mapping[str, str]
    bench: Bench

    def command(self, *words: str, home: Path | None = None) -> Command:
        """Go step by step as far as *words* say; see programs/launch.py."""
        argv = (*self.bench.program("launch.py"), os.fspath(self.info_file), *words)
        env = {**self.env, "XMSLURM_REPRO_HOME": os.fspath(home or self.home)}
        return Command(argv=argv, cwd=self.tree.path, env=env, has_parts=True)

    @property
    def info_file(self) -> Path:
        """What came of the last command."""
        return self.home.with_suffix(".info")

    def info(self) -> dict[str, Any]:
        """Read `info_file`."""
        read: dict[str, Any] = json.loads(self.info_file.read_text())
        return read

    @property
    def is_big(self) -> bool:
        """Whether it holds the file of 50 MB."""
        return self.tree.size_bytes > BIG_FILE_BYTES

    def reset(self, home: Path) -> None:
        """Let *home* hold the base and the wheels, and nothing of the code."""
        remove(home)
        link_copy(self.template, home)


def run(bench: Bench) -> list[Table]:
    """Measure builds, pushes and launches, of a small project and of a big one."""
    need("git", "tar", "gzip", "bwrap")
    env = bench.env("image")
    folder = bench.folder / "image"
    big = make_work_tree(folder / "tree", env, with_big_file=True)
    what = f"{big.file_count} files, {say_bytes(big.size_bytes)}"
    projects = [
        make_project(bench, "quickstart", make_quickstart(folder / "quickstart", env), env),
        make_project(bench, what, big, env),
    ]
    tables = [_builds(project) for project in projects]
    with open_registry() as bed:
        tables += [_pushes(project, bed) for project in projects]
    return [*tables, *(_launches(project) for project in projects)]


def make_project(bench: Bench, name: str, tree: WorkTree, env: Mapping[str, str]) -> Project:
    homes = bench.folder / "image" / "homes"
    stem = tree.path.name
    project = Project(
        name=name,
        tree=tree,
        template=homes / f"{stem}-template",
        home=homes / f"{stem}-warm",
        env=env,
        bench=bench,
    )
    homes.mkdir(parents=True, exist_ok=True)
    base.copy_home(bench, project.template)
    fetch = project.command("fetch", home=project.template)
    run_command(fetch, f"wheels of {name}")
    for forgotten in ("objects", "cache/snapshots", "cache/layers"):
        remove(project.template / forgotten)
    project.reset(project.home)
    return project


def _builds(project: Project) -> Table:
    cold = project.home.with_name(f"{project.home.name}-cold")
    contenders = [
        Contender(
            name="first build",
            run=project.command("build", home=cold),
            setup=lambda: project.reset(cold),
        ),
        Contender(
            name="after a one-line edit",
            run=project.command("build"),
            setup=project.tree.edit,
        ),
    ]
    if project.is_big:
        words = ("bash", "-ec", _TAR)
        env = {**project.env, "LAYER": os.fspath(project.home.with_suffix(".tar.gz"))}
        tar = Command(argv=words, cwd=project.tree.path, env=env)
        contenders.append(Contender(name="tar, gzip -6, sha256sum", run=tar))
    rows = measure(contenders, repetitions=project.bench.repetitions, reference="first build")
    remove(cold)
    note = "Whole processes, the snapshot is part of them; base and wheels are at hand."
    return Table(title=f"Image build: {project.name}", note=note, rows=rows)


# --- pushing -----------------------------------------------------------------------------------


@contextmanager
def open_registry() -> Iterator[Testbed]:
    bed = start_testbed(Parts(slurm=False, accounting=False, ssh=False, nodes=0))
    try:
        yield bed
    finally:
        bed.stop()


def _pushes(project: Project, bed: Testbed) -> Table:
    repository = f"{bed.registry}/bench/{project.tree.path.name}"
    first = _push(project, bed, repository)
    project.tree.edit()
    edited = _push(project, bed, repository)
    facts = (_moved("first push", first), *only_the_edit(edited, first))
    rows = _timed_pushes(project, repository)
    return Table(title=f"Push to a registry: {project.name}", rows=rows, facts=facts)


def _timed_pushes(project: Project, repository: str) -> tuple[Row, ...]:
    numbers = count(1)

    def into_a_new_repository() -> Timing:
        command = project.command("publish", f"{repository}-{next(numbers)}")
        return run_command(command, "first push")

    again = project.command("publish", repository)
    contenders = [
        Contender(name="into a new repository", run=into_a_new_repository),
        Contender(name="again, unchanged", run=again),
        Contender(name="after a one-line edit", run=again, setup=project.tree.edit),
    ]
    return measure(
        contenders, repetitions=project.bench.repetitions, reference="into a new repository"
    )


@dataclass(frozen=True, kw_only=True)
class Push:
    """
    What one push did, as the registry saw it.

    Attributes:
        image: What was pushed, as `Image.to_json` has it.
        uploads: How many blobs it was sent; the image manifest is none.
        stored: The size of what it did not hold before, by SHA-256; the image manifest too.
    """

    image: dict[str, Any]
    uploads: int
    stored: dict[str, int]


def _push(project: Project, bed: Testbed, repository: str) -> Push:
    log = bed.root / "log" / "registry.log"
    held, said = stored_blobs(bed), len(log.read_bytes())
    run_command(project.command("publish", repository), "push")
    lines = log.read_bytes()[said:].decode()
    return Push(
        image=project.info()["image"],
        uploads=len(_UPLOAD.findall(lines)),
        stored={digest: size for digest, size in stored_blobs(bed).items() if digest not in held},
    )


def stored_blobs(bed: Testbed) -> dict[str, int]:
    """Every blob that the registry keeps: documents as well as layers."""
    blobs = bed.root / "registry" / "data" / "docker" / "registry" / "v2" / "blobs" / "sha256"
    return {data.parent.name: data.stat().st_size for data in sorted(blobs.glob("*/*/data"))}


def _moved(what: str, push: Push) -> Fact:
    size = say_bytes(sum(push.stored.values()))
    return Fact(name=what, value=f"{push.uploads} blobs and the image manifest, {size}")


def only_the_edit(edited: Push, first: Push) -> tuple[Fact, ...]:
    """What an edit may move: the code layer that holds the file, the config, the manifest."""
    layers = {layer["blob"]["digest"]: layer for layer in edited.image["layers"]}
    before = {layer["blob"]["digest"] for layer in first.image["layers"]}
    changed = [layer for digest, layer in layers.items() if digest not in before]
    documents = {edited.image[name]["digest"] for name in ("config", "manifest")}
    expected = documents | {layer["blob"]["digest"] for layer in changed}
    is_one_layer = [layer["kind"] for layer in changed] == ["code"]
    is_only_that = {f"sha256:{digest}" for digest in edited.stored} == expected
    holds = is_one_layer and is_only_that and edited.uploads == 2
    return (
        _moved("after a one-line edit", edited),
        _one_layer_and_two_documents(edited.stored, holds=holds),
    )


def _one_layer_and_two_documents(moved: Mapping[str, int], *, holds: bool = True) -> Fact:
    sizes = " + ".join(say_bytes(size) for size in sorted(moved.values(), reverse=True))
    return Fact(
        name="an edit moves one code layer, config, image manifest",
        value=sizes,
        is_promise=True,
        holds=holds and len(moved) == 3,
    )


# --- launching ---------------------------------------------------------------------------------


def _launches(project: Project) -> Table:
    env = {**project.env, "XMSLURM_REPRO_HOME": os.fspath(project.home)}
    ours = project.bench.ours

    def wait() -> None:
        # What a job unpacks must not be in the way of the next repetition.
        words = [ours, "logs", "latest", "--follow"]
        subprocess.run(words, env=env, cwd=project.tree.path, check=True, capture_output=True)

    launch = Contender(
        name="xmslurm-repro launch",
        run=Command(argv=(ours, "launch", "--", "true"), cwd=project.tree.path, env=env),
        setup=project.tree.edit,
        after=wait,
    )
    contenders = [
        launch,
        Contender(
            name="the same, step by step",
            run=project.command("submit", "local", "true"),
            setup=project.tree.edit,
            after=wait,
        ),
    ]
    rows = measure(
        contenders, repetitions=project.bench.repetitions, reference="xmslurm-repro launch"
    )
    held = _delivered(project)
    run_once(launch)
    fact = _one_layer_and_two_documents(
        {name: size for name, size in _delivered(project).items() if name not in held}
    )
    note = "On this machine as a cluster, data folder warm, until the command line returns."
    title = f"Launch after a one-line edit: {project.name}"
    return Table(title=title, note=f"{note}\nGoal: under 1 s.", rows=rows, facts=(fact,))


def _delivered(project: Project) -> dict[str, int]:
    """The blobs in the cluster's state folder, which is in the data folder here."""
    blobs = project.home / "local" / "blobs" / "sha256"
    return {blob.name: blob.stat().st_size for blob in sorted(blobs.iterdir())}
