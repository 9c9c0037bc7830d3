"""Images beside what container engines build with warm caches, and from push to process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.disk import need
from tests.bench.harness import BenchError, Command, Contender, Timing, measure, run_command
from tests.bench.image import Project, make_project, open_registry, stored_blobs
from tests.bench.report import Fact, Table, say_bytes
from tests.bench.trees import FIRST_LINE, WorkTree, commit_all, count_tree, make_work_tree
from tests.support.certificates import make_certificates
from tests.support.engines import LIMITS, load, must_run, podman_words, run_docker
from tests.support.registries import run_registry
from tests.testbed.bed import Testbed

_BASE, _BENCH, _WHEELS = "lab/base:1", "bench/image", "lab/wheels:1"
_PYPROJECT = """\
[project]
name = "science"
version = "1"
requires-python = ">=3.11"
dependencies = ["numpy", "scipy", "pandas", "matplotlib"]
"""
_TRAIN = f"""\
import numpy
print("started", numpy.__version__)
{FIRST_LINE}
"""
# Wheels and uv are in the image below, so that no network and no large context is measured.
_WHEELS_DOCKERFILE = f"FROM {_BASE}\nCOPY uv /usr/local/bin/uv\nCOPY wheels /wheels\n"
# As uv's guide to Docker has it: dependencies in a layer of their own, then the code.
_DOCKERFILE = f"""\
FROM {_WHEELS}
COPY requirements.txt /app/
RUN uv venv --quiet --python /usr/bin/python3 /venv && VIRTUAL_ENV=/venv uv pip install --quiet \\
    --offline --no-index --find-links /wheels --require-hashes -r /app/requirements.txt
ENV PATH=/venv/bin:/usr/bin:/bin
WORKDIR /app
COPY . /app
"""
_CLASSIC = {"DOCKER_BUILDKIT": "0"}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """
    A container engine that has the base, and how to call it to build, push, pull and run.

    Its builder is the classic one, without BuildKit.
    """

    name: str
    words: tuple[str, ...]
    build: tuple[str, ...]
    push: tuple[str, ...]
    run: tuple[str, ...]

    def command(self, project: Project, *more: str) -> Command:
        """Build the project's Dockerfile."""
        words = (*self.words, *self.build, *more, "--tag", _BENCH, os.fspath(project.tree.path))
        return Command(argv=words, cwd=project.tree.path, env={**os.environ, **_CLASSIC})


def run(bench: Bench) -> Iterator[Table]:
    """Measure ours beside docker and podman."""
    need("git", "docker", "dockerd", "podman", "runc", "skopeo", "ch-image", "ch-run")
    project = _science(bench)
    with ExitStack() as stack:
        engines = _engines(stack, project)
        bed = stack.enter_context(open_registry())
        yield _first_images(project, engines)
        for each in (project, _large(bench, project)):
            yield _edited_images(each, engines)
            yield _pushes(each, engines, bed)
        yield _starts(project, engines, bed, stack)


def _science(bench: Bench) -> Project:
    """A project with NumPy, SciPy, pandas and Matplotlib, and a Dockerfile that says the same."""
    env, path = bench.env("engines"), bench.folder / "engines" / "science"
    uv = os.fspath(Path(sys.executable).parent / "uv")
    if not path.exists():
        path.mkdir(parents=True)
        (path / "pyproject.toml").write_text(_PYPROJECT)
        (path / "train.py").write_text(_TRAIN)
        (path / "Dockerfile").write_text(_DOCKERFILE)
        (path / ".dockerignore").write_text(".git\n")
        export = ("export", "--no-emit-project", "--output-file", "requirements.txt")
        for words in (("lock",), export):
            must_run(uv, "--quiet", *words, "--directory", path)
        commit_all(path, env)
    counted = count_tree(path)
    tree = WorkTree(
        path=path,
        file_count=counted.file_count,
        size_bytes=counted.size_bytes,
        edited="train.py",
    )
    return make_project(bench, "science", tree, env)


