"""Pushing behind the port that services see."""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.image.registry import RegistryClient
from xmslurm_repro.model.image import Image
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryPublisher:
    """
    A `Publisher`.

    Attributes:
        client: Speaks to registries.
        blobs: Holds the images.
    """

    client: RegistryClient
    blobs: BlobStore

    def publish(self, image: Image, repository: str, *, progress: Progress) -> int:
        """
        Push what *repository* does not have; the base's layers are mounted where the base came
        from the same registry. Returns the number of bytes moved.

        Raises:
            RegistryError: If the registry refuses or fails.
        """
        report = self.client.push(
            image.manifest,
            self.blobs,
            repository,
            mount_from=_mountable(image.recipe.base_reference),
            progress=progress,
        )
        return report.moved_bytes


def _mountable(base_reference: str) -> tuple[str, ...]:
    """The base's repository; bases that have only a local name come from none."""
    return (base_reference,) if "/" in base_reference and "://" not in base_reference else ()
