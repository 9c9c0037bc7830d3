"""Reading all of a store again, and removing what nobody needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.cli import REPOSITORY
from xmslurm_repro.errors import IntegrityError
from xmslurm_repro.model.image import MEDIA_TYPE_MANIFEST, Descriptor
from xmslurm_repro.store.guard import FileGuard
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.objects import DiskObjectStore
from xmslurm_repro.store.upkeep import DiskUpkeep


class Box:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.objects = DiskObjectStore(home / "objects")
        self.blobs = DiskBlobStore(home / "oci")
        self.upkeep = DiskUpkeep(
            objects=self.objects, objects_root=home / "objects", blobs=self.blobs
        )

    def pack(self, names, size=20_000):
        """Many objects, written together, so that they lie in a pack."""
        with self.objects.batch() as batch:
            digests = [batch.put(f"{name} ".encode() * (size // 4)) for name in names]
        self.objects.settle()
        return digests

    def waste(self, needed, blobs=(), grace=0):
        return self.upkeep.waste(set(needed), set(blobs), kept_refs=set(), older_than_seconds=grace)

    def packs(self):
        return sorted((self.home / "objects/packs").glob("*.pack"))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def kinds(waste):
    return sorted(item.kind for item in waste.items)


def test_what_is_whole_is_not_blamed(box: Box):
    box.pack(range(40))
    box.objects.put(b"loose")
    box.blobs.put(b"blob")

    assert [] == list(box.upkeep.damage())


def test_every_damaged_file_is_named(box: Box):
    packed = box.pack(range(40), size=400_000)
    loose, blob = box.objects.put(b"loose"), box.blobs.put(b"blob")
    data = bytearray(box.packs()[0].read_bytes())
    data[20] ^= 0xFF
    box.packs()[0].write_bytes(data)
    box.objects.settle()
    Path(box.objects.loose_path(loose.hex)).write_bytes(b"rubbish")
    box.blobs.path(blob).write_bytes(b"blab")

    found = {damage.digest for damage in box.upkeep.damage()}

    assert {loose, blob} <= found
    assert found - {loose, blob} <= set(packed)
    assert len(found) > 2


def test_a_pack_whose_index_is_damaged_is_named_as_a_whole_and_never_removed(box: Box):
    box.pack(range(40))
    [pack] = box.packs()
    data = bytearray(pack.read_bytes())
    data[-100] ^= 0xFF
    pack.write_bytes(data)

    [damage] = box.upkeep.damage()

    assert damage.digest is None
    assert str(pack) == damage.place
    assert () == box.waste([]).items


@pytest.mark.parametrize("kind", ["folder", "FIFO", "closed"])
def test_what_is_no_readable_pack_is_named_and_stops_nobody(box: Box, kind: str):
    [lost] = box.pack(["lost"], size=400_000)
    [path] = (box.home / "objects/packs").iterdir()
    [kept] = box.pack(["kept"], size=400_000)
    if kind == "closed":
        if os.geteuid() == 0:
            # Nothing is closed to root; a loop of links is to everybody.
            path.unlink()
            path.symlink_to(path)
        else:
            path.chmod(0)
    else:
        path.unlink()
        (path.mkdir if kind == "folder" else lambda: os.mkfifo(path))()
    again = Box(box.home)

    damage = list(again.upkeep.damage())

    assert [str(path)] == [found.place for found in damage]
    assert again.objects.get(kept).startswith(b"kept ")
    assert again.objects.has(kept)
    assert [kept] == list(again.objects.digests())
    assert [] == [item for item in again.waste([kept, lost]).items if item.kind != "repack"]
    with pytest.raises(IntegrityError):
        again.objects.get(lost)


def test_only_what_nobody_needs_goes(box: Box):
    kept, gone = box.pack(range(40)), box.pack(range(100, 140))
    loose, lost = box.objects.put(b"kept"), box.objects.put(b"gone")
    blob, old = box.blobs.put(b"kept"), box.blobs.put(b"gone")
    box.blobs.set_ref(
        "xms-old", Descriptor(media_type=MEDIA_TYPE_MANIFEST, digest=old, size_bytes=4)
    )
    box.blobs.set_ref(
        "base/b", Descriptor(media_type=MEDIA_TYPE_MANIFEST, digest=blob, size_bytes=4)
    )
    needed = {*kept, loose}

    waste = box.waste(needed, {blob})
    freed = box.upkeep.remove(waste, needed)

    assert ["blob", "name", "object", "pack"] == kinds(waste)
    assert 0 < freed
    assert needed == set(box.objects.digests())
    assert {blob} == set(box.blobs.digests())
    assert ["base/b"] == list(box.blobs.refs())
    assert not any(box.objects.has(digest) for digest in [*gone, lost])
    assert [] == list(box.upkeep.damage())
    assert () == box.waste(needed, {blob}).items


def test_a_pack_with_much_garbage_is_written_anew(box: Box):
    digests = box.pack(range(40), size=300_000)
    kept = set(digests[::4])
    data = {digest: box.objects.get(digest) for digest in kept}
    [before] = box.packs()

    waste = box.waste(kept)
    box.upkeep.remove(waste, kept)

    assert ["repack"] == kinds(waste)
    assert before not in box.packs()
    assert data == {digest: box.objects.get(digest) for digest in kept}
    assert kept == set(DiskObjectStore(box.home / "objects").digests())


def test_a_pack_with_little_garbage_stays(box: Box):
    digests = box.pack(range(40))

    assert () == box.waste(digests[4:]).items


def test_a_large_and_an_empty_object_survive_a_repack(box: Box):
    large = os.urandom(9_000_000)
    with box.objects.batch() as batch:
        kept = {batch.put(large), batch.put(b"")}
        batch.put(os.urandom(9_000_000))

    box.upkeep.remove(box.waste(kept), kept)

    assert kept == set(box.objects.digests())
    assert [] == list(box.upkeep.damage())
    assert sorted([b"", large]) == sorted(box.objects.get(digest) for digest in kept)


def test_what_is_new_stays_although_nobody_needs_it(box: Box):
    box.pack(range(40))
    box.objects.put(b"x")
    box.blobs.put(b"y")

    assert () == box.waste([], grace=60).items
    assert 3 == len(box.waste([]).items)


def test_a_reader_that_knew_the_old_pack_finds_the_object_in_the_new_one(box: Box):
    digests = box.pack(range(40))
    kept = set(digests[:5])
    reader = DiskObjectStore(box.home / "objects")
    assert reader.has(digests[0])

    box.upkeep.remove(box.waste(kept), kept)

    assert box.objects.get(digests[0]) == reader.get(digests[0])


@pytest.mark.parametrize("step", ["unlink", "rename", "replace", "fsync"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_killed_at_any_step_everything_that_is_needed_is_still_there(
    box: Box, step: str, count: int
):
    digests = box.pack(range(40), size=300_000)
    box.pack(range(100, 140))
    box.objects.put(b"gone")
    kept = set(digests[::4])
    script = f"""
