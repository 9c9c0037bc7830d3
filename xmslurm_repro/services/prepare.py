"""From a work tree to an image: read, resolve, build. Nothing is submitted here."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from xmslurm_repro.errors import ImageError, NoBaseImageError, NoRepositoryError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import CODE_DIR, CONDA_LAYOUT, LAYOUT, BaseImage, Image, Recipe
from xmslurm_repro.model.lock import Lock
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.ports.store import Tree
from xmslurm_repro.services.building import with_built
from xmslurm_repro.services.system_packages import locked_system
from xmslurm_repro.services.tools import Tools
from xmslurm_repro.services.versions import with_versions

DEFAULT_BASE = "default"
"""The local base that is meant when neither the launch nor the configuration names one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRequest:
    """
    Which code is to run in what.

    Attributes:
        start: The folder in which the command is to start; the work tree is found from it.
        base: The base image; ``None`` for the configured one.
        architecture: What the base has to be for, as OCI says it; ``None`` for any.
        lock: Path of the lock file from *start*; ``None`` to look for one.
        extras: Optional dependencies to install as well; ``None`` for the configured ones.
        groups: Dependency groups to install as well; ``None`` for the configured ones.
        build_sdists: Whether packages without a wheel are built; ``None`` for what is configured.
        system_packages: Debian packages to install as well; ``None`` for the configured ones.
        allow_unborn: Whether a repository without a commit will do.
        allow_no_repository: Whether a folder outside any repository will do.
        include: Patterns of what to capture in any case, beside the configured ones.
        exclude: Patterns of what to leave out, beside the configured ones.
    """

    start: Path
    base: str | None = None
    architecture: str | None = None
    lock: str | None = None
    extras: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    build_sdists: bool | None = None
    system_packages: tuple[str, ...] | None = None
    allow_unborn: bool = False
    allow_no_repository: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What an image will be made of, before anything is built.

    Attributes:
        snapshot: The captured work tree.
        origin: Digest of its `Origin` in the store.
        lock: The lock in force, or ``None`` when the project has no dependencies.
        base: The base image, resolved.
        recipe: All that decides the image's bytes.
        workdir: Where the command starts, in the image.
        remarks: What of it may surprise, for people.
    """

    snapshot: Snapshot
    origin: Digest
    lock: Lock | None
    base: BaseImage
    recipe: Recipe
    workdir: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """
    A plan and the image that was built from it.

    Attributes:
        plan: What was planned.
        image: What came of it.
        remarks: What its packages bring that takes no effect, for people.
    """

    plan: Plan
    image: Image
    remarks: tuple[str, ...] = ()


def take_snapshot(tools: Tools, request: CodeRequest) -> Snapshot:
    """
    Capture the work tree, with all that can be said of where it comes from.

    Raises:
        ReproError: Of the capture; see there.
    """
    snapshot = tools.snapshots.capture(
        request.start,
        allow_unborn=request.allow_unborn,
        allow_no_repository=request.allow_no_repository,
        include=request.include,
        exclude=request.exclude,
        progress=tools.progress,
    )
    return tools.snapshots.identify(request.start, snapshot)


def base_reference(tools: Tools, named: str | None) -> str:
    """
    The base that is meant: *named*, the configured one, or the local one called ``default``.

    Raises:
        NoBaseImageError: If there is none.
    """
    reference = named or tools.defaults.base
    if reference is None and DEFAULT_BASE in tools.bases.names():
        reference = DEFAULT_BASE
    if reference is None:
        raise NoBaseImageError(
            "no base image is configured",
            hint="Make one with `xmslurm-repro base create`, or name one with `--base "
            "REGISTRY/NAME:TAG`, or set `base` in xmslurm-repro.toml.",
        )
    return reference


def plan_image(tools: Tools, request: CodeRequest) -> Plan:
    """
    Capture the work tree and resolve the base and the lock; fetch and build nothing yet.

    Raises:
        ReproError: Of the capture, the base or the lock; see there.
    """
    reference = base_reference(tools, request.base)
    # What is found in the store from here on must still be there when it is recorded.
    tools.guard.hold("planning")
    snapshot = take_snapshot(tools, request)
    folder = folder_in_tree(tools, request)
    base = tools.bases.resolve(
        reference, architecture=request.architecture, progress=tools.progress
    )
    tree = tools.snapshots.tree(snapshot.root)
    lock = _resolve_lock(tools, request, tree, folder, base)
    bare = Recipe(
        layout=LAYOUT,
        base=base.manifest.digest,
        base_reference=base.reference,
        target=base.target,
        artifacts=(),
        snapshot=None,
        system=locked_system(tools, tree, folder, request.system_packages, base),
    )
    lock = with_built(tools, lock, base, bare) if lock else None
    artifacts = lock.artifacts if lock else ()
    projects, remarks = with_versions(
        tools, request.start, snapshot, tools.locks.projects(tree, folder, lock)
    )
    recipe = replace(
        bare,
        target=(lock.target if lock else None) or base.target,
        artifacts=artifacts,
        snapshot=snapshot.root,
        projects=projects,
        conda_layout=CONDA_LAYOUT if any(one.is_conda for one in artifacts) else None,
    )
    origin = tools.store.put(canonical_json(snapshot.origin.to_json()))
    for key in (recipe, origin):
        tools.guard.hold(key)
    tools.guard.release("planning")
    return Plan(
        snapshot=snapshot,
        origin=origin,
        lock=lock,
        base=base,
        recipe=recipe,
        workdir=str(PurePosixPath(CODE_DIR) / folder) if folder else CODE_DIR,
        remarks=remarks,
    )


def folder_in_tree(tools: Tools, request: CodeRequest) -> str:
    """Where *start* lies below the work tree's top: ``""`` for the top itself."""
    start = Path(os.path.realpath(request.start))
    try:
        top = Path(os.path.realpath(tools.snapshots.find_work_tree(start)))
    except NoRepositoryError:
        return ""  # The capture has refused this already, or it is what was asked for.
    if not start.is_relative_to(top):
        return ""  # The work tree is elsewhere (core.worktree): git works at its top then.
    folder = start.relative_to(top).as_posix()
    return "" if folder == "." else folder


