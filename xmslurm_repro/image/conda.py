"""The layers of a conda environment: one for each big package, one for all others.

The environment is in `VENV_DIR`, where packages of PyPI's kind go as well: conda's Python takes
the folder it is in for its prefix, so that nothing else has to be said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO

from xmslurm_repro.errors import FormatError, ImageError
from xmslurm_repro.image.cache import LayerCache, cache_key
from xmslurm_repro.image.conda_archive import CondaArchive, CondaError
from xmslurm_repro.image.conda_package import PREFIX, CondaPlan, PathType, plan_conda
from xmslurm_repro.image.conda_pour import pour_conda
from xmslurm_repro.image.dealing import MAX_CODE_LAYERS
from xmslurm_repro.image.layer import TreeWriter, build_layer
from xmslurm_repro.image.packages import MAX_LAYERS, OWN_LAYER_FROM_BYTES
from xmslurm_repro.image.packing import Packing, pack, verify_blob
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.image import CONDA_LAYOUT, Layer, LayerKind
from xmslurm_repro.model.lock import Artifact, Target
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore

MAX_CONDA_LAYERS = 30

_HISTORY = f"{PREFIX}/conda-meta/history"
"""An empty file, without which conda takes the folder for no environment."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Package:
    artifact: Artifact
    size_bytes: int
    plan: CondaPlan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Group:
    packages: tuple[_Package, ...]
    without: dict[str, tuple[str, ...]]
    is_rest: bool
    title: str

    def key(self, minor: str | None) -> str:
        named: list[Json] = [
            [str(one.artifact.sha256), one.artifact.channel, list(self.without[one.artifact.name])]
            for one in self.packages
        ]
        return cache_key("conda", CONDA_LAYOUT, named, minor, self.is_rest)


class _BadPackagesError(Exception):
    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems


class CondaLayers:
    """Builds the layers of locked conda packages."""

    def __init__(self, blobs: BlobStore, cache: LayerCache | None, progress: Progress) -> None:
        """Read packages from *blobs*, where the lock's fetcher put them, and keep layers there."""
        self._blobs, self._cache, self._progress = blobs, cache, progress

    def build(
        self,
        artifacts: Sequence[Artifact],
        target: Target | None,
        base_layer_count: int,
        *,
        layout: int,
    ) -> tuple[Layer, ...]:
        """
        Build the layers of the conda packages among *artifacts*, or take them from the cache.

        Raises:
            ImageError: If packages are broken or cannot share a prefix; names all of them.
            MissingObjectError: If one is not in the store.
            DigestMismatchError: If one is damaged.
        """
        ours = sorted((one for one in artifacts if one.is_conda), key=lambda one: one.name)
        if not ours:
            return ()
        room = MAX_LAYERS[layout] - 2 - MAX_CODE_LAYERS[layout] - base_layer_count
        most = max(0, min(MAX_CONDA_LAYERS, room))
        minor = python_minor(ours, target)
        named: list[Json] = [one.to_json() for one in ours]
        key = cache_key("conda-all", CONDA_LAYOUT, most, named, minor)
        known = self._cache.get("conda", key) if self._cache else None
        if known is not None:
            return known
        layers = self._layers(_groups(self._plan(ours, minor), most), minor)
        if self._cache:
            self._cache.put("conda", key, layers)
        return layers

    def remarks(self, artifacts: Sequence[Artifact], target: Target | None) -> tuple[str, ...]:
        """What the packages bring that takes no effect in an image; each is read once."""
        ours = sorted((one for one in artifacts if one.is_conda), key=lambda one: one.name)
        minor = python_minor(ours, target)
        named: list[Json] = [str(one.sha256) for one in ours]
        key = cache_key("conda-remarks", CONDA_LAYOUT, named, minor)
        known = self._cache.documents.get("conda-remarks", key) if self._cache else None
        if known is not None:
            with suppress(FormatError):
                return known.field("remarks").texts()
        found = tuple(
            f"{package.artifact.name}: {remark}"
            for package in self._plan(ours, minor)
            for remark in package.plan.remarks
        )
        if self._cache:
            self._cache.documents.put("conda-remarks", key, {"remarks": list(found)})
        return found

    def _plan(self, artifacts: Sequence[Artifact], minor: str | None) -> list[_Package]:
        packages, problems = [], []
        for artifact in artifacts:
            size_bytes = self._blobs.size_bytes(artifact.sha256)
            with (
                self._blobs.open(artifact.sha256) as stream,
                CondaArchive(stream, artifact.filename) as archive,
            ):
                try:
                    plan = plan_conda(archive.info(), minor)
                except CondaError as error:
                    problems.append(f"{artifact.filename}: {error}")
                    continue
            problems += [f"{artifact.filename}: {problem}" for problem in plan.problems]
            packages.append(_Package(artifact=artifact, size_bytes=size_bytes, plan=plan))
        problems += _file_and_folder(packages)
        _fail_with(problems)
        return packages

    def _layers(self, groups: Sequence[_Group], minor: str | None) -> tuple[Layer, ...]:
        sizes = [_size(one) for group in groups for one in group.packages]
        task = self._progress.start("Packing conda packages", total=sum(sizes) or None)
        layers, problems = pack(
            groups, lambda group, packing: self._layer(group, minor, packing), task
        )
        _fail_with(problems)
        return layers

    def _layer(
        self, group: _Group, minor: str | None, packing: Packing
    ) -> tuple[Layer | None, list[str]]:
        key = group.key(minor)
        known = self._cache.get("conda-layer", key) if self._cache else None
        if known and len(known) == 1:
            packing.task.advance(sum(_size(one) for one in group.packages))
            return replace(known[0], title=group.title), []

        def fill(writer: TreeWriter) -> None:
            if group.is_rest:
                writer.parents_of(_HISTORY.encode())
                writer.file(_HISTORY.encode(), 0, False, BytesIO())
            problems = [
                problem
                for package in group.packages
                for problem in self._pour(package, group, writer, packing)
            ]
            if problems:
                raise _BadPackagesError(problems)

        try:
            layer = build_layer(self._blobs, LayerKind.PACKAGES, group.title, fill)
        except _BadPackagesError as error:
            return None, error.problems
        if self._cache:
            self._cache.put("conda-layer", key, [layer])
        return layer, []

    def _pour(
        self, package: _Package, group: _Group, writer: TreeWriter, packing: Packing
    ) -> Iterator[str]:
        artifact = package.artifact
        verify_blob(self._blobs, artifact.sha256, artifact.filename)
        with (
            self._blobs.open(artifact.sha256) as stream,
            CondaArchive(stream, artifact.filename) as archive,
        ):
            found = pour_conda(
                archive,
                artifact,
                package.plan,
                writer,
                without=frozenset(group.without[artifact.name]),
                advance=packing.advance,
            )
        yield from (f"{artifact.filename}: {problem}" for problem in found)


