"""Looking after what is kept: reading it all again, and removing what nobody needs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from xmslurm_repro.errors import ReproError
from xmslurm_repro.model.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """
    A file of the store that is not what its name says.

    Attributes:
        digest: What is damaged; ``None`` for a whole pack whose index cannot be read.
        place: The file.
        error: What is wrong.
    """

    digest: Digest | None
    place: str
    error: ReproError


@dataclass(frozen=True, slots=True, kw_only=True)
class WasteItem:
    """
    Something that can go.

    Attributes:
        kind: ``object``, ``pack``, ``blob``, ``name`` (of an image that goes), or ``repack`` for
            a pack of which only a part is needed.
        name: Its digest or name.
        place: The file.
        size_bytes: How much is gained, about.
    """

    kind: str
    name: str
    place: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waste:
    """All that can go."""

    items: tuple[WasteItem, ...]

    @property
    def size_bytes(self) -> int:
        """How much is gained, about."""
        return sum(item.size_bytes for item in self.items)


class Upkeep(Protocol):
    """Looks after objects and blobs alike."""

    def damage(self) -> Iterator[Damage]:
        """Read every file of both stores again; say what is not what its name says."""
        ...

    def waste(
        self,
        objects: Set[Digest],
        blobs: Set[Digest],
        *,
        kept_refs: Set[str],
        older_than_seconds: int,
    ) -> Waste:
        """
        What can go. Removes nothing.

        Args:
            objects: Which objects are needed.
            blobs: Which blobs are needed.
            kept_refs: Names of images that stay.
            older_than_seconds: What was written since stays.
        """
        ...

    def remove(self, waste: Waste, objects: Set[Digest]) -> int:
        """
        Remove *waste*, and write packs anew without what is not in *objects*.

        Killed at any point, everything that is needed is still there. Nobody may use the stores
        meanwhile: see `StoreGuard.alone`.

        Returns:
            How many bytes were freed.
        """
        ...


class StoreGuard(Protocol):
    """Keeps those who use what is in the stores apart from those who remove it."""

    def using(self) -> AbstractContextManager[None]:
        """Nothing is removed inside the block. Waits while somebody removes."""
        ...

    def hold(self, key: Hashable) -> None:
        """Nothing is removed until `release` of *key*, or the end of the process. Idempotent."""
        ...

    def release(self, key: Hashable) -> None:
        """Let go of what `hold` of *key* kept. Idempotent."""
        ...

    def alone(self) -> AbstractContextManager[bool]:
        """Whether nobody uses the stores; if so, nobody does inside the block."""
        ...


class NoGuard:
    """A `StoreGuard` where nobody else can be."""

    @contextmanager
    def using(self) -> Iterator[None]:
        """See `StoreGuard`."""
        yield

    def hold(self, key: Hashable) -> None:
        """See `StoreGuard`."""

    def release(self, key: Hashable) -> None:
        """See `StoreGuard`."""

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """See `StoreGuard`."""
        yield True
