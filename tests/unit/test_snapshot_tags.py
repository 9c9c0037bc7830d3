"""The nearest tag behind HEAD: what ``git describe`` says, without git."""

from __future__ import annotations

import pytest

from tests.support.git_box import GitBox
from xmslurm_repro.errors import FormatError
from xmslurm_repro.model.tags import TagDistance
from xmslurm_repro.snapshot.tags import nearest_tags


def described(box: GitBox) -> tuple[str, int]:
    words = ["describe", "--tags", "--long", "--match", "*[0-9]*"]
    tag, count, _ = box.git(*words).decode().strip().rsplit("-", 2)
    return tag, int(count)


def found(box: GitBox) -> TagDistance:
    distance = nearest_tags(box.root, has_changes=False)
    assert distance is not None
    return distance


def commit(box: GitBox, number: int) -> None:
    box.environment["GIT_COMMITTER_DATE"] = f"2021-01-01T00:00:{number:02}Z"
    box.git("commit", "-q", "--allow-empty", "-m", str(number))


def test_the_nearest_tag_is_the_one_that_git_names_on_branches_and_merges(tmp_path):
    box = GitBox(tmp_path)
    for number in range(1, 6):
        commit(box, number)
        if number in {1, 3}:
            box.git("tag", f"v0.{number}")
    box.git("checkout", "-q", "-b", "side", "v0.1")
    for number in range(6, 9):
        commit(box, number)
    box.git("tag", "-a", "-m", "x", "v1.0-side")
    box.git("checkout", "-q", "main")
    box.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    for number in range(9, 13):
        distance = found(box)
        assert described(box) == (distance.tags[0], distance.commits)
        commit(box, number)
        if number == 11:
            box.git("pack-refs", "--all")
            box.git("gc", "-q")
            box.git("tag", "v2")


def test_annotated_tags_of_a_commit_go_first_and_names_without_a_digit_do_not_count(tmp_path):
    box = GitBox(tmp_path)
    box.git("tag", "v1")
    box.git("tag", "latest")
    box.git("tag", "-a", "-m", "x", "z2")

    assert TagDistance(tags=("z2", "v1"), commits=0, has_changes=False) == found(box)


def test_without_tags_all_commits_count(tmp_path):
    box = GitBox(tmp_path)
    commit(box, 1)

    assert ((), 2) == (found(box).tags, found(box).commits)


def test_a_shallow_clone_ends_where_it_ends(tmp_path):
    box = GitBox(tmp_path / "a")
    for number in range(1, 6):
        commit(box, number)
    box.git("clone", "-q", "--depth", "2", f"file://{box.root}", str(tmp_path / "b"))
    distance = nearest_tags(tmp_path / "b", has_changes=True)

    assert TagDistance(tags=(), commits=2, has_changes=True) == distance


def test_no_repository_and_no_commit_are_nothing_to_say(tmp_path):
    assert nearest_tags(tmp_path, has_changes=False) is None
    box = GitBox(tmp_path / "x", commit=False)
    assert nearest_tags(box.root, has_changes=False) is None


def test_a_damaged_history_is_an_error_of_ours(tmp_path):
    box = GitBox(tmp_path)
    head = box.git("rev-parse", "HEAD").decode().strip()
    path = box.root / ".git" / "objects" / head[:2] / head[2:]
    path.chmod(0o644)
    path.write_bytes(b"rubbish")

    with pytest.raises(FormatError, match="the history of"):
        nearest_tags(box.root, has_changes=False)
