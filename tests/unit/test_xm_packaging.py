"""From what a launch script packages to images."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from xmanager import xm

from tests.support.world import make_prepared, make_snapshot, make_world
from xmslurm_repro.errors import (
    LockMissingError,
    NotSupportedError,
    SystemPackagesError,
    UsageError,
)
from xmslurm_repro.model.dockerfile import BuildOptions
from xmslurm_repro.model.image import MEDIA_TYPE_CONFIG, Descriptor
from xmslurm_repro.model.lock import Target
from xmslurm_repro.snapshot.tree import StoredTree
from xmslurm_repro.xm import (
    Slurm,
    conda_container,
    docker_container,
    docker_image,
    mamba_container,
    python_container,
    uv_container,
)
from xmslurm_repro.xm.faults import ArgumentError
from xmslurm_repro.xm.packaging import package

TARGET = Target(
    architecture="amd64",
    libc=("glibc", 2, 36),
    python="3.11.2",
    python_executable="/usr/bin/python3",
    source="x",
)
CONFIG = {"config": {"Entrypoint": ["/bin/run"], "Cmd": ["--help"], "WorkingDir": "/work"}}


class Workshop:
    """Tools in memory that note what was asked of them."""

    def __init__(self, config: dict = CONFIG) -> None:
        world, _ = make_world()
        self.said: list[tuple[object, ...]] = []
        config_bytes = json.dumps(config).encode()
        self.base = replace(
            make_prepared(world, {}).plan.base,
            target=TARGET,
            config=Descriptor(
                media_type=MEDIA_TYPE_CONFIG,
                digest=world.blobs.put(config_bytes),
                size_bytes=len(config_bytes),
            ),
        )
        self.image = make_prepared(world, {}).image
        self.store = world.store
        self.tools = replace(world, snapshots=self, bases=self, locks=self, builder=self)

    def find_work_tree(self, start):
        return start

    def capture(self, start, *, allow_no_repository, **_):
        self.said.append(("capture", start, allow_no_repository))
        return make_snapshot(self.store, {"train.py": str(start).encode()})

    def identify(self, start, snapshot):
        return snapshot

    def tree(self, root):
        return root

    def names(self):
        return {}

    def resolve(self, what, folder=None, *, progress=None, lock_path=None, target=None, **asked):
        self.said.append(("lock", lock_path) if folder is not None else ("base", what))
        return None if folder is not None else replace(self.base, reference=what)

    def projects(self, tree, folder, lock):
        return ()

    def fetch(self, artifacts, *, progress):
        pass

    def remarks(self, recipe):
        return ()

    def build(
        self, recipe=None, base=None, tree=None, progress=None, *, name="", folder="", options=None
    ):
        if recipe is None:
            self.said.append(("dockerfile", name, folder, options))
            return replace(self.base, reference=name)
        self.said.append(("build", base.reference, recipe.snapshot is not None, tree is not None))
        return replace(self.image, recipe=recipe)


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "My Project"
    folder.mkdir()
    for name in ("pyproject.toml", "uv.lock", "requirements.txt"):
        (folder / name).write_text("")
    return folder


def uv(project: Path, **more):
    return uv_container(
        executor_spec=Slurm.Spec(),
        entrypoint=more.pop("entrypoint", xm.ModuleName("train")),
        context=project,
        **more,
    )


def test_a_project_is_captured_and_built_and_keeps_its_arguments(workshop, project):
    [executable] = package(
        workshop.tools, [uv(project, args={"lr": 1}, env_vars={"A": "x"}, base_image="mine")]
    )

    assert [
        ("capture", project, False),
        ("base", "mine"),
        ("lock", "uv.lock"),
        ("build", "mine", True, True),
    ] == workshop.said
    assert ("My_Project", ("python", "-m", "train")) == (executable.name, executable.entrypoint)
    assert ({"lr": 1}, {"A": "x"}) == (executable.args.to_dict(), executable.env_vars)
    assert "/xm/code" == executable.prepared.plan.workdir


@pytest.mark.parametrize("lock", ["conda-lock.yml", "pixi.lock"])
def test_a_conda_environment_is_taken_from_the_lock_beside_it(workshop, project, lock):
    (project / "envs").mkdir()
    for name in ("environment.yml", lock):
        (project / "envs" / name).write_text("")
    spec = conda_container(
        executor_spec=Slurm.Spec(),
        entrypoint=xm.ModuleName("train"),
        context=project,
        environment=project / "envs" / "environment.yml",
    )
    package(workshop.tools, [spec])

    assert ("lock", f"envs/{lock}") in workshop.said


def test_a_conda_environment_without_a_lock_is_refused_with_the_command(project):
    with pytest.raises(LockMissingError) as caught:
        mamba_container(
            executor_spec=Slurm.Spec(), entrypoint=xm.ModuleName("train"), context=project
        )
    command = "conda-lock lock --file environment.yml --lockfile conda-lock.yml"
    assert command in caught.value.hint


def test_a_batch_keeps_its_order_and_does_nothing_twice(workshop, project):
    specs = [
        uv(project, args=["a"]),
        docker_image(image="registry.example/tool:1"),
        uv(project, args=["b"], entrypoint=xm.CommandList(["other.py"])),
    ]

    executables = package(workshop.tools, specs)

    assert ["My_Project", "tool", "My_Project"] == [each.name for each in executables]
    assert [["a"], ["b"]] == [each.args.to_list(str) for each in executables[::2]]
    assert ("python", "other.py") == executables[2].entrypoint
    assert executables[0].prepared is executables[2].prepared
    assert 1 == sum(step[0] == "capture" for step in workshop.said)


def test_a_given_image_is_taken_as_it_is(workshop):
    [executable] = package(workshop.tools, [docker_image(image="registry.example/tool:1")])

    plan = executable.prepared.plan

    assert [
        ("base", "registry.example/tool:1"),
        ("build", "registry.example/tool:1", False, False),
    ] == workshop.said
    assert (("/bin/run",), ("--help",)) == (executable.entrypoint, executable.default_arguments)
    assert "/work" == plan.workdir
    assert (0, None) == (plan.snapshot.file_count, plan.recipe.snapshot)


def test_xmanagers_own_container_is_a_given_image(workshop):
    [executable] = package(
        workshop.tools, [xm.container(Slurm.Spec(), image_path="registry.example/tool:1")]
    )

    assert ("/bin/run",) == executable.entrypoint


def test_a_given_image_may_start_in_another_folder(workshop):
    [executable] = package(workshop.tools, [docker_image(image="x", workdir=Path("/elsewhere"))])

    assert "/elsewhere" == executable.prepared.plan.workdir


def test_xmanagers_own_python_container_is_a_project_whose_lock_is_looked_for(workshop, project):
    spec = xm.PythonContainer(
        entrypoint=xm.CommandList(["make data", "python train.py"]),
        path=str(project),
        base_image="b",
    )
    [executable] = package(
        workshop.tools,
        [xm.Packageable(executable_spec=spec, executor_spec=Slurm.Spec(), args={"lr": 1})],
    )

    assert ("base", "b") in workshop.said
    assert ("lock", None) in workshop.said
    assert ("sh", "-e", "-c", 'make data\npython train.py "$@"', "sh") == executable.entrypoint


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            xm.PythonContainer(
                entrypoint=xm.ModuleName("m"), path="/c", docker_instructions=["RUN x"]
            ),
            "docker_instructions of c",
        ),
        (
            xm.PythonContainer(entrypoint=xm.ModuleName("m"), path="/c", use_deep_module=True),
            "use_deep_module of c",
        ),
    ],
)
def test_what_cannot_be_packaged_is_refused_before_anything_is_captured(
    workshop, project, spec, problem
):
    with pytest.raises(NotSupportedError, match=problem) as caught:
        package(
            workshop.tools,
            [uv(project), xm.Packageable(executable_spec=spec, executor_spec=Slurm.Spec())],
        )

    assert caught.value.hint
    assert [] == workshop.said


@pytest.mark.parametrize("config", [{}, {"config": None}, {"config": {"Entrypoint": None}}])
def test_a_given_image_need_not_say_anything(config):
    [executable] = package(Workshop(config).tools, [docker_image(image="x")])

    assert ((), ()) == (executable.entrypoint, executable.default_arguments)
    assert "/" == executable.prepared.plan.workdir


def test_wrong_arguments_are_refused_before_anything_is_captured(workshop, project):
    with pytest.raises(ArgumentError, match="ShellSafeArg"):
        package(workshop.tools, [uv(project), uv(project, args=[xm.ShellSafeArg("$X")])])

    assert [] == workshop.said


def test_what_cannot_be_packaged_is_named(workshop):
    with pytest.raises(NotSupportedError, match="BazelBinary cannot be packaged here"):
        package(workshop.tools, [xm.bazel_binary(Slurm.Spec(), label="//x")])


def test_requirements_may_lie_below_the_project(workshop, project):
    (project / "deps").mkdir()
    (project / "deps" / "pins.txt").write_text("")

    package(
        workshop.tools,
        [
            python_container(
                executor_spec=Slurm.Spec(),
                entrypoint=xm.ModuleName("train"),
                context=project,
                requirements=project / "deps" / "pins.txt",
                allow_no_repository=True,
            )
        ],
    )

    assert ("lock", "deps/pins.txt") in workshop.said
    assert ("capture", project, True) in workshop.said


def test_a_base_image_is_filled_in_with_the_python_that_launches(project):
    spec = uv(project, base_image="py:{major}.{minor}.{micro}").executable_spec

    assert "py:" + ".".join(map(str, sys.version_info[:3])) == spec.base_image


@pytest.mark.parametrize("missing", ["pyproject.toml", "uv.lock"])
def test_a_project_without_its_files_is_refused(project, missing):
    (project / missing).unlink()

    with pytest.raises(ArgumentError, match=f"there is no .*{missing}") as caught:
        uv(project)

    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UsageError)


def test_system_packages_have_to_be_locked(workshop, project):
    workshop.tree = lambda root: StoredTree(workshop.store, root)
    with pytest.raises(SystemPackagesError, match="git libgl1 are not locked") as caught:
        package(workshop.tools, [uv(project, extra_system_packages=["libgl1", "git"])])

    assert "base lock --base" in caught.value.hint


def test_a_dockerfile_is_built_with_a_snapshot_and_runs_as_a_given_image_does(workshop, project):
    (project / "docker").mkdir()
    (project / "docker" / "D").write_text("FROM scratch\n")
    asked = docker_container(
        executor_spec=Slurm.Spec(),
        context=project,
        dockerfile=project / "docker" / "D",
        target="run",
        build_args={"B": 2, "A": "1"},
        labels={"team": "x"},
        cache_from="registry.example/cache",
        args={"lr": 1},
    )
    [executable] = package(workshop.tools, [asked])

    options = BuildOptions(
        dockerfile="docker/D",
        target="run",
        arguments=(("A", "1"), ("B", "2")),
        labels=(("team", "x"),),
        cache_from=("registry.example/cache",),
    )
    assert [
        ("capture", project, False),
        ("dockerfile", "dockerfile-My_Project", "", options),
        ("build", "dockerfile-My_Project", False, False),
    ] == workshop.said
    assert (("/bin/run",), ("--help",)) == (executable.entrypoint, executable.default_arguments)
    plan = executable.prepared.plan
    assert ("/work", 1, None) == (plan.workdir, plan.snapshot.file_count, plan.recipe.snapshot)


def test_xmanagers_own_dockerfile_is_one(workshop, project):
    (project / "Dockerfile").write_text("FROM scratch\n")
    spec = xm.Dockerfile(path=str(project))
    package(workshop.tools, [xm.Packageable(executable_spec=spec, executor_spec=Slurm.Spec())])

    options = BuildOptions(dockerfile="Dockerfile")
    assert ("dockerfile", "dockerfile-My_Project", "", options) in workshop.said


@pytest.mark.parametrize("file", ["Dockerfile", "../Dockerfile"])
def test_a_dockerfile_that_is_not_in_its_context_is_refused(project, tmp_path, file):
    (tmp_path / "Dockerfile").write_text("")
    with pytest.raises(ArgumentError, match="Dockerfile"):
        docker_container(executor_spec=Slurm.Spec(), context=project, dockerfile=project / file)


def test_packages_past_the_lock_are_refused(project):
    with pytest.raises(NotSupportedError, match="extra_python_packages asks for numpy"):
        uv(project, extra_python_packages=["numpy"])


def test_requirements_outside_the_project_are_refused(project, tmp_path):
    (tmp_path / "other.txt").write_text("")

    with pytest.raises(ArgumentError, match="are not in the context"):
        python_container(
            executor_spec=Slurm.Spec(),
            entrypoint=xm.ModuleName("train"),
            context=project,
            requirements=tmp_path / "other.txt",
        )


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("python:3.11", "python"),
        ("registry.example:5000/lab/my-tool@sha256:" + "0" * 64, "my_tool"),
        ("localhost/x", "x"),
        ("---", "job"),
    ],
)
def test_an_image_is_called_by_the_last_part_of_its_reference(image, name):
    assert name == docker_image(image=image).executable_spec.name
