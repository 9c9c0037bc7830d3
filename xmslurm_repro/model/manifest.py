"""The experiment: all that was meant, and nothing of what happened."""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import Image
from xmslurm_repro.model.lock import Lock
from xmslurm_repro.model.reader import Reader

_FORMAT = "xmslurm-manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """
    An experiment. No time, no user, no host, no job id, no tool version: launching the same
    tree twice gives the same digest, which is BLAKE3 of `to_json` in canonical form.

    Attributes:
        title: For people.
        snapshots: Roots of the captured trees, sorted.
        locks: The dependency locks, sorted by digest.
        images: The images that its jobs run, sorted by digest.
        units: Digests of its work units, in the order in which they were added.
        left_out: For each snapshot that lacks something of its work tree, by root: the paths,
            each with the reason. Sorted.
    """

    title: str
    snapshots: tuple[Digest, ...]
    locks: tuple[Lock, ...]
    images: tuple[Image, ...]
    units: tuple[Digest, ...]
    left_out: tuple[tuple[Digest, tuple[tuple[str, str], ...]], ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        document: dict[str, Json] = {
            "format": f"{_FORMAT}/1",
            "title": self.title,
            "snapshots": [str(digest) for digest in self.snapshots],
            "locks": [lock.to_json() for lock in self.locks],
            "images": [image.to_json() for image in self.images],
            "units": [str(digest) for digest in self.units],
        }
        # Only where there is any: other manifests keep their bytes.
        if self.left_out:
            document["left_out"] = {str(root): dict(paths) for root, paths in self.left_out}
        return document

    @classmethod
    def from_json(cls, reader: Reader) -> Manifest:
        """Read what `to_json` wrote."""
        reader.format_version(_FORMAT, newest=1)
        left_out = reader.maybe("left_out")
        return cls(
            title=reader.field("title").text(),
            snapshots=tuple(item.digest() for item in reader.field("snapshots").items()),
            locks=tuple(Lock.from_json(item) for item in reader.field("locks").items()),
            images=tuple(Image.from_json(item) for item in reader.field("images").items()),
            units=tuple(item.digest() for item in reader.field("units").items()),
            left_out=_left_out(left_out) if left_out else (),
        )

    def image(self, digest: Digest) -> Image:
        """
        The image whose image manifest is *digest*.

        Raises:
            KeyError: If no image of the experiment has it.
        """
        for image in self.images:
            if image.manifest.digest == digest:
                return image
        raise KeyError(str(digest))


def _left_out(reader: Reader) -> tuple[tuple[Digest, tuple[tuple[str, str], ...]], ...]:
    found = []
    for root, paths in reader.members():
        try:
            digest = Digest.parse(root)
        except ValueError as error:
            raise reader.fail("digests of snapshots as names") from error
        found.append((digest, tuple(paths.text_map().items())))
    return tuple(found)
