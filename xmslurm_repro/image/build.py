"""Assembling an image: base layers untouched, packages, code, and the two documents on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.cache import LayerCache
from xmslurm_repro.image.code import code_layers
from xmslurm_repro.image.conda import CondaLayers
from xmslurm_repro.image.documents import image_config, image_manifest, merged_env, oci_layer
from xmslurm_repro.image.packages import PackageLayers
from xmslurm_repro.image.projects import project_layers
from xmslurm_repro.image.system import script_remarks, system_layers
from xmslurm_repro.model.image import (
    CONDA_LAYOUT,
    LAYOUTS,
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_MANIFEST,
    BaseImage,
    Descriptor,
    Image,
    Layer,
    Recipe,
)
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.ports.progress import Progress, SilentProgress
from xmslurm_repro.ports.store import BlobStore, Tree

_DEPTH_LIMIT = 125
"""More layers than this and docker says ``max depth exceeded``."""


class Builder:
    """
    Assembles images from what is in the local store.

    The same recipe gives the same bytes on any machine: nothing else is looked at.
    """

    def __init__(self, blobs: BlobStore, cache_dir: Path | None) -> None:
        """Keep blobs in *blobs*, and below *cache_dir* which layer came of what; ``None`` builds
        every layer anew.
        """
        self._blobs = blobs
        self._cache = LayerCache(cache_dir, blobs) if cache_dir else None

    def build(
        self, recipe: Recipe, base: BaseImage, tree: Tree | None, progress: Progress
    ) -> Image:
        """
        Assemble the image that *recipe* describes; afterwards all its blobs are in the store.

        It is also named ``xms-<first 32 digits of the config's digest>`` there.

        Args:
            recipe: What decides the image.
            base: The base that it names.
            tree: The snapshot that it names.
            progress: Where to report.

        Raises:
            ImageError: If the recipe does not fit *base* and *tree*, or the packages or names
                in the code cannot be laid out.
            MissingObjectError: If a wheel, the base's config or a file is not in the store.
        """
        _check(recipe, base, tree)
        base_layers = tuple(_as_oci(layer) for layer in base.layers)
        ours = system_layers(recipe.system, base, self._blobs, self._cache, progress)
        conda = CondaLayers(self._blobs, self._cache, progress)
        below = len(base_layers) + len(ours)
        ours += conda.build(recipe.artifacts, recipe.target, below, layout=recipe.layout)
        wheels = [one for one in recipe.artifacts if not one.is_conda]
        packages = PackageLayers(self._blobs, self._cache, progress)
        below = len(base_layers) + len(ours)
        ours += packages.build(wheels, recipe.target, below, layout=recipe.layout)
        ours += project_layers(recipe.projects, recipe.target, self._blobs, self._cache)
        if tree is not None:
            ours += code_layers(tree, self._blobs, self._cache, progress, layout=recipe.layout)
        layers = (*base_layers, *ours)
        if len(layers) > _DEPTH_LIMIT:
            raise ImageError(
                f"the image would have {len(layers)} layers; engines take {_DEPTH_LIMIT}",
                hint=f"Use a base image with fewer layers than {len(base_layers)}.",
            )
        is_conda = recipe.conda_layout is not None
        env = merged_env(base.env, has_python=recipe.target is not None, is_conda=is_conda)
        old = Reader.of_json(self._blobs.get(base.config.digest), f"config of {base.reference}")
        config = self._put(
            MEDIA_TYPE_CONFIG, image_config(old, env, base_layers, ours, layout=recipe.layout)
        )
        manifest = self._put(MEDIA_TYPE_MANIFEST, image_manifest(config, layers))
        self._name(f"xms-{config.digest.hex[:32]}", manifest)
        return Image(
            manifest=manifest,
            config=config,
            architecture=base.architecture,
            layers=layers,
            env=env,
            recipe=recipe,
        )

    def remarks(self, recipe: Recipe) -> tuple[str, ...]:
        """What the packages of *recipe*, all in the store, bring that takes no effect."""
        conda = CondaLayers(self._blobs, self._cache, SilentProgress())
        return conda.remarks(recipe.artifacts, recipe.target)

    def script_remarks(self, packages: Sequence[Artifact]) -> tuple[str, ...]:
        """Which of these Debian packages, all in the store, have scripts that are not run."""
        return script_remarks(packages, self._blobs)

    def _put(self, media_type: str, data: bytes) -> Descriptor:
        digest = self._blobs.put(data)
        return Descriptor(media_type=media_type, digest=digest, size_bytes=len(data))

    def _name(self, name: str, manifest: Descriptor) -> None:
        if self._blobs.ref(name) != manifest:
            self._blobs.set_ref(name, manifest)


def _as_oci(layer: Layer) -> Layer:
    return Layer(
        kind=layer.kind, title=layer.title, diff_id=layer.diff_id, blob=oci_layer(layer.blob)
    )


def _check(recipe: Recipe, base: BaseImage, tree: Tree | None) -> None:
    problems = []
    if recipe.layout not in LAYOUTS:
        known = " and ".join(map(str, LAYOUTS))
        problems.append(f"it is of layout {recipe.layout}; this version writes {known}")
    if recipe.conda_layout not in {None, CONDA_LAYOUT}:
        problems.append(f"it is of conda layout {recipe.conda_layout}, not {CONDA_LAYOUT}")
    if recipe.base != base.manifest.digest:
        problems.append(f"its base is {recipe.base}, not {base.manifest.digest}")
    if (tree.root if tree else None) != recipe.snapshot:
        problems.append(f"its code is {recipe.snapshot}, not {tree.root if tree else None}")
    if recipe.target is None and not all(one.is_conda for one in recipe.artifacts):
        problems.append("it has packages, but its base has no Python that they could be for")
    if recipe.projects and recipe.target is None:
        problems.append("it has projects, but its base has no Python to import them")
    if problems:
        raise ImageError("the recipe does not fit what was given to build it", details=problems)
