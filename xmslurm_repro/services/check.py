"""Is everything that an experiment needs still here, and whole?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xmslurm_repro.errors import IntegrityError, ReproError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import Image, LayerKind
from xmslurm_repro.model.manifest import Manifest
from xmslurm_repro.services.tools import Tools

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that an experiment needs and that is missing or damaged."""

    what: str
    error: ReproError


def find_faults(tools: Tools, manifest: Manifest) -> list[Fault]:
    """
    Read again every object that *manifest* reaches; collect all that is wrong.

    Images are not looked at here: they can be built again (see `ensure_image`).
    """
    faults: list[Fault] = []
    for what, step in _steps(tools, manifest):
        try:
            tools.store.get(step)
        except IntegrityError as error:
            faults.append(Fault(what=what, error=error))
    for root in manifest.snapshots:
        faults.extend(_tree_faults(tools, root))
    return faults


def _steps(tools: Tools, manifest: Manifest) -> Iterator[tuple[str, Digest]]:
    for number, unit in enumerate(manifest.units, start=1):
        yield f"work unit {number}", unit
    for lock in manifest.locks:
        yield f"lock {lock.path}", lock.digest


def _tree_faults(tools: Tools, root: Digest) -> list[Fault]:
    faults = []
    tree = tools.snapshots.tree(root)
    try:
        entries = list(tree.entries())
    except IntegrityError as error:
        return [Fault(what=f"snapshot {root.short}", error=error)]
    for digest, path in {entry.digest: entry.path for entry in entries}.items():
        try:
            with tree.open(digest) as stream:
                while stream.read(_CHUNK_BYTES):
                    pass
        except IntegrityError as error:
            shown = path.decode("utf-8", "backslashreplace")
            faults.append(Fault(what=f"snapshot {root.short}: {shown}", error=error))
    return faults


def require_whole(tools: Tools, manifest: Manifest, name: str) -> None:
    """
    Refuse to go on with a damaged experiment.

    Raises:
        IntegrityError: Listing every fault at once.
    """
    faults = find_faults(tools, manifest)
    if faults:
        raise IntegrityError(
            f"experiment {name} cannot be replayed: {len(faults)} of its objects are "
            "missing or damaged",
            details=[f"{fault.what}: {fault.error.message}" for fault in faults],
            hint="Copy them from the store of another machine, or from a backup.",
        )


def ensure_image(tools: Tools, image: Image, *, rebuild: bool = False) -> bool:
    """
    Make sure that every blob of *image* is in the local store, building it again where not.

    Args:
        tools: The world.
        image: What the manifest says.
        rebuild: Build it again in any case, from snapshot and wheels alone, past every cache.

    Returns:
        Whether it was built again.

    Raises:
        IntegrityError: If it cannot be built again, or comes out different; naming the layers.
    """
    missing = [layer for layer in image.layers if not tools.blobs.has(layer.blob.digest)]
    if not missing and not rebuild:
        has_documents = all(tools.blobs.has(blob.digest) for blob in (image.config, image.manifest))
        if has_documents:
            return False
    lost = [layer for layer in missing if layer.kind is LayerKind.BASE]
    if lost:
        raise IntegrityError(
            f"the base image {image.recipe.base_reference} is not in the store any more",
            details=[f"missing layer: {layer.blob.digest}" for layer in lost],
            hint=f"Bring it back with `xmslurm-repro base add {image.recipe.base}`.",
        )
    builder = tools.fresh_builder if rebuild else tools.builder
    base = tools.bases.resolve(str(image.recipe.base), progress=tools.progress)
    recipe = image.recipe
    tools.locks.fetch((*recipe.system, *recipe.artifacts), progress=tools.progress)
    root = image.recipe.snapshot
    tree = tools.snapshots.tree(root) if root else None
    built = builder.build(image.recipe, base, tree, tools.progress)
    _require_same(image, built)
    return True


def _require_same(want: Image, got: Image) -> None:
    if want.manifest.digest == got.manifest.digest:
        return
    details = [f"image manifest: {want.manifest.digest}, built again {got.manifest.digest}"]
    after = {layer.title: layer for layer in got.layers}
    for layer in want.layers:
        again = after.pop(layer.title, None)
        if again is None:
            details.append(f"layer {layer.title}: not there any more")
        elif again.diff_id != layer.diff_id:
            details.append(f"layer {layer.title}: {layer.diff_id}, built again {again.diff_id}")
    details.extend(f"layer {title}: new" for title in after)
    raise IntegrityError(
        "the image, built again from its snapshot and lock, is not the same",
        details=details,
        hint="Replay without `--rebuild` to use the image that was kept.",
    )
