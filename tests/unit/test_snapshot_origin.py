"""What a capture says of the tree that it is a change of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.git_box import GitBox
from xmslurm_repro.errors import (
    FormatError,
    NoRepositoryError,
    UnbornHeadError,
)
from xmslurm_repro.model.snapshot import Origin
from xmslurm_repro.snapshot import StoredTree

# In parts, so that nobody's scanner takes this file for a leak.
TOKEN = "gh" + "p_" + "a1B2" * 9


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    return GitBox(tmp_path / "box")


def test_no_repository_is_an_error_that_names_the_two_ways_out(tmp_path: Path):
    box = GitBox(tmp_path / "box", init=False)

    with pytest.raises(NoRepositoryError) as caught:
        box.capture()

    assert "git init" in (caught.value.hint or "")
    assert "--no-git" in (caught.value.hint or "")


def test_without_a_repository_the_folder_itself_is_captured_by_its_gitignore(tmp_path: Path):
    box = GitBox(tmp_path / "box", init=False)
    box.write(".gitignore", "*.log\n")
    box.write("a/b", "1")
    box.write("a/c.log")

    snapshot = box.capture(allow_no_repository=True)

    assert [b".gitignore", b"a/b"] == box.paths(snapshot)
    assert Origin() == snapshot.origin


def test_a_repository_without_a_commit_is_an_error_unless_allowed(tmp_path: Path):
    box = GitBox(tmp_path / "box", commit=False)
    box.write("staged")
    box.git("add", "staged")
    box.write("new")

    with pytest.raises(UnbornHeadError) as caught:
        box.capture()
    snapshot = box.capture(allow_unborn=True)

    assert "--allow-unborn" in (caught.value.hint or "")
    assert snapshot.origin.commit is None
    assert "main" == snapshot.origin.branch
    assert (("new", "untracked"), ("staged", "added")) == snapshot.origin.changed


def test_commit_and_branch_are_those_of_head(box: GitBox):
    box.write("a")
    box.commit()
    commit = box.git("rev-parse", "HEAD").strip().decode()
    on_branch = box.capture().origin
    box.git("pack-refs", "--all")
    packed = box.capture().origin
    box.git("checkout", "-q", "--detach")
    detached = box.capture().origin
    box.git("symbolic-ref", "HEAD", "refs/heads/main")
    box.git("checkout", "-q", "-b", "feature/x")

    assert (commit, "main") == (on_branch.commit, on_branch.branch)
    assert (commit, "main") == (packed.commit, packed.branch)
    assert (commit, None) == (detached.commit, detached.branch)
    assert "feature/x" == box.capture().origin.branch


def test_a_head_that_is_a_link_is_read(box: GitBox):
    commit = box.git("rev-parse", "HEAD").strip().decode()
    (box.root / ".git" / "HEAD").unlink()
    (box.root / ".git" / "HEAD").symlink_to("refs/heads/main")

    assert commit == box.capture().origin.commit


def test_changes_are_told_by_bytes_mode_and_presence(box: GitBox):
    for name in ("same", "edited", "mode", "gone", "staged", "type", "touched", "forgotten"):
        box.write(name, name)
    box.commit()
    box.write("edited", "EDITED")
    (box.root / "mode").chmod(0o755)
    (box.root / "gone").unlink()
    box.write("staged", "new")
    box.write("added", "new")
    box.git("add", "staged", "added")
    (box.root / "type").unlink()
    (box.root / "type").symlink_to("same")
    os.utime(box.root / "touched", (1, 1))
    box.git("rm", "-q", "--cached", "forgotten")
    box.write("untracked")

    assert {
        "edited": "modified",
        "mode": "modified",
        "gone": "deleted",
        "staged": "modified",
        "added": "added",
        "type": "modified",
        "untracked": "untracked",
    } == dict(box.capture().origin.changed)


def test_a_change_that_was_committed_is_none(box: GitBox):
    box.write("a", "1")
    box.commit()
    box.write("a", "2")
    before = box.capture()
    box.commit()
    after = box.capture()

    assert (("a", "modified"),) == before.origin.changed
    assert () == after.origin.changed
    assert before.root == after.root


def test_an_edit_of_the_same_size_within_one_tick_of_the_clock_is_seen(box: GitBox):
    for number in range(30):
        place = box.write("a", "old!")
        box.git("add", "a")
        box.git("commit", "-q", "--allow-empty", "-m", "x")
        stamp = place.stat().st_mtime_ns
        place.write_bytes(b"new%d" % (number % 10))
        os.utime(place, ns=(stamp, stamp))

        snapshot = box.capture()

        assert b"new%d" % (number % 10) == box.store.get(
            next(iter(StoredTree(box.store, snapshot.root).entries())).digest
        )
        assert (("a", "modified"),) == snapshot.origin.changed


def test_remotes_are_recorded_without_credentials(box: GitBox):
    urls = {
        "token": ("https://user:s3cret@example.org/a.git", "https://example.org/a.git"),
        "user": ("https://s3cret@example.org:8443/a.git", "https://example.org:8443/a.git"),
        "query": ("https://example.org/a.git?private_token=s3cret", "https://example.org/a.git"),
        "ssh": ("ssh://git:s3cret@example.org/a.git", "ssh://git@example.org/a.git"),
        "scp": ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        "path": ("/srv/a.git", "/srv/a.git"),
        "ipv6": ("https://u:s3cret@[::1]:8443/a", "https://[::1]:8443/a"),
        "broken": ("https://u:s3cret@[::1/a", "https://…"),
        "slash": ("https://u:s3cret/s3cret@example.org/a?x=s3cret", "https://example.org/a"),
        "at": ("https://u:s3cret@s3cret@example.org/a", "https://example.org/a"),
        "parameter": ("https://example.org/a;token=s3cret", "https://example.org/a"),
        "fragment": ("https://example.org/a#s3cret", "https://example.org/a"),
        "scp password": ("git:s3cret@example.org:a/b", "example.org:a/b"),
        "no scheme": ("//u:s3cret@example.org/a", "//example.org/a"),
        "one slash": ("https:/u:s3cret@example.org/a", "https:/example.org/a"),
        "helper": ("hg::https://u:s3cret@example.org/a", "hg::https://example.org/a"),
        "command": ("ext::curl -u u:s3cret https://example.org", "ext::…"),
        "in path": (f"https://example.org/{TOKEN}/a.git", "https://example.org/…/a.git"),
        "short": ("gh:org/a", "https://example.org/org/a"),
        "odd path": ("./a:b@c/d", "./a:b@c/d"),
    }
    box.git("config", "url.https://u:s3cret@example.org/.insteadOf", "gh:")
    box.git("config", "url.https://u:s3cret@elsewhere.org/.insteadOf", "gh")
    box.git("config", "remote.path.pushurl", "https://u:s3cret@example.org/push")
    for name, (url, _) in urls.items():
        box.git("config", f"remote.{name}.url", url)
    box.git("config", "--add", "remote.path.url", "https://u:s3cret@example.org/second")

    remotes = dict(box.capture().origin.remotes)

    kept = {name: kept for name, (_, kept) in urls.items()}
    assert {**kept, "path (push)": "https://example.org/push"} == remotes
    for path in box.cache.iterdir():
        assert b"s3cret" not in path.read_bytes()
        assert TOKEN.encode() not in path.read_bytes()


def test_settings_are_read_again_when_their_file_or_an_included_one_changes(box: GitBox):
    (box.home / ".gitconfig").write_text("[include]\n\tpath = more\n")
    (box.home / "more").write_text("[core]\n\texcludesFile = ~/ignored\n")
    (box.home / "ignored").write_text("*.log\n")
    box.write("a.log")
    box.write("b.tmp")
    first = box.paths()
    box.git("config", "core.excludesFile", str(box.home / "other"))
    (box.home / "other").write_text("*.tmp\n")
    second = box.paths()
    box.git("config", "--unset", "core.excludesFile")
    (box.home / "more").write_text("[core]\n\texcludesFile = /dev/null\n")

    assert [b"b.tmp"] == first
    assert [b"a.log"] == second
    assert [b"a.log", b"b.tmp"] == box.paths()


def test_a_broken_configuration_is_an_error_that_names_the_file(box: GitBox):
    (box.root / ".git" / "config").write_text("[core\n")

    with pytest.raises(FormatError) as caught:
        box.capture()

    assert str(box.root / ".git" / "config") in str(caught.value)


def test_a_repository_that_lost_the_commit_of_head_is_an_error(box: GitBox):
    box.write("a")
    box.commit()
    commit = box.git("rev-parse", "HEAD").strip().decode()
    (box.root / ".git" / "objects" / commit[:2] / commit[2:]).unlink()

    with pytest.raises(FormatError, match=commit):
        box.capture()
