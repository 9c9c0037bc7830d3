"""Package layers: one for each big wheel, one for the rest and for what all images have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.cache import LayerCache, cache_key
from xmslurm_repro.image.dealing import MAX_CODE_LAYERS
from xmslurm_repro.image.layer import TreeWriter, build_layer
from xmslurm_repro.image.packing import Packing, pack, verify_blob
from xmslurm_repro.image.pour import pour_all
from xmslurm_repro.image.venv import venv_paths, write_skeleton
from xmslurm_repro.image.wheel import PlannedFile, WheelError, conflicts, plan_wheel
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.image import Layer, LayerKind
from xmslurm_repro.model.lock import Artifact, Target
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore

OWN_LAYER_FROM_BYTES = 1 << 20
"""Wheels of this size or more get a layer of their own, the largest first."""

MAX_WHEEL_LAYERS = 40
MAX_LAYERS = {1: 100, 2: 118}
"""By layout. Docker's limit is 125 (``max depth exceeded``); the rest is for derived images."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Wheel:
    artifact: Artifact
    size_bytes: int
    files: tuple[PlannedFile, ...]

    @property
    def title(self) -> str:
        return f"{self.artifact.name} {self.artifact.version}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Group:
    """The wheels of one layer; with the skeleton, it is the rest layer."""

    wheels: tuple[_Wheel, ...]
    skeleton: bool
    isolated: bool
    cache_kind: str
    cache_key: str
    title: str


class _BadWheelsError(Exception):
    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems


class PackageLayers:
    """Builds the layers of locked packages."""

    def __init__(self, blobs: BlobStore, cache: LayerCache | None, progress: Progress) -> None:
        """Read wheels from *blobs*, where the lock's fetcher put them, and keep layers there."""
        self._blobs = blobs
        self._cache = cache
        self._progress = progress

    def build(
        self,
        artifacts: Sequence[Artifact],
        target: Target | None,
        base_layer_count: int,
        *,
        layout: int,
    ) -> tuple[Layer, ...]:
        """
        Build the layers of *artifacts*, or take them from the cache without reading any wheel.

        Raises:
            ImageError: If wheels are broken or contradict each other; names all of them.
            MissingObjectError: If a wheel is not in the store.
            DigestMismatchError: If a wheel is damaged.
        """
        ordered = sorted(artifacts, key=lambda artifact: (artifact.name, artifact.sha256))
        room = MAX_LAYERS[layout] - 1 - MAX_CODE_LAYERS[layout] - base_layer_count
        most = max(0, min(MAX_WHEEL_LAYERS, room))
        named: list[Json] = [artifact.to_json() for artifact in ordered]
        key = cache_key("packages", most, named, _target_json(target))
        known = self._cache.get("packages", key) if self._cache else None
        if known is not None:
            return known
        wheels = self._plan(ordered, target)
        layers = self._layers(_groups(wheels, target, most), target)
        if self._cache:
            self._cache.put("packages", key, layers)
        return layers

    def _plan(self, artifacts: Sequence[Artifact], target: Target | None) -> list[_Wheel]:
        """Read every wheel's directory and RECORD; report all that cannot be."""
        if target is None:
            return []
        wheels, problems = [], []
        for artifact in artifacts:
            with self._blobs.open(artifact.sha256) as stream:
                try:
                    plan = plan_wheel(stream, target.python_minor)
                except WheelError as error:
                    problems.append(f"{artifact.filename}: {error}")
                    continue
            problems += [f"{artifact.filename}: {problem}" for problem in plan.problems]
            size_bytes = self._blobs.size_bytes(artifact.sha256)
            wheels.append(_Wheel(artifact=artifact, size_bytes=size_bytes, files=plan.files))
        ours = ("the virtual environment itself", venv_paths(target, isolated=True))
        problems += conflicts([ours, *((wheel.artifact.filename, wheel.files) for wheel in wheels)])
        _fail_with(problems)
        return wheels

    def _layers(self, groups: Sequence[_Group], target: Target | None) -> tuple[Layer, ...]:
        total = sum(_poured_bytes(wheel) for group in groups for wheel in group.wheels)
        task = self._progress.start("Packing packages", total=total)
        layers, problems = pack(
            groups, lambda group, packing: self._layer(group, target, packing), task
        )
        _fail_with(problems)
        return layers

    def _layer(
        self, group: _Group, target: Target | None, packing: Packing
    ) -> tuple[Layer | None, list[str]]:
        known = self._cache.get(group.cache_kind, group.cache_key) if self._cache else None
        if known and len(known) == 1:
            packing.task.advance(sum(_poured_bytes(wheel) for wheel in group.wheels))
            return replace(known[0], title=group.title), []

        def fill(writer: TreeWriter) -> None:
            if group.skeleton:
                write_skeleton(writer, target, isolated=group.isolated)
            self._pour(group.wheels, writer, packing)

        try:
            layer = build_layer(self._blobs, LayerKind.PACKAGES, group.title, fill)
        except _BadWheelsError as error:
            return None, error.problems
        if self._cache:
            self._cache.put(group.cache_kind, group.cache_key, [layer])
        return layer, []

    def _pour(self, wheels: Sequence[_Wheel], writer: TreeWriter, packing: Packing) -> None:
        written: set[str] = set()
        problems: list[str] = []
        for wheel in wheels:
            verify_blob(self._blobs, wheel.artifact.sha256, wheel.artifact.filename)
            fresh = [file for file in wheel.files if file.path not in written]
            written.update(file.path for file in fresh)
            with self._blobs.open(wheel.artifact.sha256) as stream:
                found = pour_all(stream, fresh, writer, packing.advance)
            problems += [f"{wheel.artifact.filename}: {what}" for what in found]
        if problems:
            raise _BadWheelsError(problems)


