"""Putting files into a store, whole, under the names by which they are found."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from xmslurm_repro.store import files
from xmslurm_repro.store.blocks import SUFFIX
from xmslurm_repro.store.unsynced import Unsynced

LOOSE_SUFFIX = ".zst"
PACKS = "packs"


class Publisher:
    """
    Puts files into the store in *root*: among the unsynced ones, if there are such.

    Attributes:
        names: Of files that were not safe on disk when they were published.
        incoming: Where unfinished files lie.
    """

    def __init__(self, root: Path, unsynced: Unsynced | None) -> None:
        self._root = root
        self._unsynced = unsynced
        self.names: set[str] = set()
        self.incoming = root / "incoming"
        self._is_ready = False

    def new_file(self) -> files.Temporary:
        """Begin a file. Clears away what dead writers left."""
        if not self._is_ready:
            files.make_folder(self._root.parent)
            files.make_folder(self.incoming, is_durable=False)
            files.remove_stale(self.incoming)
            self._is_ready = True
        if self._unsynced is not None:
            # Each time: whoever cleared up may have removed it while it was empty.
            self._unsynced.prepare()
        return files.Temporary(self.incoming)

    def pack(self, file: files.Temporary, name: str, *, is_durable: bool = False) -> str:
        """Let a pack be found; return its place."""
        self._publish([(file, f"{name}{SUFFIX}")], is_durable=is_durable)
        return f"{PACKS}/{name}{SUFFIX}"

    def loose(self, objects: Iterable[tuple[bytes, memoryview]]) -> list[str]:
        """Write loose objects; return their places. None is found before all are written."""
        from xmslurm_repro.store.pack_writer import compress  # noqa: PLC0415 (needs a library)

        written: list[tuple[files.Temporary, str]] = []
        try:
            for digest, data in objects:
                file = self.new_file()
                written.append((file, f"{digest.hex()}{LOOSE_SUFFIX}"))
                file.write(compress(data))
                file.flush()
            self._publish(written, is_durable=False)
        finally:
            for file, _ in written:
                file.discard()
        return [f"{name[:2]}/{name}" for _, name in written]

    def _publish(self, written: list[tuple[files.Temporary, str]], *, is_durable: bool) -> None:
        if self._unsynced is not None and not is_durable:
            for file, name in written:
                file.publish(self._unsynced.folder / name)
                self.names.add(name)
            return
        for file, _ in written:
            file.sync()
        folders = set()
        for file, name in written:
            path = self._root / (PACKS if name.endswith(SUFFIX) else name[:2]) / name
            folders.add(path.parent)
            files.make_folder(path.parent)
            file.publish(path)
        for folder in sorted(folders):
            files.sync_folder(folder)
