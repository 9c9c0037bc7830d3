"""Every state that a repository can be in: the files are git's, the bytes the work tree's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.git_box import GitBox, fingerprint
from xmslurm_repro.snapshot import StoredTree


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    box = GitBox(tmp_path / "box")
    for number in range(80):
        box.write(f"d{number % 7}/file{number}", str(number))
    box.commit()
    return box


def agrees_with_git(box: GitBox) -> dict[bytes, bytes]:
    """Check the set of files, their bytes, modes and links; returns the bytes by path."""
    listed, before = box.listed(), fingerprint(box.root)
    tree = StoredTree(box.store, box.capture().root)

    assert before == fingerprint(box.root)
    entries = list(tree.entries())
    assert listed == [entry.path for entry in entries]
    found = {}
    for entry in entries:
        place = os.path.join(os.fsencode(box.root), entry.path)
        found[entry.path] = box.store.get(entry.digest)
        if os.path.islink(place):
            assert (b"120000", os.readlink(place)) == (
                entry.kind.value.encode(),
                found[entry.path],
            )
        else:
            is_executable = bool(os.lstat(place).st_mode & 0o111)
            assert ("100755" if is_executable else "100644") == entry.kind.value
            assert Path(os.fsdecode(place)).read_bytes() == found[entry.path]
    return found


@pytest.mark.parametrize("version", ["2", "4"])
def test_a_split_index_is_put_together(box: GitBox, version: str):
    box.git("config", "splitIndex.maxPercentChange", "100")
    box.git("update-index", "--index-version", version)
    box.git("update-index", "--split-index")
    agrees_with_git(box)

    # Replaced, gone and joined entries, each in the index itself and not in what it shares.
    box.write("d0/file0", "changed and staged")
    box.write("d3/file3", "staged too")
    box.git("rm", "-q", "--cached", "d1/file1", "d5/file75")
    (box.root / "d5/file75").unlink()
    box.write("a new one", "x")
    box.write(".gitignore", "file1\n")
    box.git("add", "d0/file0", "d3/file3", "a new one", ".gitignore")
    assert list((box.root / ".git").glob("sharedindex.*"))

    found = agrees_with_git(box)

    assert b"d1/file1" not in found
    assert b"d2/file2" in found
    changed = dict(box.capture().origin.changed)
    status = box.git("diff", "HEAD", "--name-status").decode().split("\n")[:-1]
    words = {"M": "modified", "A": "added", "D": "deleted"}
    assert {line[2:]: words[line[0]] for line in status} == changed


def test_a_split_index_whose_other_half_is_lost_is_an_error(box: GitBox):
    box.git("update-index", "--split-index")
    for path in (box.root / ".git").glob("sharedindex.*"):
        path.unlink()

    with pytest.raises(Exception, match="cannot|No such|not an index") as caught:
        box.capture()

    assert hasattr(caught.value, "exit_status")


def test_files_meant_to_be_added_are_captured(box: GitBox):
    box.write("meant", "x")
    box.git("add", "-N", "meant")

    assert b"x" == agrees_with_git(box)[b"meant"]
    assert "added" == dict(box.capture().origin.changed)["meant"]


def test_hard_links_are_files_of_their_own(box: GitBox):
    os.link(box.root / "d0/file0", box.root / "linked")

    found = agrees_with_git(box)

    assert found[b"d0/file0"] == found[b"linked"]


def test_files_with_holes_are_captured_whole(box: GitBox):
    with (box.root / "holes").open("wb") as file:
        file.write(b"start")
        file.seek(20_000_000)
        file.write(b"end")
        file.truncate(30_000_000)

    found = agrees_with_git(box)

    assert 30_000_000 == len(found[b"holes"])


def test_names_that_differ_in_case_only_are_two_files(box: GitBox):
    box.write("Readme", "1")
    box.write("README", "2")

    found = agrees_with_git(box)

    assert (b"1", b"2") == (found[b"Readme"], found[b"README"])


@pytest.mark.parametrize("state", ["merge", "rebase", "cherry-pick", "stash", "bisect"])
def test_work_under_way_is_captured_as_it_lies_there(box: GitBox, state: str):
    box.git("checkout", "-q", "-b", "side")
    box.write("d0/file0", "theirs")
    box.commit()
    box.git("checkout", "-q", "main")
    box.write("d0/file0", "ours")
    box.commit()
    if state == "stash":
        box.write("d1/file1", "put aside")
        box.git("stash")
    elif state == "bisect":
        box.git("bisect", "start", "HEAD", "HEAD~1")
    elif state == "cherry-pick":
        box.git("cherry-pick", "side", check=False)
    else:
        box.git(state, "side", check=False)

    found = agrees_with_git(box)

    assert (b"<<<<<<<" in found[b"d0/file0"]) == (state in {"merge", "rebase", "cherry-pick"})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("core.autocrlf", "true"),
        ("core.autocrlf", "input"),
        ("core.fileMode", "false"),
        ("core.symlinks", "false"),
        ("core.untrackedCache", "true"),
        ("core.fsmonitor", "false"),
        ("index.skipHash", "true"),
        ("feature.manyFiles", "true"),
        ("core.precomposeUnicode", "true"),
        ("core.quotePath", "false"),
    ],
)
def test_settings_of_git_change_neither_files_nor_bytes(box: GitBox, setting: str, value: str):
    box.git("config", setting, value)
    box.write("crlf.txt", "one\r\ntwo\n")
    box.write("run", "#!", mode=0o755)
    (box.root / "link").symlink_to("run")
    box.commit()
    box.git("status")
    box.write("d2/file2", "edited")

    agrees_with_git(box)


@pytest.mark.parametrize(
    "condition",
    [
        "gitdir:~/",
        "gitdir:{tree}/",
        "gitdir:{tree}/.git",
        "gitdir:tree/",
        "gitdir:other/",
        "gitdir:/**/TREE/.git",
        "gitdir/i:/**/TREE/.git",
        "gitdir:./../tree/",
        "onbranch:main",
        "onbranch:feature/",
        "onbranch:ma*",
    ],
)
def test_conditional_includes_are_followed_where_git_follows_them(box: GitBox, condition: str):
    (box.home / ".gitconfig").write_text(
        f'[includeIf "{condition.format(tree=box.root)}"]\n  path = more\n'
    )
    (box.home / "more").write_text(f"[core]\n  excludesFile = {box.home}/excluded\n")
    (box.home / "excluded").write_text("*.tmp\n")
    box.write("a.tmp", "x")
    box.write("b", "x")

    agrees_with_git(box)


def test_a_condition_is_asked_again_when_the_branch_changes(box: GitBox):
    (box.home / ".gitconfig").write_text('[includeIf "onbranch:side"]\n  path = more\n')
    (box.home / "more").write_text(f"[core]\n  excludesFile = {box.home}/excluded\n")
    (box.home / "excluded").write_text("*.tmp\n")
    box.write("a.tmp", "x")
    assert b"a.tmp" in agrees_with_git(box)

    box.git("checkout", "-q", "-b", "side")

    assert b"a.tmp" not in agrees_with_git(box)


def test_what_is_there_of_a_collapsed_folder_is_tracked_though_ignored(box: GitBox):
    box.write(".gitignore", "*.log\n")
    box.write("out/deep/kept.log", "1")
    box.write("out/deep/other", "1")
    box.git("add", "-f", ".")
    box.git("commit", "-q", "-m", "x")
    box.git("sparse-checkout", "set", "--cone", "--sparse-index", "d1")
    assert b"out/\n" in box.git("ls-files", "--sparse")
    box.write("out/deep/kept.log", "edited")
    box.write("out/new.log", "ignored")

    found = agrees_with_git(box)

    assert b"edited" == found[b"out/deep/kept.log"]
    origin = box.capture().origin
    assert {"out/deep/kept.log": "modified"} == dict(origin.changed)
    assert "out/deep/other" in dict(origin.skipped)
    assert "d0" in dict(origin.skipped)


def test_rules_that_a_sparse_checkout_leaves_out_hold_all_the_same(box: GitBox):
    box.write(".gitignore", "*.log\n")
    box.write("d1/.gitignore", "!kept.log\n")
    box.commit()
    box.git("sparse-checkout", "set", "--no-cone", "/d0/", "file15")
    assert not (box.root / ".gitignore").exists()
    for path in ("a.log", "d0/a.log", "d1/kept.log", "d1/a.log"):
        box.write(path, "1")

    found = agrees_with_git(box)

    assert b"d1/kept.log" in found
    assert b"a.log" not in found


def test_names_that_some_disks_cannot_tell_apart_are_noted(box: GitBox):
    for path in (
        "d/Readme",
        "d/README",
        "Dir/a",
        "dir/b",
        "e\u0301",
        "\xe9",
        "stra\xdfe",
        "STRASSE",
    ):
        box.write(path, path)
    box.write(b"\xff", "1")
    box.write(b"\xfe", "2")
    agrees_with_git(box)

    noted = dict(box.capture().origin.notable)

    pairs = {
        "d/Readme": "d/README",
        "Dir": "dir",
        "e\u0301": "\xe9",
        "stra\xdfe": "STRASSE",
    }
    assert {*pairs, *pairs.values()} == noted.keys()
    for one, other in pairs.items():
        assert f"the same name as {other} " in noted[one]
        assert f"the same name as {one} " in noted[other]


def test_a_repository_in_place_of_a_tracked_file_is_captured_though_ignored(box: GitBox):
    (box.root / "d0/file0").unlink()
    (box.root / "d0/file0").mkdir()
    box.git("init", "-q", cwd=box.root / "d0/file0")
    box.write("d0/file0/a", "1")
    box.write(".gitignore", "file0\nfile1\n")
    (box.root / "d1/file1").unlink()
    box.write("d1/file1/a", "ordinary and ignored")

    paths = box.paths()

    assert b"d0/file0/a" in paths
    assert b"d1/file1/a" not in paths
