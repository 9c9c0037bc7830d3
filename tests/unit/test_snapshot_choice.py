"""What comes into a snapshot beyond git's rules, what stays out, and what has to be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.git_box import GitBox, fingerprint
from xmslurm_repro.errors import DoubtfulFilesError
from xmslurm_repro.model.choice import Choice
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.manifest import Manifest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.snapshot import Origin
from xmslurm_repro.snapshot import witnesses

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 9\n"
# In parts, so that nobody's scanner takes this file for a leak.
KEY = "-----BEGIN " + "OPENSSH PRIVATE KEY-----\nx\n"
TOKENS = [KEY, "t = 'gh" + "p_" + "a1B2" * 9 + "'\n", "AK" + "IA" + "ABCDEFGH12345678\n"]


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    box = GitBox(tmp_path / "box")
    box.write("main.py", "print(1)\n")
    box.write(".gitignore", "data/\n*.log\n")
    box.commit()
    return box


def refused(box: GitBox, **choice: object) -> tuple[str, ...]:
    before = fingerprint(box.root)
    with pytest.raises(DoubtfulFilesError) as caught:
        box.capture(choice=Choice(**choice))

    assert before == fingerprint(box.root)
    assert not list(box.store.digests())
    return caught.value.details


def test_every_doubtful_untracked_file_is_named_with_its_size_and_why(box: GitBox):
    box.write(".env", "A=1\n")
    box.write("keys/id_rsa", KEY)
    box.write("big.bin", b"\0" * 2000)
    box.write("notes.txt", TOKENS[1])

    details = refused(box, max_file_bytes=1000)

    assert (
        ".env: 4 bytes; its name looks like a secret's (.env)",
        "big.bin: 2.0 kB; it is larger than 1.0 kB",
        f"keys/id_rsa: {len(KEY)} bytes; its name looks like a secret's (id_rsa)",
        f"notes.txt: {len(TOKENS[1])} bytes; it seems to hold a GitHub token",
    ) == details


@pytest.mark.parametrize("text", TOKENS)
def test_keys_and_tokens_are_found_inside_small_untracked_files(box: GitBox, text: str):
    box.write("settings.ini", "x = 1\n" + text)

    assert "settings.ini" in refused(box)[0]
    assert [b".gitignore", b"main.py", b"settings.ini"] == box.paths(
        box.capture(choice=Choice(looks_inside=False))
    )


@pytest.mark.parametrize("name", [".env.example", "environment.py", "id_rsa.pub", "keyboard.py"])
def test_names_that_only_resemble_secrets_are_captured(box: GitBox, name: str):
    box.write(name, "x\n")

    assert name.encode() in box.paths(box.capture(choice=Choice()))


def test_what_git_tracks_is_captured_and_named(box: GitBox):
    box.write(".env", "A=1\n")
    box.commit()

    snapshot = box.capture(choice=Choice())

    assert b".env" in box.paths(snapshot)
    [(path, note)] = snapshot.origin.notable
    assert ".env" == path
    assert "4 bytes, tracked by git" in note


def test_excluded_paths_stay_out_and_are_recorded_also_when_tracked(box: GitBox):
    box.write("lib/one.bin", "1")
    box.write("lib/two.bin", "2")
    box.commit()
    box.write(".env", "A=1\n")
    choice = Choice(exclude=("/lib/", ".env", "*.bin", "!two.bin"))

    snapshot = box.capture(choice=choice)

    assert [b".gitignore", b"main.py"] == box.paths(snapshot)
    assert (
        (".env", "excluded by choice (.env)"),
        ("lib", "excluded by choice (/lib/)"),
    ) == snapshot.origin.skipped
    assert () == snapshot.origin.changed


def test_included_paths_come_in_though_ignored_large_or_secret(box: GitBox):
    box.write("data/deep/in.csv", "1,2\n")
    box.write("data/out.csv", "3\n")
    box.write("run.log", "x\n")
    box.write(".env", "A=1\n")
    box.write("big", b"x" * 2000)
    choice = Choice(include=("/data/deep/", ".env", "/big"), max_file_bytes=1000)

    snapshot = box.capture(choice=choice)

    assert [b".env", b".gitignore", b"big", b"data/deep/in.csv", b"main.py"] == box.paths(snapshot)


def test_a_choice_that_changes_changes_the_next_snapshot(box: GitBox):
    box.write("a.bin", "1")

    roots = [
        box.capture(choice=choice).root
        for choice in (Choice(), Choice(exclude=("*.bin",)), Choice(), None)
    ]

    assert roots[0] == roots[2] == roots[3] != roots[1]


def test_an_unreadable_folder_can_be_left_out(box: GitBox, monkeypatch):
    import os

    real = os.scandir

    def scandir(place):
        if os.fsencode(place).rstrip(b"/").endswith(b"/locked"):
            raise PermissionError(13, "Permission denied", place)
        return real(place)

    (box.root / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", scandir)

    snapshot = box.capture(choice=Choice(exclude=("/locked/*", "/locked")))

    assert ("locked", "excluded by choice (/locked)") in snapshot.origin.skipped


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (".gitattributes", "*.bin filter=lfs\n"),
        (".gitattributes", "\ufeff# x\n[attr]big filter=lfs -text\n*.bin big\n"),
        (".gitattributes", '"a \\303\\274.bin" filter=lfs\n'),
        ("d/.gitattributes", "*.bin -filter\n"),
        (".git/info/attributes", "*.bin\tfilter=lfs diff=lfs\n"),
        ("../home/.config/git/attributes", "*.bin filter=lfs\n"),
    ],
)
def test_a_pointer_is_found_whichever_file_names_it(box: GitBox, place: str, text: str):
    box.write("a \xfc.bin", POINTER)
    first = box.capture(choice=Choice()).origin.notable

    box.write(place, text)

    notable = dict(box.capture(choice=Choice()).origin.notable)
    says = box.git("check-attr", "-z", "filter", "a \xfc.bin").split(b"\0")[2]
    assert ((), says == b"lfs") == (first, "a \xfc.bin" in notable)


@pytest.mark.parametrize("place", [".git/info/attributes", "../home/.config/git/attributes"])
def test_attributes_outside_of_the_tree_are_looked_at_again_when_they_change(
    box: GitBox, place: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(witnesses, "RACY_MARGIN_NS", -3_600_000_000_000)
    box.write("a.bin", POINTER)
    first = box.capture(choice=Choice()).origin.notable
    assert first == box.capture(choice=Choice()).origin.notable

    box.write(place, "*.bin filter=lfs\n")
    second = box.capture(choice=Choice()).origin.notable
    (box.root / place).write_text("")

    assert ["a.bin"] == [path for path, _ in second]
    assert () == first == box.capture(choice=Choice()).origin.notable


def test_a_pointer_of_git_lfs_is_told_from_its_content(box: GitBox):
    box.write(".gitattributes", "*.bin filter=lfs diff=lfs -text\nplain.bin -filter\n")
    box.write("sub/.gitattributes", "*.pt filter=lfs\n")
    for name in ("pointer.bin", "plain.bin", "sub/x.pt", "y.pt", "deep/z.bin"):
        box.write(name, POINTER)
    box.write("content.bin", "the file itself")

    notable = dict(box.capture(choice=Choice()).origin.notable)

    assert ["deep/z.bin", "pointer.bin", "sub/x.pt"] == sorted(notable)
    assert "git lfs pull" in notable["pointer.bin"]


def test_an_origin_reads_back_what_it_wrote():
    origin = Origin(commit="a" * 40, notable=(("x", "y"),), tree="b" * 40, on_remote=False)

    assert origin == Origin.from_json(Reader(origin.to_json(), "origin"))
    assert set(Origin().to_json()) == {
        "commit", "branch", "remotes", "changed", "submodules", "skipped",
    }  # fmt: skip


def test_a_manifest_says_what_was_left_out_and_is_as_before_where_nothing_was():
    root = Digest.blake3("a" * 64)
    plain = Manifest(title="t", snapshots=(root,), locks=(), images=(), units=())
    lacking = Manifest(
        title="t",
        snapshots=(root,),
        locks=(),
        images=(),
        units=(),
        left_out=((root, ((".env", "excluded"),)),),
    )

    assert {"format", "title", "snapshots", "locks", "images", "units"} == set(plain.to_json())
    assert plain == Manifest.from_json(Reader(plain.to_json(), "m"))
    assert lacking == Manifest.from_json(Reader(lacking.to_json(), "m"))