import os, signal, sys
from pathlib import Path
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.objects import DiskObjectStore
from xmslurm_repro.store.upkeep import DiskUpkeep
home = Path(sys.argv[1])
objects = DiskObjectStore(home / "objects")
upkeep = DiskUpkeep(
    objects=objects, objects_root=home / "objects", blobs=DiskBlobStore(home / "oci")
)
kept = {{Digest.parse(word) for word in sys.argv[2:]}}
waste = upkeep.waste(kept, set(), kept_refs=set(), older_than_seconds=0)
real, left = os.{step}, [{count}]
def dying(*args, **named):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **named)
os.{step} = dying
upkeep.remove(waste, kept)
"""
    words = [sys.executable, "-c", script, str(box.home), *map(str, sorted(kept))]
    subprocess.run(words, cwd=REPOSITORY, check=False)

    again = Box(box.home)
    assert kept <= set(again.objects.digests())
    assert [] == list(again.upkeep.damage())
    again.upkeep.remove(again.waste(kept), kept)
    assert kept == set(again.objects.digests())
    assert [] == list((box.home / "objects/incoming").iterdir())


def test_who_clears_up_is_alone(tmp_path: Path):
    user, other, clearer = (FileGuard(tmp_path / "lock") for _ in range(3))

    with user.using(), other.using(), clearer.alone() as is_alone:
        assert not is_alone
    user.hold("a")
    user.hold("b")
    user.hold("a")
    user.release("a")
    with clearer.alone() as is_alone:
        assert not is_alone
    user.release("b")
    with clearer.alone() as is_alone:
        assert is_alone


def test_who_comes_while_somebody_clears_up_waits(tmp_path: Path):
    user, clearer = FileGuard(tmp_path / "lock"), FileGuard(tmp_path / "lock")
    entered = threading.Event()

    def use():
        with user.using():
            entered.set()

    with clearer.alone() as is_alone:
        thread = threading.Thread(target=use)
        thread.start()
        assert is_alone
        assert not entered.wait(0.2)
    thread.join(10)

    assert entered.is_set()


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path):
    script = """
import sys, time
from pathlib import Path
from xmslurm_repro.store.guard import FileGuard
guard = FileGuard(Path(sys.argv[1]))
guard.hold("x")
print("held", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "lock")],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    process.stdout.readline()
    with FileGuard(tmp_path / "lock").alone() as is_alone:
        assert not is_alone

    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()

    with FileGuard(tmp_path / "lock").alone() as is_alone:
        assert is_alone
