"""What a launch script can package."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from xmanager import xm

from xmslurm_repro.errors import LockMissingError, NotSupportedError
from xmslurm_repro.xm.executables import Dockerfile, DockerImage, PythonProject
from xmslurm_repro.xm.executors import SlurmSpec
from xmslurm_repro.xm.faults import ArgumentError
from xmslurm_repro.xm.job_blocks import entrypoint_words
from xmslurm_repro.xm.scripts import find_project_root

_CONDA_LOCKS = ("conda-lock.yml", "pixi.lock")


def docker_image(
    *,
    image: str,
    workdir: Path | None = None,
    args: xm.UserArgs | None = None,
    env_vars: Mapping[str, Any] | None = None,
) -> xm.Packageable:
    """
    An image that exists already, run as it is: its entrypoint, with these arguments, in *workdir*
    or else where the image says.

    Its tag is resolved to a digest once, when it is packaged; every run gets that digest.
    """
    return xm.Packageable(
        executable_spec=DockerImage(image=image, workdir=workdir),
        executor_spec=SlurmSpec(),
        args=xm.SequentialArgs.from_collection(args),
        env_vars=dict(env_vars or {}),
    )


def uv_container(  # noqa: PLR0913 (the reference's signature)
    *,
    executor_spec: xm.ExecutorSpec,
    entrypoint: xm.ModuleName | xm.CommandList,
    context: Path | None = None,
    base_image: str | None = None,
    extra_system_packages: Sequence[str] = (),
    extra_python_packages: Sequence[str] = (),
    cache_from: str | Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    ssh: Sequence[str] | Literal[True] | None = None,
    args: xm.UserArgs | None = None,
    env_vars: Mapping[str, Any] | None = None,
    allow_no_repository: bool = False,
) -> xm.Packageable:
    """
    A Python project with ``pyproject.toml`` and ``uv.lock``.

    Args:
        executor_spec: ``Slurm.Spec()``.
        entrypoint: A module, or words that follow ``python``.
        context: The project's folder; found from the launch script where not given.
        base_image: The image below it, with ``{major}``, ``{minor}`` and ``{micro}`` of this
            Python filled in; ``None`` for the configured one.
        extra_system_packages: Debian packages, as `xmslurm-repro base lock` pinned them.
        extra_python_packages: Must be empty: they belong into the lock.
        cache_from: Without effect: every layer is kept, and is named by what is in it.
        labels: Must be empty: an image of ours holds nothing but what decides a run.
        ssh: Must be empty: nothing is fetched over SSH.
        args: Arguments of every job.
        env_vars: Variables of every job.
        allow_no_repository: Whether the project may be outside any git repository.

    Raises:
        ArgumentError: If a file is missing.
        NotSupportedError: If packages are asked for beside the lock, labels, or SSH.
    """
    del cache_from
    _refuse_build_options("uv_container", labels, ssh)
    folder = _folder(context)
    _demand(folder / "pyproject.toml", folder / "uv.lock")
    _refuse_extras(extra_python_packages)
    return xm.Packageable(
        executable_spec=PythonProject(
            context=folder,
            entrypoint=entrypoint_words(entrypoint),
            lock="uv.lock",
            base_image=_base_image(base_image),
            allow_no_repository=allow_no_repository,
            system_packages=tuple(extra_system_packages),
        ),
        executor_spec=executor_spec,
        args=xm.SequentialArgs.from_collection(args),
        env_vars=dict(env_vars or {}),
    )


def python_container(  # noqa: PLR0913 (the reference's signature)
    *,
    executor_spec: xm.ExecutorSpec,
    entrypoint: xm.ModuleName | xm.CommandList,
    context: Path | None = None,
    requirements: Path | None = None,
    base_image: str | None = None,
    extra_system_packages: Sequence[str] = (),
    extra_python_packages: Sequence[str] = (),
    cache_from: str | Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    ssh: Sequence[str] | Literal[True] | None = None,
    args: xm.UserArgs | None = None,
    env_vars: Mapping[str, Any] | None = None,
    allow_no_repository: bool = False,
) -> xm.Packageable:
    """
    A Python project with a requirements file that pins versions and hashes.

    Args:
        executor_spec: ``Slurm.Spec()``.
        entrypoint: A module, or words that follow ``python``.
        context: The project's folder; found from the launch script where not given.
        requirements: The file; ``requirements.txt`` in the folder where not given.
        base_image: As for `uv_container`.
        extra_system_packages: Debian packages, as `xmslurm-repro base lock` pinned them.
        extra_python_packages: Must be empty: they belong into the requirements.
        cache_from: Without effect, as for `uv_container`.
        labels: Must be empty.
        ssh: Must be empty.
        args: Arguments of every job.
        env_vars: Variables of every job.
        allow_no_repository: Whether the project may be outside any git repository.

    Raises:
        ArgumentError: If the file is missing or outside the folder.
        NotSupportedError: If packages are asked for beside it, labels, or SSH.
    """
    del cache_from
    _refuse_build_options("python_container", labels, ssh)
    folder = _folder(context)
    file = (requirements or folder / "requirements.txt").resolve()
    _demand(file)
    if not file.is_relative_to(folder):
        raise ArgumentError(f"the requirements {file} are not in the context {folder}")
    _refuse_extras(extra_python_packages)
    return xm.Packageable(
        executable_spec=PythonProject(
            context=folder,
            entrypoint=entrypoint_words(entrypoint),
            lock=file.relative_to(folder).as_posix(),
            base_image=_base_image(base_image),
            allow_no_repository=allow_no_repository,
            system_packages=tuple(extra_system_packages),
        ),
        executor_spec=executor_spec,
        args=xm.SequentialArgs.from_collection(args),
        env_vars=dict(env_vars or {}),
    )


def docker_container(  # noqa: PLR0913 (the reference's signature)
    *,
    executor_spec: xm.ExecutorSpec,
    dockerfile: Path | None = None,
    context: Path | None = None,
    target: str | None = None,
    ssh: Sequence[str] | Literal[True] | None = None,
    build_args: Mapping[str, str] | None = None,
    cache_from: str | Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    args: xm.UserArgs | None = None,
    env_vars: Mapping[str, Any] | None = None,
    allow_no_repository: bool = False,
) -> xm.Packageable:
    """
    An image that a container engine builds from a Dockerfile, when it is packaged.

    The context is a snapshot of the folder; the result is made canonical and runs by its digest.
    A replay runs the same image and builds nothing.

    Args:
        executor_spec: ``Slurm.Spec()``.
        dockerfile: The file; ``Dockerfile`` in the context where not given.
        context: The folder; found from the launch script where not given.
        target: The stage to build; the last one where not given.
        ssh: Must be empty: builders without BuildKit have no agent.
        build_args: Values of ``ARG``.
        cache_from: Images whose layers the engine may take for steps.
        labels: Of the image, of which they are a part.
        args: Arguments of every job, after the image's entry point.
        env_vars: Variables of every job.
        allow_no_repository: Whether the context may be outside any git repository.

    Raises:
        ArgumentError: If the file is missing or outside the context.
        NotSupportedError: If SSH is asked for.
    """
    if ssh:
        _refuse_ssh("docker_container")
    folder = _folder(context)
    file = Path(dockerfile or folder / "Dockerfile").resolve()
    _demand(file)
    if not file.is_relative_to(folder):
        raise ArgumentError(f"the Dockerfile {file} is not in the context {folder}")
    return xm.Packageable(
        executable_spec=Dockerfile(
            dockerfile=file,
            context=folder,
            target=target,
            build_args=dict(build_args or {}),
            cache_from=[cache_from] if isinstance(cache_from, str) else list(cache_from or ()),
            labels=dict(labels or {}),
            allow_no_repository=allow_no_repository,
        ),
        executor_spec=executor_spec,
        args=xm.SequentialArgs.from_collection(args),
        env_vars=dict(env_vars or {}),
    )


def mamba_container(  # noqa: PLR0913 (the reference's signature)
    *,
    executor_spec: xm.ExecutorSpec,
    entrypoint: xm.ModuleName | xm.CommandList,
    context: Path | None = None,
    environment: Path | None = None,
    base_image: str | None = None,
    cache_from: str | Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    ssh: Sequence[str] | Literal[True] | None = None,
    args: xm.UserArgs | None = None,
    env_vars: Mapping[str, Any] | None = None,
) -> xm.Packageable:
    """
    A Python project in a conda environment, as a lock pins it.

    Args:
        executor_spec: ``Slurm.Spec()``.
        entrypoint: A module, or words that follow ``python``.
        context: The project's folder; found from the launch script where not given.
        environment: The ``environment.yml``, which a ``conda-lock.yml`` or ``pixi.lock`` must lie
            beside, or such a lock itself; ``environment.yml`` in the folder where not given.
        base_image: As for `uv_container`.
        cache_from: Without effect, as for `uv_container`.
        labels: Must be empty.
        ssh: Must be empty.
        args: Arguments of every job.
        env_vars: Variables of every job.

    Raises:
        ArgumentError: If the file is outside the folder.
        LockMissingError: If there is no lock, with the command that makes one.
        NotSupportedError: If labels or SSH are asked for.
    """
    del cache_from
    _refuse_build_options("mamba_container", labels, ssh)
    folder = _folder(context)
    lock = _conda_lock((environment or folder / "environment.yml").resolve(), folder)
    return xm.Packageable(
        executable_spec=PythonProject(
            context=folder,
            entrypoint=entrypoint_words(entrypoint),
            lock=lock.relative_to(folder).as_posix(),
            base_image=_base_image(base_image),
        ),
        executor_spec=executor_spec,
        args=xm.SequentialArgs.from_collection(args),
        env_vars=dict(env_vars or {}),
    )


conda_container = mamba_container


def _conda_lock(environment: Path, folder: Path) -> Path:
    """The lock that *environment* is, or that lies beside it."""
    if not environment.is_relative_to(folder):
        raise ArgumentError(f"the environment {environment} is not in the context {folder}")
    if environment.name.endswith(_CONDA_LOCKS):
        _demand(environment)
        return environment
    beside = [environment.with_name(name) for name in _CONDA_LOCKS]
    found = [lock for lock in beside if lock.is_file()]
    if not found:
        shown = environment.relative_to(folder)
        lock = shown.with_name(_CONDA_LOCKS[0])
        raise LockMissingError(
            f"{environment} names no exact packages, and no lock lies beside it",
            hint=f"Run `conda-lock lock --file {shown} --lockfile {lock}` in {folder} and keep "
            "what it writes in the project.",
            details=[f"looked for: {', '.join(map(str, beside))}"],
        )
    return found[0]


def _refuse_build_options(
    function: str,
    labels: Mapping[str, str] | None,
    ssh: Sequence[str] | Literal[True] | None,
) -> None:
    if labels:
        raise NotSupportedError(
            f"{function} gives images no labels: {', '.join(sorted(labels))}",
            hint="Say it in `experiment.context.annotations`: tags, a note.",
        )
    if ssh:
        _refuse_ssh(function)


def _refuse_ssh(function: str) -> NoReturn:
    raise NotSupportedError(
        f"{function} fetches nothing over SSH",
        hint="Put private packages into the project, or into a wheelhouse that the "
        "configuration names.",
    )


def _refuse_extras(python: Sequence[str]) -> None:
    if python:
        raise NotSupportedError(
            f"extra_python_packages asks for {', '.join(python)}, past the lock",
            hint="Add them to the project's dependencies, so that the lock pins them.",
        )


def _base_image(template: str | None) -> str | None:
    version = sys.version_info
    return template and template.format(
        major=version.major, minor=version.minor, micro=version.micro
    )


def _folder(context: Path | None) -> Path:
    return find_project_root() if context is None else Path(context).resolve()


def _demand(*files: Path) -> None:
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise ArgumentError(f"there is no {' and no '.join(missing)}")