def _resolve_lock(
    tools: Tools, request: CodeRequest, tree: Tree, folder: str, base: BaseImage
) -> Lock | None:
    wanted = request.lock or tools.defaults.lock
    path = None
    if wanted is not None:
        path = os.path.normpath(str(PurePosixPath(folder) / wanted))
    defaults = tools.defaults
    target = base.target or tools.bases.bare_target(base, progress=tools.progress)
    lock = tools.locks.resolve(
        tree,
        folder,
        lock_path=path,
        target=target,
        extras=defaults.extras if request.extras is None else request.extras,
        groups=defaults.groups if request.groups is None else request.groups,
        with_sdists=(
            defaults.build_sdists if request.build_sdists is None else request.build_sdists
        ),
    )
    if not target.python and (lock is None or not any(one.is_conda for one in lock.artifacts)):
        raise ImageError(
            f"no Python was found in the base image {base.reference}",
            hint="Make a base with Python by `xmslurm-repro base create`.",
        )
    return lock


def build_image(tools: Tools, plan: Plan) -> Prepared:
    """
    Fetch what the plan names and assemble the image. Idempotent.

    Raises:
        FetchError: If packages cannot be had.
        ImageError: If they cannot be laid out.
    """
    # Until the record names what was captured, there is this much time to write it to disk.
    tools.store.settle_soon()
    recipe = plan.recipe
    tools.locks.fetch((*recipe.system, *recipe.artifacts), progress=tools.progress)
    tree = tools.snapshots.tree(plan.snapshot.root)
    return Prepared(
        plan=plan,
        image=tools.builder.build(plan.recipe, plan.base, tree, tools.progress),
        remarks=tools.builder.remarks(plan.recipe),
    )
