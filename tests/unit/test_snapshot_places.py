"""Where git finds a repository and its work tree, a capture finds them; it runs nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.support.git_box import GitBox, fingerprint
from xmslurm_repro.errors import NoRepositoryError
from xmslurm_repro.model.choice import Choice
from xmslurm_repro.snapshot import find_work_tree
from xmslurm_repro.snapshot.branch import make_branch
from xmslurm_repro.snapshot.explain import explain
from xmslurm_repro.snapshot.identity import identify
from xmslurm_repro.snapshot.tree import StoredTree


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    return GitBox(tmp_path / "box")


def test_a_work_tree_kept_elsewhere_is_captured_from_beside_its_git_folder(box: GitBox):
    elsewhere = box.folder / "else where"
    elsewhere.mkdir()
    (elsewhere / "a").write_text("1")
    (elsewhere / "x.log").write_text("1")
    (elsewhere / ".gitignore").write_text("*.log\n")
    box.write("here", "not in the work tree")
    box.git("config", "core.worktree", "../../else where")
    box.git("add", "a")
    box.git("commit", "-q", "-m", "from elsewhere")

    snapshot = box.capture()

    assert [b".gitignore", b"a"] == box.paths(snapshot)
    assert b".gitignore\na\n" == box.git("ls-files", "-co", "--exclude-standard")
    assert ((".gitignore", "untracked"),) == snapshot.origin.changed
    assert elsewhere == find_work_tree(box.root)
    assert snapshot == box.capture()
    said = identify(
        box.root, snapshot, store=box.store, cache_dir=box.cache, environment=box.environment
    ).origin
    box.git("add", "-A")
    assert box.git("write-tree").decode().strip() == said.tree


def test_a_git_folder_below_its_own_work_tree_is_no_nested_repository(box: GitBox):
    box.write("inner/b", "1")
    (box.root / ".git").rename(box.root / "inner" / ".git")
    box.write("a", "1")
    box.git("config", "core.worktree", "../..", cwd=box.root / "inner")

    snapshot = box.capture(start=box.root / "inner")

    assert [b"a", b"inner/b"] == box.paths(snapshot)
    assert () == snapshot.origin.submodules


@pytest.mark.parametrize("place", ["bare.git", "bare.git/refs", "tree/.git", "tree/.git/objects"])
def test_git_s_own_folders_are_no_work_tree(box: GitBox, place: str):
    box.git("init", "-q", "--bare", str(box.folder / "bare.git"))

    with pytest.raises(NoRepositoryError, match="own folder"):
        box.capture(start=box.folder / place)


def test_a_repository_said_to_be_bare_has_no_work_tree_but_linked_ones_do(box: GitBox):
    box.write("a", "1")
    box.commit()
    box.git("worktree", "add", "-q", "linked")
    box.git("config", "core.bare", "true")
    box.git("config", "core.worktree", "/nowhere")

    with pytest.raises(NoRepositoryError, match="bare"):
        box.capture()

    assert [b"a"] == box.paths(box.capture(start=box.root / "linked"))


def test_a_linked_work_tree_may_have_a_configuration_of_its_own(box: GitBox):
    box.write("a", "1")
    box.commit()
    box.git("worktree", "add", "-q", str(box.folder / "linked"))
    elsewhere = box.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b").write_text("1")
    box.git("config", "extensions.worktreeConfig", "true")
    box.git("config", "--worktree", "core.worktree", str(elsewhere), cwd=box.folder / "linked")

    assert [b"a"] == box.paths()
    assert [b"b"] == box.paths(box.capture(start=box.folder / "linked"))


@pytest.mark.parametrize("filter_", ["blob:none", "tree:0"])
def test_a_partial_clone_is_captured(tmp_path: Path, filter_: str):
    upstream = GitBox(tmp_path / "upstream")
    upstream.write("d/a", "1")
    upstream.commit()
    upstream.write("d/a", "2")
    upstream.commit()
    upstream.git("config", "uploadpack.allowFilter", "true")
    box = GitBox(tmp_path / "box", init=False)
    box.git("clone", "-q", f"--filter={filter_}", f"file://{upstream.root}", ".")
    # As git set it before 2.25.
    box.git("config", "extensions.partialClone", "origin")
    box.write("d/a", "3")

    snapshot = box.capture()

    assert (("d/a", "modified"),) == snapshot.origin.changed
    said = identify(
        box.root, snapshot, store=box.store, cache_dir=box.cache, environment=box.environment
    ).origin
    assert said.on_remote
    assert box.git("rev-parse", "HEAD^{tree}").decode().strip() == said.commit_tree
    base = snapshot.origin.commit
    make_branch(
        StoredTree(box.store, snapshot.root), box.root, "b", base=base, message="m", time_s=1
    )
    box.git("fsck", "--strict")


def test_rules_that_are_no_file_are_none(box: GitBox):
    fifo = box.home / "fifo"
    os.mkfifo(fifo)
    (box.root / ".git" / "info" / "exclude").unlink()
    os.mkfifo(box.root / ".git" / "info" / "exclude")
    box.git("config", "core.excludesFile", str(fifo))
    box.write("a")

    assert [b"a"] == box.paths()


def test_a_name_that_is_git_s_own_in_another_case_is_left_out_and_said(box: GitBox):
    box.write("d/.GIT/hooks/pre-commit", "#!/bin/sh\n", mode=0o755)
    box.write("d/.Git2", "1")

    snapshot = box.capture()

    assert [b"d/.Git2"] == box.paths(snapshot)
    assert (("d/.GIT", "git refuses this name"),) == snapshot.origin.skipped


def test_nothing_that_a_repository_names_is_ever_run(box: GitBox, tmp_path: Path):
    witness = tmp_path / "was run"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 $@ >> '{witness}'\n")
    program.chmod(0o755)
    box.write("a.x", "1")
    box.write("b", "1")
    box.write(".gitattributes", "*.x filter=evil diff=evil merge=evil\n")
    box.commit()
    base = box.git("rev-parse", "HEAD").decode().strip()
    box.write("a.x", "edited")
    for key in (
        "core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.gitProxy",
        "core.askPass", "core.alternateRefsCommand", "filter.evil.clean", "filter.evil.smudge",
        "filter.evil.process", "diff.evil.textconv", "diff.evil.command", "diff.external",
        "merge.evil.driver", "credential.helper", "uploadpack.packObjectsHook", "alias.status",
    ):  # fmt: skip
        box.git("config", key, str(program))
    box.git("config", "remote.evil.url", f"ext::{program}")
    box.git("config", "core.hooksPath", str(box.root / ".git" / "hooks"))
    for name in ("post-index-change", "pre-commit", "post-checkout", "reference-transaction"):
        (box.root / ".git" / "hooks" / name).write_text(program.read_text())
        (box.root / ".git" / "hooks" / name).chmod(0o755)
    if os.geteuid() == 0:
        # A repository of somebody else's: git itself refuses to look into it.
        for place, folders, files in os.walk(box.root):
            for name in [".", *folders, *files]:
                os.chown(os.path.join(place, name), 65534, 65534, follow_symlinks=False)
    before = fingerprint(box.root)

    snapshot = box.capture(choice=Choice())
    identify(box.root, snapshot, store=box.store, cache_dir=box.cache, environment=box.environment)
    explain(
        box.root,
        Path("a.x"),
        choice=Choice(),
        cache_dir=box.cache,
        environment=box.environment,
    )

    assert before == fingerprint(box.root)
    assert (("a.x", "modified"),) == snapshot.origin.changed
    make_branch(
        StoredTree(box.store, snapshot.root), box.root, "b", base=base, message="m", time_s=1
    )
    assert not witness.exists()
    assert stat.S_ISREG((box.root / ".git" / "refs" / "heads" / "b").stat().st_mode)
