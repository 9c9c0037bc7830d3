"""Whatever is done to a repository, in whatever order, the snapshot has the files that git has."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.git_box import GitBox, wait_a_tick
from xmslurm_repro.snapshot import StoredTree, witnesses
from xmslurm_repro.snapshot.identity import identify

_PATHS = ("a", "b.log", "d/a", "d/b.log", "d/e/c", "x y", "d/.gitignore", ".gitignore")
_STEPS = (
    "write", "delete", "chmod", "link", "add", "intend", "forget", "assume", "skip", "split",
    "unsplit", "commit", "ignore", "exclude", "version 2", "version 4", "detach", "touch",
)  # fmt: skip

_steps = st.lists(
    st.tuples(st.sampled_from(_STEPS), st.sampled_from(_PATHS)), min_size=3, max_size=16
)


_edits = st.lists(
    st.tuples(st.sampled_from((*_STEPS, "edit", "edit", "edit", "edit")), st.sampled_from(_PATHS)),
    min_size=3,
    max_size=12,
)


def do(box: GitBox, step: str, path: str) -> None:
    place = box.root / path
    if step in {"write", "ignore", "link"}:
        if place.is_symlink():
            place.unlink()
        place.parent.mkdir(parents=True, exist_ok=True)
        if step == "link":
            place.unlink(missing_ok=True)
            place.symlink_to("d")
        else:
            place.write_text("*.log\n!a\n" if step == "ignore" else f"{step} {path}\n")
    elif step == "delete":
        place.unlink(missing_ok=True)
    elif step == "chmod" and place.is_file() and not place.is_symlink():
        place.chmod(0o755)
    elif step == "edit" and place.is_file():
        place.write_bytes(place.read_bytes() + b"edited\n")
    elif step == "touch" and place.exists():
        os.utime(place)
    elif step == "exclude":
        (box.root / ".git/info/exclude").write_text(f"{path}\n")
    else:
        words = {
            "add": ("add", "--force", path),
            "intend": ("add", "--force", "--intent-to-add", path),
            "forget": ("rm", "--quiet", "--cached", path),
            "assume": ("update-index", "--assume-unchanged", path),
            "skip": ("update-index", "--skip-worktree", path),
            "split": ("update-index", "--split-index"),
            "unsplit": ("update-index", "--no-split-index"),
            "commit": ("commit", "--quiet", "--allow-empty", "--message", "more"),
            "version 2": ("update-index", "--index-version", "2"),
            "version 4": ("update-index", "--index-version", "4"),
            "detach": ("checkout", "--quiet", "--detach"),
        }.get(step)
        if words:
            # Many steps are impossible at their turn; git says so and nothing happens.
            box.git(*words, check=False)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(_steps)
def test_files_and_bytes_agree_with_git_after_any_steps(steps):
    with tempfile.TemporaryDirectory() as folder:
        box = GitBox(Path(folder) / "box")
        box.write("a", "a")
        box.write("d/a", "d/a")
        box.commit()
        for step, path in steps:
            do(box, step, path)

        snapshot = box.capture()

        entries = list(StoredTree(box.store, snapshot.root).entries())
        assert box.listed() == [entry.path for entry in entries]
        for entry in entries:
            place = os.path.join(os.fsencode(box.root), entry.path)
            content = (
                os.readlink(place)
                if os.path.islink(place)
                else Path(os.fsdecode(place)).read_bytes()
            )
            assert content == box.store.get(entry.digest)
        said = identify(
            box.root, snapshot, store=box.store, cache_dir=box.cache, environment=box.environment
        ).origin
        box.git("update-index", "--really-refresh", "--no-split-index", check=False)
        (box.root / ".git/index").unlink()
        (box.root / ".git/info/exclude").write_bytes(b"")
        box.git("add", "--force", "--", *(os.fsdecode(entry.path) for entry in entries))
        assert box.git("write-tree").decode().strip() == said.tree


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(_edits)
def test_what_is_remembered_from_step_to_step_changes_nothing(steps):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(witnesses, "RACY_MARGIN_NS", -3_600_000_000_000)
        box = GitBox(Path(folder) / "box")
        box.write("a", "a")
        box.write("d/a", "d/a")
        box.commit()
        for number, (step, path) in enumerate(steps):
            wait_a_tick(box)
            do(box, step, path)
            remembering = box.capture()

            if number % 4 == 3 or number == len(steps) - 1:
                assert box.capture(cache_dir=box.folder / f"fresh{number}") == remembering
