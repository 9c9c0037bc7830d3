"""From what a launch script packages to images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from xmanager import xm

from xmslurm_repro.errors import NotSupportedError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.dockerfile import BuildOptions
from xmslurm_repro.model.image import LAYOUT, BaseImage, Recipe
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.snapshot import Origin, Snapshot, encode_node
from xmslurm_repro.services.build_base import build_base
from xmslurm_repro.services.prepare import CodeRequest, Plan, Prepared, build_image, plan_image
from xmslurm_repro.services.tools import Tools
from xmslurm_repro.xm.arguments import variables, words
from xmslurm_repro.xm.executables import Dockerfile, DockerImage, PackagedImage, PythonProject
from xmslurm_repro.xm.job_blocks import entrypoint_words


def package(tools: Tools, packageables: Sequence[xm.Packageable]) -> list[PackagedImage]:
    """
    Capture, resolve and build, in the order given; what is asked for twice is done once.

    Raises:
        ReproError: Before anything is submitted, of the capture, the lock, the base or the image.
    """
    prepared: dict[CodeRequest, Prepared] = {}
    executables = []
    for packageable in packageables:
        # Refuse wrong arguments now, not after the images of all the others were built.
        words(packageable.args)
        variables(packageable.env_vars)
    specs = [_known(packageable.executable_spec) for packageable in packageables]
    for packageable, spec in zip(packageables, specs, strict=True):
        if isinstance(spec, PythonProject):
            request = _request(spec)
            if request not in prepared:
                prepared[request] = build_image(tools, plan_image(tools, request))
            executables.append(_executable(packageable, prepared[request], spec.entrypoint, ()))
        elif isinstance(spec, Dockerfile):
            given, entrypoint, default = _built_image(tools, spec)
            executables.append(_executable(packageable, given, entrypoint, default))
        else:
            reference, workdir = (
                (spec.image, spec.workdir)
                if isinstance(spec, DockerImage)
                else (spec.image_path, None)
            )
            given, entrypoint, default = _given_image(tools, reference, workdir)
            executables.append(_executable(packageable, given, entrypoint, default))
    return executables


def _known(spec: xm.ExecutableSpec) -> xm.ExecutableSpec:
    """
    The spec as one that can be packaged.

    Raises:
        NotSupportedError: If there is no such.
    """
    if isinstance(spec, xm.PythonContainer):
        return _python_project(spec)
    if isinstance(spec, xm.Dockerfile):
        folder = Path(spec.path)
        return Dockerfile(dockerfile=Path(spec.dockerfile or folder / "Dockerfile"), context=folder)
    if not isinstance(spec, PythonProject | DockerImage | Dockerfile | xm.Container):
        raise NotSupportedError(
            f"{type(spec).__name__} cannot be packaged here",
            hint="Use uv_container, python_container, docker_container or docker_image.",
        )
    return spec


def _python_project(spec: xm.PythonContainer) -> PythonProject:
    """XManager's own description of a Python project, whose lock is looked for."""
    if spec.docker_instructions:
        raise NotSupportedError(
            f"the docker_instructions of {spec.name} are no file of the project",
            hint="Write a Dockerfile, and make a base_image of it by `xmslurm-repro base build`.",
        )
    if spec.use_deep_module:
        raise NotSupportedError(
            f"use_deep_module of {spec.name}: modules are looked for in {spec.path} itself",
            hint="Give the folder above as `path`, or set PYTHONPATH in env_vars.",
        )
    return PythonProject(
        context=Path(spec.path),
        entrypoint=entrypoint_words(spec.entrypoint),
        base_image=spec.base_image,
    )


def _request(spec: PythonProject) -> CodeRequest:
    return CodeRequest(
        start=spec.context,
        base=spec.base_image,
        lock=spec.lock,
        system_packages=spec.system_packages or None,
        allow_unborn=spec.allow_no_repository,
        allow_no_repository=spec.allow_no_repository,
    )


def _executable(
    packageable: xm.Packageable,
    prepared: Prepared,
    entrypoint: tuple[str, ...],
    default_arguments: tuple[str, ...],
) -> PackagedImage:
    return PackagedImage(
        name=packageable.executable_spec.name,
        prepared=prepared,
        entrypoint=entrypoint,
        default_arguments=default_arguments,
        args=packageable.args,
        env_vars=packageable.env_vars,
    )


def _built_image(
    tools: Tools, spec: Dockerfile
) -> tuple[Prepared, tuple[str, ...], tuple[str, ...]]:
    """What an engine builds of a Dockerfile, as if it had been given, and the snapshot of it."""
    if len(spec.platforms) > 1:
        raise NotSupportedError(
            f"{spec.dockerfile} is to be built for {', '.join(spec.platforms)}: one at a time",
        )
    request = CodeRequest(
        start=spec.context,
        allow_unborn=spec.allow_no_repository,
        allow_no_repository=spec.allow_no_repository,
    )
    options = BuildOptions(
        dockerfile=os.path.relpath(spec.dockerfile, spec.context),
        target=spec.target,
        arguments=tuple(sorted((name, str(spec.build_args[name])) for name in spec.build_args)),
        labels=tuple(sorted((name, str(spec.labels[name])) for name in spec.labels)),
        cache_from=tuple(spec.cache_from),
    )
    # What is captured here has to stay until the experiment's manifest names it.
    tools.guard.hold("dockerfile")
    built = build_base(tools, request, name=f"dockerfile-{spec.name}", options=options)
    image = _as_it_is(tools, built.base, None, built.snapshot)
    for key in (image[0].plan.recipe, image[0].plan.origin):
        tools.guard.hold(key)
    tools.guard.release("dockerfile")
    return image


def _given_image(
    tools: Tools, reference: str, workdir: Path | None
) -> tuple[Prepared, tuple[str, ...], tuple[str, ...]]:
    """The image as it is, with its entrypoint and the arguments that it has by default."""
    base = tools.bases.resolve(reference, progress=tools.progress)
    origin = Origin()
    nothing = Snapshot(
        root=tools.store.put(encode_node(())), file_count=0, size_bytes=0, origin=origin
    )
    return _as_it_is(tools, base, workdir, nothing)


def _as_it_is(
    tools: Tools, base: BaseImage, workdir: Path | None, snapshot: Snapshot
) -> tuple[Prepared, tuple[str, ...], tuple[str, ...]]:
    where = f"config of {base.reference}"
    config = Reader.of_json(tools.blobs.get(base.config.digest), where).maybe("config")
    entrypoint, command = (
        found.texts() if config and (found := config.maybe(name)) else ()
        for name in ("Entrypoint", "Cmd")
    )
    default = config.maybe("WorkingDir") if config else None
    place = str(workdir) if workdir is not None else default.text() if default else ""
    plan = _plan_without_code(tools, base, place or "/", snapshot)
    image = tools.builder.build(plan.recipe, base, None, tools.progress)
    # As a container engine does: the entrypoint always, the command only without arguments.
    return Prepared(plan=plan, image=image), entrypoint, command


def _plan_without_code(tools: Tools, base: BaseImage, workdir: str, snapshot: Snapshot) -> Plan:
    return Plan(
        snapshot=snapshot,
        origin=tools.store.put(canonical_json(snapshot.origin.to_json())),
        lock=None,
        base=base,
        recipe=Recipe(
            layout=LAYOUT,
            base=base.manifest.digest,
            base_reference=base.reference,
            target=None,
            artifacts=(),
            snapshot=None,
        ),
        workdir=workdir,
    )
