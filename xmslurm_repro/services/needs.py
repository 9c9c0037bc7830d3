"""What experiments need of the stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from xmslurm_repro.errors import FormatError, ReproError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST, Image
from xmslurm_repro.model.manifest import Manifest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.snapshot import DEEPEST, EntryKind, TreeEntry, decode_node
from xmslurm_repro.ports.record import ExperimentRow
from xmslurm_repro.services.lookup import read_manifest
from xmslurm_repro.services.tools import Tools

_DOCUMENTS = (
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_MANIFEST,
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that an experiment needs and that cannot be read, so what it needs is unknown."""

    experiment_id: int | None
    what: str
    error: ReproError


@dataclass(slots=True, kw_only=True)
class Needs:
    """
    What is needed, by whom, for what.

    Attributes:
        objects: By digest: the experiments that need it.
        blobs: Likewise; nobody for what only a named base image needs.
        labels: What each is, for people.
        troubles: What could not be followed: the rest is not all that is needed.
    """

    objects: dict[Digest, set[int]] = field(default_factory=dict)
    blobs: dict[Digest, set[int]] = field(default_factory=dict)
    labels: dict[Digest, str] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)

    def of(self, digest: Digest) -> list[int]:
        """The experiments that need it, in order."""
        found = self.objects.get(digest) or self.blobs.get(digest) or set()
        return sorted(found)


def needs_of(tools: Tools, rows: Sequence[ExperimentRow]) -> Needs:
    """
    All that *rows* and the named base images need, down to the last file.

    What cannot be read is among the troubles; nothing is raised for it.
    """
    finding = _Finding(tools)
    for row in rows:
        finding.experiment(row)
    try:
        refs = tools.blobs.refs()
    except FormatError as error:
        finding.trouble(None, "the names of images", error)
        refs = {}
    for name, found in refs.items():
        # Images that were built go when no experiment needs them; bases were named by people.
        if name.startswith("base/"):
            finding.document(found.digest, f"base image {name.removeprefix('base/')}", None)
    return finding.needs


def with_record(needs: Needs, pieces: Sequence[Digest]) -> Needs:
    """*needs* and the *pieces* that the record can be made again from."""
    for digest in pieces:
        needs.objects.setdefault(digest, set())
        needs.labels.setdefault(digest, "a piece of the record")
    return needs


class _Finding:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self.needs = Needs()
        # Nodes are shared by most snapshots: each is read once.
        self._nodes: dict[Digest, tuple[TreeEntry, ...]] = {}
        self._seen: set[tuple[int, Digest]] = set()

    def experiment(self, row: ExperimentRow) -> None:
        if row.manifest is None:
            return
        self._object(row.manifest, "manifest", row.id)
        try:
            manifest = read_manifest(self._tools.store, row)
        except ReproError as error:
            self.trouble(row.id, "manifest", error)
            return
        for what, digest in self._direct(manifest, row):
            self._object(digest, what, row.id)
        for root in manifest.snapshots:
            self._tree(root, f"snapshot {root.short}", b"", row.id)
        for image in manifest.images:
            self._image(image, row.id)

    def _direct(self, manifest: Manifest, row: ExperimentRow) -> Iterator[tuple[str, Digest]]:
        for number, unit in enumerate(manifest.units, start=1):
            yield f"work unit {number}", unit
        for lock in manifest.locks:
            yield f"lock {lock.path}", lock.digest
        for run in self._tools.record.runs(experiment_id=row.id):
            yield f"work unit {run.receipt.unit_number}", run.receipt.unit
            if run.receipt.origin is not None:
                yield "origin", run.receipt.origin

    def _tree(self, node: Digest, what: str, path: bytes, experiment_id: int) -> None:
        if (experiment_id, node) in self._seen:
            return
        self._seen.add((experiment_id, node))
        shown = path.decode("utf-8", "backslashreplace")
        self._object(node, f"{what}: {shown or '.'}", experiment_id)
        if path.count(b"/") > DEEPEST:
            error = FormatError(f"folders are nested over {DEEPEST} deep")
            self.trouble(experiment_id, f"{what}: {shown[:80]}…", error)
            return
        try:
            entries = self._entries(node)
        except ReproError as error:
            self.trouble(experiment_id, f"{what}: {shown or '.'}", error)
            return
        for entry in entries:
            below = path + entry.name
            if entry.kind is EntryKind.DIRECTORY:
                self._tree(entry.digest, what, below + b"/", experiment_id)
            else:
                name = below.decode("utf-8", "backslashreplace")
                self._object(entry.digest, f"{what}: {name}", experiment_id)

    def _entries(self, node: Digest) -> tuple[TreeEntry, ...]:
        if node not in self._nodes:
            self._nodes[node] = decode_node(self._tools.store.get(node), f"node {node}")
        return self._nodes[node]

    def _image(self, image: Image, experiment_id: int) -> None:
        what = f"image {image.manifest.digest.short}"
        for blob in (image.manifest, image.config):
            self._blob(blob.digest, what, experiment_id)
        for layer in image.layers:
            self._blob(layer.blob.digest, f"{what}: layer {layer.title}", experiment_id)
        for package in image.recipe.system:
            self._blob(package.sha256, f"package {package.filename}", experiment_id)
        for artifact in image.recipe.artifacts:
            self._blob(
                artifact.sha256,
                f"package {artifact.filename}"
                if artifact.is_conda
                else f"wheel {artifact.filename}",
                experiment_id,
            )
        base = f"base image {image.recipe.base_reference}"
        self.document(image.recipe.base, base, experiment_id)

    def document(self, digest: Digest, what: str, experiment_id: int | None) -> None:
        """An image manifest or index, and all that it names and is here."""
        self._blob(digest, what, experiment_id)
        if not self._tools.blobs.has(digest):
            return
        try:
            reader = Reader.of_json(self._tools.blobs.get(digest), f"{what} ({digest})")
            for below in _named_blobs(reader):
                kind = below.maybe("mediaType")
                child = below.field("digest").digest()
                if not self._tools.blobs.has(child) and reader.maybe("manifests"):
                    continue  # An index names platforms that nobody fetched.
                if kind is not None and kind.text() in _DOCUMENTS:
                    self.document(child, what, experiment_id)
                else:
                    self._blob(child, what, experiment_id)
        except ReproError as error:
            self.trouble(experiment_id, what, error)

    def _object(self, digest: Digest, what: str, experiment_id: int) -> None:
        self.needs.objects.setdefault(digest, set()).add(experiment_id)
        self.needs.labels.setdefault(digest, what)

    def _blob(self, digest: Digest, what: str, experiment_id: int | None) -> None:
        who = self.needs.blobs.setdefault(digest, set())
        if experiment_id is not None:
            who.add(experiment_id)
        self.needs.labels.setdefault(digest, what)

    def trouble(self, experiment_id: int | None, what: str, error: ReproError) -> None:
        """Note something that cannot be followed."""
        self.needs.troubles.append(Trouble(experiment_id=experiment_id, what=what, error=error))


def _named_blobs(reader: Reader) -> Iterator[Reader]:
    config, layers, manifests = (reader.maybe(n) for n in ("config", "layers", "manifests"))
    if config is not None:
        yield config
    for items in (layers, manifests):
        if items is not None:
            yield from items.items()