def python_minor(artifacts: Sequence[Artifact], target: Target | None) -> str | None:
    """Such as ``3.12``, if a Python is among the conda packages."""
    has_python = any(one.is_conda and one.name == "python" for one in artifacts)
    return target.python_minor if has_python and target else None


def _size(package: _Package) -> int:
    return sum(file.size_bytes or len(file.content) for file in package.plan.files)


def _groups(packages: Sequence[_Package], most: int) -> tuple[_Group, ...]:
    without = _clobbered(packages)
    big = sorted(
        (one for one in packages if one.size_bytes >= OWN_LAYER_FROM_BYTES),
        key=lambda one: (-one.size_bytes, one.artifact.name),
    )[:most]
    own = {one.artifact.name for one in big}
    alone = [
        _Group(
            packages=(one,),
            without=without,
            is_rest=False,
            title=f"conda {one.artifact.name} {one.artifact.version}",
        )
        for one in packages
        if one.artifact.name in own
    ]
    rest = tuple(one for one in packages if one.artifact.name not in own)
    title = f"{len(rest)} conda package{'' if len(rest) == 1 else 's'}"
    return (*alone, _Group(packages=rest, without=without, is_rest=True, title=title))


def _clobbered(packages: Sequence[_Package]) -> dict[str, tuple[str, ...]]:
    """
    By package, the paths that are another one's: of several that have a path, the one that conda
    links last wins, needed packages first, otherwise by name.
    """
    owners: dict[str, str] = {}
    lost: dict[str, list[str]] = {one.artifact.name: [] for one in packages}
    for package in in_link_order(packages):
        for file in package.plan.files:
            if file.kind is PathType.DIRECTORY:
                continue
            before = owners.get(file.path)
            if before is not None:
                lost[before].append(file.path)
            owners[file.path] = package.artifact.name
    return {name: tuple(sorted(paths)) for name, paths in lost.items()}


def in_link_order(packages: Sequence[_Package]) -> list[_Package]:
    """Every package after those that it needs; circles are cut where they close."""
    by_name = {one.artifact.name: one for one in packages}
    order: dict[str, _Package] = {}
    entered: set[str] = set()
    for name in sorted(by_name):
        stack: list[tuple[str, Iterator[str]]] = []
        if name not in entered:
            entered.add(name)
            stack.append((name, iter(sorted(by_name[name].plan.depends))))
        while stack:
            current, needs = stack[-1]
            following = next((one for one in needs if one in by_name and one not in entered), None)
            if following is None:
                order[current] = by_name[current]
                stack.pop()
            else:
                entered.add(following)
                stack.append((following, iter(sorted(by_name[following].plan.depends))))
    return list(order.values())


def _file_and_folder(packages: Sequence[_Package]) -> list[str]:
    folders: dict[str, str] = {}
    files: dict[str, str] = {}
    for package in packages:
        for file in package.plan.files:
            folder = file.path if file.kind is PathType.DIRECTORY else file.path.rpartition("/")[0]
            if file.kind is not PathType.DIRECTORY:
                files.setdefault(file.path, package.artifact.filename)
            while folder and folder not in folders:
                folders[folder] = package.artifact.filename
                folder = folder.rpartition("/")[0]
    return [
        f"/{PREFIX}/{path} is a file to {owner} and a folder to {folders[path]}"
        for path, owner in files.items()
        if path in folders
    ]


def _fail_with(problems: Sequence[str]) -> None:
    if problems:
        raise ImageError(
            "the locked conda packages cannot be put into an image",
            hint="Lock other versions of the packages named above.",
            details=list(problems),
        )