def _large(bench: Bench, small: Project) -> Project:
    """The same project in a repository of 5,000 files that holds one of 50 MB, too."""
    path = bench.folder / "engines" / "large"
    tree = make_work_tree(path, small.env, with_big_file=True)
    for name in ("pyproject.toml", "uv.lock", "requirements.txt", "Dockerfile", ".dockerignore"):
        shutil.copyfile(small.tree.path / name, path / name)
    what = f"{tree.file_count} files, {say_bytes(tree.size_bytes)}"
    return make_project(bench, what, tree, small.env)


def _engines(stack: ExitStack, project: Project) -> tuple[Engine, ...]:
    docker = ("docker", "--host", stack.enter_context(run_docker()))
    podman = stack.enter_context(podman_words())
    chroot = ("--layers", "--isolation", "chroot")
    engines = (
        Engine(
            name="docker",
            words=docker,
            build=("build", "--quiet", "--network", "none"),
            push=("push", "--quiet"),
            run=("run", "--rm", "--network", "none"),
        ),
        Engine(
            name="podman",
            words=podman,
            build=("build", "--quiet", *chroot),
            push=("push", "--quiet", "--tls-verify=false"),
            run=("run", "--rm", "--network", "none", "--tls-verify=false", *LIMITS),
        ),
    )
    context = _wheels_context(project)
    for engine in engines:
        load(project.template, _BASE, docker[2] if engine.name == "docker" else podman)
        words = (*engine.words, *engine.build, "--tag", _WHEELS, os.fspath(context))
        must_run(*words, **_CLASSIC)
    return engines


def _wheels_context(project: Project) -> Path:
    """The wheels of the lock and uv, as the context of a build."""
    run_command(project.command("build"), "build")
    context = project.home.with_name("wheels-context")
    wheels = context / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for artifact in project.info()["image"]["recipe"]["artifacts"]:
        blob = project.home / "oci" / "blobs" / "sha256" / artifact["sha256"].partition(":")[2]
        shutil.copyfile(blob, wheels / artifact["filename"])
    shutil.copy(Path(sys.executable).parent / "uv", context / "uv")
    (context / "Dockerfile").write_text(_WHEELS_DOCKERFILE)
    return context


# --- building ----------------------------------------------------------------------------------


def _first_images(project: Project, engines: Sequence[Engine]) -> Table:
    cold = project.home.with_name(f"{project.home.name}-cold")
    ours = Contender(
        name="xmslurm-repro",
        run=project.command("build", home=cold),
        setup=lambda: project.reset(cold),
    )
    theirs = [
        Contender(name=f"{engine.name} build", run=engine.command(project, "--no-cache"))
        for engine in engines
    ]
    rows = measure([ours, *theirs], repetitions=project.bench.repetitions, reference=ours.name)
    note = "From the work tree to an image; base and wheels at hand, no layer there yet."
    return Table(title="First image: NumPy, SciPy, pandas, Matplotlib", note=note, rows=rows)


def _edited_images(project: Project, engines: Sequence[Engine]) -> Table:
    edit = project.tree.edit
    ours = Contender(name="xmslurm-repro", run=project.command("build"), setup=edit)
    theirs = [
        Contender(name=f"{engine.name} build", run=engine.command(project), setup=edit)
        for engine in engines
    ]
    rows = measure([ours, *theirs], repetitions=project.bench.repetitions, reference=ours.name)
    note = "Caches warm. docker is the client of the API; the engine's own work is not its CPU."
    return Table(title=f"Image after a one-line edit: {project.name}", note=note, rows=rows)


# --- pushing -----------------------------------------------------------------------------------


def _pushes(project: Project, engines: Sequence[Engine], bed: Testbed) -> Table:
    contenders = {"xmslurm-repro": _push_ours(project, bed)}
    contenders |= {engine.name: _push_theirs(project, engine, bed) for engine in engines}
    facts = []
    for name, push in contenders.items():
        for what in ("first push", "after a one-line edit"):
            project.tree.edit()
            held = stored_blobs(bed)
            push()
            new = [size for digest, size in stored_blobs(bed).items() if digest not in held]
            value = f"{len(new)} blobs, {say_bytes(sum(new))}"
            facts.append(Fact(name=f"{name}, {what}", value=value))
    rows = measure(
        [
            Contender(name=name, run=push, setup=project.tree.edit)
            for name, push in contenders.items()
        ],
        repetitions=project.bench.repetitions,
        reference="xmslurm-repro",
    )
    note = "Build and push, caches warm, into a registry on loopback."
    title = f"From a one-line edit to the registry: {project.name}"
    return Table(title=title, note=note, rows=rows, facts=tuple(facts))


