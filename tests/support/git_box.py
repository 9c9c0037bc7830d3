"""A git repository of a test's own, that nothing of the machine's configuration reaches."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from xmslurm_repro.model.snapshot import EntryKind, Snapshot
from xmslurm_repro.snapshot import StoredTree, capture
from xmslurm_repro.store.memory import MemoryObjectStore


class GitBox:
    """
    A repository in ``<folder>/tree``, with a home in ``<folder>/home``.

    Attributes:
        root: The work tree.
        store: Where `capture` keeps objects.
    """

    def __init__(self, folder: Path, *, init: bool = True, commit: bool = True) -> None:
        self.folder = folder
        self.root = folder / "tree"
        self.home = folder / "home"
        self.cache = folder / "cache"
        self.store = MemoryObjectStore()
        self.root.mkdir(parents=True)
        self.home.mkdir()
        self.environment = {
            "HOME": str(self.home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "PATH": os.environ["PATH"],
            "LC_ALL": "C",
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@example.org",
            "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z",
            "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z",
        }
        if init:
            self.git("init", "-q", "-b", "main")
            if commit:
                self.git("commit", "-q", "--allow-empty", "-m", "first")

    def git(self, *words: str | bytes, cwd: Path | None = None, check: bool = True) -> bytes:
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *words],
            cwd=cwd or self.root,
            env=self.environment,
            capture_output=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(done.stderr.decode(errors="replace"))
        return done.stdout

    def write(self, path: str | bytes, data: bytes | str = b"", *, mode: int = 0o644) -> Path:
        place = self.root / os.fsdecode(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data.encode() if isinstance(data, str) else data)
        place.chmod(mode)
        return place

    def commit(self, message: str = "more") -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def capture(self, **options: object) -> Snapshot:
        given = {
            "store": self.store,
            "cache_dir": self.cache,
            "environment": self.environment,
            **options,
        }
        return capture(given.pop("start", self.root), **given)

    def paths(self, snapshot: Snapshot | None = None) -> list[bytes]:
        tree = StoredTree(self.store, (snapshot or self.capture()).root)
        return [entry.path for entry in tree.entries()]

    def content(self, path: str) -> bytes | None:
        """What a capture has at *path* now."""
        return StoredTree(self.store, self.capture().root).read(path)

    def kind(self, path: str) -> EntryKind | None:
        """As what a capture has *path* now."""
        entry = StoredTree(self.store, self.capture().root).find(path)
        return entry.kind if entry else None

    def listed(self) -> list[bytes]:
        """What git lists, less what is deleted: the definition that we are held to."""
        names = self.git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        listed = set(names.split(b"\0")) - {b""}
        return sorted(path for path in listed if self._is_there(path))

    def _is_there(self, path: bytes) -> bool:
        """Whether it is a file or link, and nothing on the way to it is a link."""
        place = os.fsencode(self.root)
        *folders, name = path.split(b"/")
        for folder in folders:
            place = os.path.join(place, folder)
            if os.path.islink(place) or not os.path.isdir(place):
                return False
        place = os.path.join(place, name)
        return os.path.lexists(place) and (os.path.islink(place) or not os.path.isdir(place))


def with_submodule(box: GitBox) -> Path:
    """Give *box* the submodule ``libs/one`` and return its work tree."""
    library = GitBox(box.folder / "library")
    library.write("lib.py", "1")
    library.write(".gitignore", "*.o\n")
    library.commit()
    box.git("submodule", "--quiet", "add", str(library.root), "libs/one")
    box.commit()
    return box.root / "libs" / "one"


def wait_a_tick(box: GitBox) -> None:
    """Until the clock that stamps files has moved on."""
    probe = box.folder / "probe"
    probe.touch()
    before = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == before:
        time.sleep(0.001)
        probe.touch()


def fingerprint(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """All that could betray a write: names, types, modes, sizes, bytes, mtimes, ctimes, inodes."""
    found: dict[bytes, tuple[object, ...]] = {}
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in [b".", *folders, *files]:
            path = os.path.join(place, name)
            status = os.lstat(path)
            content: object = None
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                content = Path(os.fsdecode(path)).read_bytes()
            found[path] = (
                status.st_mode,
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
                content,
            )
    return found
