"""The OCI image that a job runs, and the recipe that decides its bytes.

Where things are in every image we assemble (in all layouts, frozen):

- ``/xm/venv``: the locked packages, shaped like a virtual environment.
- ``/xm/code``: the snapshot.
- ``/xm/outputs``, ``/xm/pycache``: empty folders, mount points at run time.

``/xm/inputs`` is there at run time only, in jobs that have inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.lock import Artifact, Target
from xmslurm_repro.model.project import Project
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.system import system_artifact, system_json

LAYOUT = 2
"""The version of our image layout. A change of any byte that we write needs a new one."""

LAYOUTS = (1, 2)
"""Those that are still written, for recipes that ask for them: what was launched is replayed."""

CONDA_LAYOUT = 1
"""The version of how conda packages are laid out, likewise."""

VENV_DIR = "/xm/venv"
CODE_DIR = "/xm/code"
OUTPUTS_DIR = "/xm/outputs"
PYCACHE_DIR = "/xm/pycache"
INPUTS_DIR = "/xm/inputs"

MEDIA_TYPE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_TYPE_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPE_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_TYPE_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


class LayerKind(Enum):
    """Where a layer comes from."""

    BASE = "base"
    PACKAGES = "packages"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A blob as OCI names it: media type, SHA-256 of its stored bytes, size."""

    media_type: str
    digest: Digest
    size_bytes: int

    def to_json(self) -> dict[str, Json]:
        """Write it the way OCI does; the inverse of `from_json`."""
        return {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size_bytes,
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Descriptor:
        """Read an OCI descriptor; members that we do not know are ignored."""
        return cls(
            media_type=reader.field("mediaType").text(),
            digest=reader.field("digest").digest(),
            size_bytes=reader.field("size").integer(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """
    One layer of an image.

    Attributes:
        kind: Base, packages or code.
        title: For people: ``numpy 2.1.0``, ``code 3 of 8``.
        diff_id: SHA-256 of the uncompressed tar: its identity.
        blob: The compressed bytes that are moved.
    """

    kind: LayerKind
    title: str
    diff_id: Digest
    blob: Descriptor

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        return {
            "kind": self.kind.value,
            "title": self.title,
            "diff_id": str(self.diff_id),
            "blob": self.blob.to_json(),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Layer:
        """Read what `to_json` wrote."""
        kind = reader.field("kind")
        try:
            known = LayerKind(kind.text())
        except ValueError as error:
            raise kind.fail("base, packages or code") from error
        return cls(
            kind=known,
            title=reader.field("title").text(),
            diff_id=reader.field("diff_id").digest(),
            blob=Descriptor.from_json(reader.field("blob")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """
    A base image, resolved: from here on it goes by digest only.

    Attributes:
        reference: What the user wrote, such as ``default`` or ``registry.example/py:3.11``.
        manifest: Descriptor of its OCI (or Docker schema 2) image manifest.
        config: Descriptor of its config.
        target: The platform that it offers to packages; ``None`` when it has no Python.
        env: The environment that its config sets, in its order.
        layers: Its layers, lowest first, kept as they are.
    """

    reference: str
    manifest: Descriptor
    config: Descriptor
    architecture: str
    target: Target | None
    env: tuple[tuple[str, str], ...]
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """
    All that decides an image's bytes; building it twice gives one digest.

    Attributes:
        layout: `LAYOUT` at the time, one of `LAYOUTS`.
        base: SHA-256 of the base's image manifest.
        base_reference: What the user called the base when it was resolved. For people.
        target: The platform that the packages were chosen for; ``None`` when there are none.
        artifacts: The wheels and conda packages, sorted by name.
        snapshot: Root of the code; ``None`` for an image without code of ours.
        projects: Local projects that are shown as installed, sorted by name. Written only where
            there are any: recipes from before there was such a thing keep their bytes.
        conda_layout: `CONDA_LAYOUT` at the time, where there are conda packages; likewise.
        system: Debian packages beyond the base's, sorted by name; likewise.
    """

    layout: int
    base: Digest
    base_reference: str
    target: Target | None
    artifacts: tuple[Artifact, ...]
    snapshot: Digest | None
    projects: tuple[Project, ...] = ()
    conda_layout: int | None = None
    system: tuple[Artifact, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        document: dict[str, Json] = {
            "layout": self.layout,
            "base": str(self.base),
            "base_reference": self.base_reference,
            "target": self.target.to_json() if self.target else None,
            "artifacts": [artifact.to_json() for artifact in self.artifacts],
            "snapshot": str(self.snapshot) if self.snapshot else None,
        }
        if self.projects:
            document["projects"] = [project.to_json() for project in self.projects]
        if self.conda_layout is not None:
            document["conda_layout"] = self.conda_layout
        if self.system:
            document["system"] = [system_json(package) for package in self.system]
        return document

    @classmethod
    def from_json(cls, reader: Reader) -> Recipe:
        """Read what `to_json` wrote."""
        target, snapshot = reader.maybe("target"), reader.maybe("snapshot")
        projects, conda_layout = reader.maybe("projects"), reader.maybe("conda_layout")
        system = reader.maybe("system")
        return cls(
            layout=reader.field("layout").integer(),
            base=reader.field("base").digest(),
            base_reference=reader.field("base_reference").text(),
            target=Target.from_json(target) if target else None,
            artifacts=tuple(Artifact.from_json(item) for item in reader.field("artifacts").items()),
            snapshot=snapshot.digest() if snapshot else None,
            projects=tuple(map(Project.from_json, projects.items())) if projects else (),
            conda_layout=conda_layout.integer() if conda_layout else None,
            system=tuple(map(system_artifact, system.items())) if system else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """
    An assembled image with its three digests, all stable.

    Attributes:
        manifest: Descriptor of the OCI image manifest: what is pulled.
        config: Descriptor of the config: the image id of docker and podman.
        architecture: As OCI says it.
        layers: All layers, lowest first, each with its DiffID.
        env: The environment that the config sets.
        recipe: What it was built from.
    """

    manifest: Descriptor
    config: Descriptor
    architecture: str
    layers: tuple[Layer, ...]
    env: tuple[tuple[str, str], ...]
    recipe: Recipe

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        return {
            "manifest": self.manifest.to_json(),
            "config": self.config.to_json(),
            "architecture": self.architecture,
            "layers": [layer.to_json() for layer in self.layers],
            "env": [f"{name}={value}" for name, value in self.env],
            "recipe": self.recipe.to_json(),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Image:
        """Read what `to_json` wrote."""
        return cls(
            manifest=Descriptor.from_json(reader.field("manifest")),
            config=Descriptor.from_json(reader.field("config")),
            architecture=reader.field("architecture").text(),
            layers=tuple(Layer.from_json(item) for item in reader.field("layers").items()),
            env=tuple(split_variable(text) for text in reader.field("env").texts()),
            recipe=Recipe.from_json(reader.field("recipe")),
        )

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob that the image consists of: layers, config, image manifest; no duplicates."""
        every = (*(layer.blob for layer in self.layers), self.config, self.manifest)
        return tuple({blob.digest: blob for blob in every}.values())


def split_variable(text: str) -> tuple[str, str]:
    """Part ``NAME=value``."""
    name, _, value = text.partition("=")
    return name, value