def _push_ours(project: Project, bed: Testbed) -> Callable[[], Timing]:
    repository = f"{bed.registry}/ours/{project.tree.path.name}"
    command = project.command("publish", repository)
    return lambda: run_command(command, "publish")


def _push_theirs(project: Project, engine: Engine, bed: Testbed) -> Callable[[], Timing]:
    target = f"{bed.registry}/{engine.name}/{project.tree.path.name}:latest"
    words = engine.words
    script = " && ".join(
        " ".join(step)
        for step in (
            (*engine.command(project).argv, ">/dev/null"),
            (*words, "tag", _BENCH, target),
            (*words, *engine.push, target),
        )
    )
    env = {**os.environ, **_CLASSIC}
    command = Command(argv=("bash", "-ec", script), cwd=project.tree.path, env=env)
    return lambda: run_command(command, f"{engine.name} build and push")


# --- starting ----------------------------------------------------------------------------------


def _starts(project: Project, engines: Sequence[Engine], bed: Testbed, stack: ExitStack) -> Table:
    repository = f"{bed.registry}/ours/science"
    contenders = [
        Contender(
            name=engine.name,
            run=_start(project, repository, lambda image, engine=engine: _run(engine, image)),  # type: ignore[misc]
            setup=lambda: _edit_and_build(project),
        )
        for engine in engines
    ]
    contenders.append(_charliecloud(project, stack))
    rows = measure(contenders, repetitions=project.bench.repetitions, reference="docker")
    note = (
        "From an image that is built to the output of its process, after a one-line edit: our push,"
        "\nthe engine's pull by digest, of which it has all but the edit, and its start."
    )
    return Table(title="From push to a started process", note=note, rows=rows)


def _edit_and_build(project: Project) -> None:
    project.tree.edit()
    run_command(project.command("build"), "build")


def _start(
    project: Project, repository: str, start: Callable[[str], None]
) -> Callable[[], Timing | None]:
    def push_and_start() -> None:
        run_command(project.command("publish", repository), "publish")
        start(f"{repository}@{project.info()['image']['manifest']['digest']}")

    return push_and_start


def _run(engine: Engine, image: str) -> None:
    _expect_started((*engine.words, *engine.run, image, "python", "train.py"), os.environ)


def _expect_started(words: Sequence[str], env: Mapping[str, str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    if not done.stdout.startswith("started"):
        raise BenchError(f"{words}: {done.stdout}{done.stderr}")


def _charliecloud(project: Project, stack: ExitStack) -> Contender:
    """ch-image speaks TLS only, so it has a registry of its own."""
    folder = project.home.with_name("charliecloud")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "registry").mkdir(parents=True)
    certificates = make_certificates(folder)
    host = stack.enter_context(run_registry(folder / "registry", certificates=certificates))
    trusting = replace(
        project, env={**project.env, "XMSLURM_REPRO_REGISTRY_CA_FILE": os.fspath(certificates.ca)}
    )
    env = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        "REQUESTS_CA_BUNDLE": os.fspath(certificates.ca),
        "CH_IMAGE_STORAGE": os.fspath(folder / "storage"),
        "USER": "root",
        "PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",  # its Python is the system's
    }

    def start(image: str) -> None:
        pull = ("ch-image", "--no-cache", "pull", image)
        done = subprocess.run(pull, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"{pull}: {done.stdout}{done.stderr}")
        words = ("ch-run", "-s", os.fspath(folder / "storage"), "--set-env=/dev/null", image)
        python = ("--", "/xm/venv/bin/python", "/xm/code/train.py")
        _expect_started((*words, *python), env)

    return Contender(
        name="charliecloud (ch-image)",
        run=_start(trusting, f"{host}/ours/science", start),
        setup=lambda: _edit_and_build(project),
    )
