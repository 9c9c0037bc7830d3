"""
What a loss of power leaves of a store. A file system in a file is copied while it is mounted: the
copy is what was on the disk at that moment, and nothing of what was in memory only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.git_box import GitBox
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.snapshot import StoredTree, capture, witnesses
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.objects import DiskObjectStore
from xmslurm_repro.store.upkeep import DiskUpkeep

pytestmark = pytest.mark.real

Mount = Callable[..., Path]

BEFORE = "00000000-0000-4000-8000-000000000001.here"
AFTER = "00000000-0000-4000-8000-000000000002.here"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a disk of 64 MiB; each further call what the disk *of* would be after a crash."""
    mounts: list[tuple[Path, Path]] = []

    def mount(of: Path | None = None) -> Path:
        image = tmp_path / f"{len(mounts)}.img"
        folder = tmp_path / f"disk{len(mounts)}"
        folder.mkdir()
        if of is not None:
            shutil.copyfile(next(image for image, folder in mounts if folder == of), image)
        else:
            with open(image, "wb") as file:
                file.truncate(64 * 1024 * 1024)
            subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, folder], check=True)
        mounts.append((image, folder))
        return folder

    yield mount
    for _, folder in mounts:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitBox:
    monkeypatch.setattr(witnesses, "RACY_MARGIN_NS", -3_600_000_000_000)
    box = GitBox(tmp_path / "box")
    for number in range(300):
        box.write(f"d{number % 7}/f{number}", f"{number}\n" * (number % 90))
    box.write("large", os.urandom(5_000_000))
    box.commit()
    return box


def taken(box: GitBox, home: Path, boot: str) -> tuple[DiskObjectStore, Snapshot]:
    store = DiskObjectStore(home / "objects", boot=boot)
    found = capture(box.root, store=store, cache_dir=home / "cache", environment=box.environment)
    return store, found


def commit_names(folder: Path) -> None:
    """Let what files are called be on the disk, which says nothing of their bytes."""
    with open(folder / "other", "w") as file:
        file.write("x")
        file.flush()
        os.fsync(file.fileno())


def check_whole(store: DiskObjectStore, home: Path, found: Snapshot) -> None:
    tree = StoredTree(store, found.root)
    for entry in tree.entries():
        with tree.open(entry.digest) as stream:
            assert entry.size_bytes == len(stream.read())
    upkeep = DiskUpkeep(
        objects=store, objects_root=home / "objects", blobs=DiskBlobStore(home / "oci")
    )
    assert [] == list(upkeep.damage())


def test_what_was_settled_survives(disk: Mount, box: GitBox):
    home = disk()
    store, found = taken(box, home, BEFORE)
    store.settle_soon()
    store.settle()

    crashed = disk(home)
    check_whole(DiskObjectStore(crashed / "objects", boot=AFTER), crashed, found)


def test_what_was_not_is_noticed_and_captured_again(disk: Mount, box: GitBox):
    home = disk()
    _, found = taken(box, home, BEFORE)
    commit_names(home)

    crashed = disk(home)
    left = [path for path in (crashed / "objects/unsynced").rglob("*.*") if path.is_file()]
    kept = {path.name: path.stat().st_size for path in left}
    whole = {p.name: p.stat().st_size for p in (home / "objects/unsynced").rglob("*.pack")}
    # This is what the test is about: there is a name, and its bytes are gone.
    assert whole
    assert any(name in kept and kept[name] < size for name, size in whole.items())
    # The memories of the capture were as good as written: those of another boot do not count.
    shutil.copytree(home / "cache", crashed / "cache", dirs_exist_ok=True)
    store, again = taken(box, crashed, AFTER)

    assert found.root == again.root
    check_whole(store, crashed, again)
    store.settle()
    check_whole(DiskObjectStore(disk(crashed) / "objects", boot=AFTER), crashed, again)


def test_power_lost_while_it_is_settled_loses_nothing_that_was_moved(
    disk: Mount, box: GitBox, monkeypatch: pytest.MonkeyPatch
):
    home = disk()
    store, found = taken(box, home, BEFORE)
    real, states = os.fsync, []

    def lose_power(descriptor: int) -> None:
        real(descriptor)
        states.append(disk(home))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lose_power)
        store.settle()

    assert len(states) >= 3
    for crashed in states:
        later, again = taken(box, crashed, AFTER)
        assert found.root == again.root
        check_whole(later, crashed, again)