def _groups(wheels: Sequence[_Wheel], target: Target | None, most: int) -> tuple[_Group, ...]:
    minor = target.python_minor if target else None
    big = sorted(
        (wheel for wheel in wheels if wheel.size_bytes >= OWN_LAYER_FROM_BYTES),
        key=lambda wheel: (-wheel.size_bytes, wheel.artifact.name, wheel.artifact.sha256),
    )[:most]
    own = {wheel.artifact.sha256 for wheel in big}
    alone = (
        _Group(
            wheels=(wheel,),
            skeleton=False,
            isolated=True,
            cache_kind="wheel",
            cache_key=cache_key("wheel", str(wheel.artifact.sha256), minor),
            title=wheel.title,
        )
        for wheel in wheels
        if wheel.artifact.sha256 in own
    )
    together = tuple(wheel for wheel in wheels if wheel.artifact.sha256 not in own)
    named: list[Json] = [str(wheel.artifact.sha256) for wheel in together]
    rest = _Group(
        wheels=together,
        skeleton=True,
        isolated=bool(wheels),
        cache_kind="rest",
        cache_key=cache_key("rest", named, bool(wheels), _target_json(target)),
        title=_rest_title(together),
    )
    return (*alone, rest)


def _poured_bytes(wheel: _Wheel) -> int:
    return sum(
        file.content.compress_size for file in wheel.files if not isinstance(file.content, bytes)
    )


def _rest_title(wheels: Sequence[_Wheel]) -> str:
    if len(wheels) == 1:
        return wheels[0].title
    return f"{len(wheels)} packages" if wheels else "folders"


def _target_json(target: Target | None) -> Json:
    # What the skeleton depends on, and no more: two bases with the same Python share the layer.
    return [target.python, target.python_executable] if target else None


def _fail_with(problems: Sequence[str]) -> None:
    if problems:
        raise ImageError(
            "the locked packages cannot be put into an image",
            hint="Lock other versions of the packages named above.",
            details=problems,
        )
