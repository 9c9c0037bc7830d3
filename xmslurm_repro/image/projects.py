"""The layer that makes local projects look installed: commands, metadata, import paths.

Their modules stay in the snapshot below ``/xm/code``, as an editable install leaves them where
they are. The layer lies above the packages', so a project's command hides a package's.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from packaging.utils import canonicalize_name

from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.cache import LayerCache, cache_key
from xmslurm_repro.image.layer import TreeWriter, build_layer
from xmslurm_repro.image.record import render_record, sha256_line
from xmslurm_repro.image.scripts import console_scripts
from xmslurm_repro.image.venv import venv_paths
from xmslurm_repro.image.wheel import INSTALLER, VENV
from xmslurm_repro.model.image import CODE_DIR, Layer, LayerKind
from xmslurm_repro.model.lock import Target
from xmslurm_repro.model.project import Project
from xmslurm_repro.ports.store import BlobStore

PTH_NAME = "__xmslurm_projects__.pth"

_ON_THE_PATH_ANYWAY = ("", "src")


def project_layers(
    projects: Sequence[Project], target: Target | None, blobs: BlobStore, cache: LayerCache | None
) -> tuple[Layer, ...]:
    """
    Build the layer of *projects*; none where there are none.

    Raises:
        ImageError: If a command cannot be written; names all of them.
    """
    if not projects or target is None:
        return ()
    ordered = sorted(projects, key=lambda project: canonicalize_name(project.name))
    key = cache_key("projects", [one.to_json() for one in ordered], target.python_minor)
    known = cache.get("projects", key) if cache else None
    if known is not None:
        return known
    files = _files(ordered, target)

    def fill(writer: TreeWriter) -> None:
        for path in sorted(files, key=str.encode):
            content, executable = files[path]
            writer.parents_of(path.encode())
            writer.file(path.encode(), len(content), executable, BytesIO(content))

    one = ordered[0]
    alone = len(ordered) == 1
    title = f"project {one.name} {one.version}" if alone else f"{len(ordered)} projects"
    layer = build_layer(blobs, LayerKind.PACKAGES, title, fill)
    if cache:
        cache.put("projects", key, [layer])
    return (layer,)


def _files(projects: Sequence[Project], target: Target) -> dict[str, tuple[bytes, bool]]:
    """Content and executability by path."""
    site = f"{VENV}/lib/python{target.python_minor}/site-packages"
    taken = {f"{VENV}/bin/{name}": "Python" for name in _own_commands(target)}
    files: dict[str, tuple[bytes, bool]] = {}
    problems: list[str] = []
    for project in projects:
        try:
            scripts = console_scripts(_entry_points_text(project))
        except ValueError as error:
            problems.append(f"{project.name}: {error}")
            continue
        for name, content in scripts.items():
            path = f"{VENV}/bin/{name}"
            owner = taken.setdefault(path, project.name)
            if owner != project.name:
                problems.append(f"{project.name}: {name} is a command of {owner} already")
            files[path] = (content, True)
        files.update(_metadata(project, site, tuple(scripts.items())))
    if problems:
        raise ImageError(
            "the commands of the project cannot be put into the image",
            hint="Change them in [project.scripts] of pyproject.toml.",
            details=problems,
        )
    sources = (source for project in projects for source in project.sources)
    lines = [f"{CODE_DIR}/{s}\n" for s in dict.fromkeys(sources) if s not in _ON_THE_PATH_ANYWAY]
    if lines:
        files[f"{site}/{PTH_NAME}"] = ("".join(lines).encode(), False)
    return files


def _own_commands(target: Target) -> list[str]:
    prefix = f"{VENV}/bin/"
    paths = (file.path for file in venv_paths(target, isolated=True))
    return [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]


def _metadata(
    project: Project, site: str, scripts: Sequence[tuple[str, bytes]]
) -> dict[str, tuple[bytes, bool]]:
    """The ``.dist-info`` by which ``importlib.metadata`` and pip find *project*."""
    info = f"{canonicalize_name(project.name).replace('-', '_')}-{project.version}.dist-info"
    held = {
        f"{info}/INSTALLER": INSTALLER,
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: {project.name}\nVersion: {project.version}\n"
        ).encode(),
    }
    if project.entry_points:
        held[f"{info}/entry_points.txt"] = _entry_points_text(project).encode()
    lines = [(path, sha256_line(data), str(len(data))) for path, data in held.items()]
    lines += [(f"../../../bin/{name}", sha256_line(data), str(len(data))) for name, data in scripts]
    held[f"{info}/RECORD"] = render_record([*lines, (f"{info}/RECORD", "", "")])
    return {f"{site}/{path}": (data, False) for path, data in held.items()}


def _entry_points_text(project: Project) -> str:
    groups: dict[str, list[str]] = {}
    for point in project.entry_points:
        groups.setdefault(point.group, []).append(f"{point.name} = {point.value}\n")
    return "\n".join(f"[{group}]\n{''.join(groups[group])}" for group in sorted(groups))
