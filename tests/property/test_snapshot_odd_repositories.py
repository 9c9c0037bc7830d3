"""Whatever lies in whatever: a capture has what git lists, and the quick way says the same."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.git_box import GitBox
from tests.support.odd_repositories import (
    STEPS,
    OddRepository,
    listed_everywhere,
    make_library,
)
from xmslurm_repro.errors import UnreadableError
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.snapshot import StoredTree, reading, witnesses

_steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2**32)), min_size=3, max_size=22)
_formats = st.sampled_from(["sha1", "sha1", "sha256"])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module", autouse=True)
def _no_waiting() -> Iterator[None]:
    """Take files for old enough to be remembered and not to be looked at twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(witnesses, "RACY_MARGIN_NS", -3_600_000_000_000)
        patch.setattr(reading, "_TICK_NS", -3_600_000_000_000)
        yield


def captured(box: GitBox) -> Snapshot | None:
    try:
        return box.capture(allow_unborn=True)
    except UnreadableError as error:
        # Such as a submodule whose repository a step removed.
        assert all("does not lead to a repository" in line for line in error.details)  # noqa: PT017
        return None


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=_steps, later=_steps.map(lambda steps: steps[:3]), hash_name=_formats)
def test_a_capture_has_what_git_lists_in_every_repository_below(
    library: Path,
    steps: list[tuple[str, int]],
    later: list[tuple[str, int]],
    hash_name: str,
):
    folder = Path(tempfile.mkdtemp(prefix="xmslurm-odd-"))
    try:
        box = GitBox(folder / "box", init=False)
        (box.home / ".gitconfig").write_text('[protocol "file"]\n\tallow = always\n')
        box.git("init", "-q", "-b", "main", f"--object-format={hash_name}")
        box.git("commit", "-q", "--allow-empty", "-m", "first")
        odd = OddRepository(box, library)
        for step, seed in steps:
            odd.do(step, seed)

        snapshot, listed = captured(box), listed_everywhere(box, odd.root)

        if snapshot is not None and listed is not None:
            check(box, snapshot, listed)
        for step, seed in later:
            odd.do(step, seed)
            quick, cache = captured(box), box.cache
            box.cache = folder / f"{step}{seed}"
            assert quick == captured(box)
            box.cache = cache
    finally:
        shutil.rmtree(folder)


def check(box: GitBox, snapshot: Snapshot, listed: set[bytes]) -> None:
    empty = [os.fsencode(path) for path, why in snapshot.origin.skipped if "not checked out" in why]
    entries = list(StoredTree(box.store, snapshot.root).entries())
    # What lies in a submodule that is not checked out is captured, and git lists none of it.
    found = {e.path for e in entries if not any(e.path.startswith(s + b"/") for s in empty)}
    assert listed == found
    for entry in entries:
        place = os.path.join(os.fsencode(box.root), entry.path)
        mode, data = os.lstat(place).st_mode, box.store.get(entry.digest)
        if stat.S_ISLNK(mode):
            assert ("120000", os.readlink(place)) == (entry.kind.value, data)
        else:
            assert ("100755" if mode & 0o111 else "100644") == entry.kind.value
            assert Path(os.fsdecode(place)).read_bytes() == data
