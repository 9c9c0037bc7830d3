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
    """

    title: str
    snapshots: tuple[Digest, ...]
    locks: tuple[Lock, ...]
    images: tuple[Image, ...]
    units: tuple[Digest, ...]

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        return {
            "format": f"{_FORMAT}/1",
            "title": self.title,
            "snapshots": [str(digest) for digest in self.snapshots],
            "locks": [lock.to_json() for lock in self.locks],
            "images": [image.to_json() for image in self.images],
            "units": [str(digest) for digest in self.units],
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Manifest:
        """Read what `to_json` wrote."""
        reader.format_version(_FORMAT, newest=1)
        return cls(
            title=reader.field("title").text(),
            snapshots=tuple(item.digest() for item in reader.field("snapshots").items()),
            locks=tuple(Lock.from_json(item) for item in reader.field("locks").items()),
            images=tuple(Image.from_json(item) for item in reader.field("images").items()),
            units=tuple(item.digest() for item in reader.field("units").items()),
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
