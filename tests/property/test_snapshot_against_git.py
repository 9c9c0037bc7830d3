"""Which files belong to a snapshot: what git lists, in repositories that nobody would think of."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.git_box import GitBox
from xmslurm_repro.snapshot.ignore import IgnoreRules

NAMES = st.sampled_from(
    b"a|b|ab|a.b|foo|foo.o|x.o|.h|a b|a |[x]|*|\xff|\xc3\xbc|-n|A|q\\|l\nf|!x|#x|build".split(b"|")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)

PIECES = st.sampled_from(
    (
        b"a|b|ab|foo|x|.o|.|*|**|?|/|/|[ab]|[!a]|[^b]|[a-z]|[]a]|[[:alpha:]]|[a|[]-a]|[a/b]"
        b"|[[:bad:]]|[\\]]|\\*|\\|\\ | |\xff|\xc3\xbc|build|-n|\\!|A|\t"
    ).split(b"|")
)
PATTERNS = st.one_of(
    st.lists(PIECES, max_size=6).map(b"".join),
    PATHS,
    PATHS.map(lambda path: path + b"/"),
    PATHS.map(lambda path: b"/" + path),
    st.sampled_from(
        b"*|*.o|**/a|a/**|a/**/b|/*|!a|!*/|*/|a**/b|**/|!b/|**b|***|a/*|!a/b".split(b"|")
    ),
)
LINES = st.tuples(
    st.sampled_from([b"", b"", b"", b"!", b"#"]),
    PATTERNS,
    st.sampled_from([b"", b"", b"", b"/", b" ", b"\r"]),
).map(b"".join)
RULES = st.tuples(
    st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf"]),
    st.lists(LINES, min_size=1, max_size=5).map(b"\n".join),
    st.sampled_from([b"\n", b"", b"\r\n"]),
).map(b"".join)

KINDS = st.sampled_from(["file", "file", "file", "executable", "link", "folder-link", "empty"])
WHEN = st.sampled_from(["untracked", "untracked", "tracked", "deleted", "replaced", "forgotten"])
FILES = st.dictionaries(PATHS, st.tuples(KINDS, WHEN), max_size=14)
RULE_FILES = st.dictionaries(
    st.one_of(st.just(b""), PATHS.map(lambda path: path.rpartition(b"/")[0])), RULES, max_size=3
)


@contextmanager
def box() -> Iterator[GitBox]:
    folder = Path(tempfile.mkdtemp(prefix="xmslurm-snapshot-"))
    try:
        yield GitBox(folder, commit=False)
    finally:
        shutil.rmtree(folder)


def make(repo: GitBox, path: bytes, kind: str) -> bool:
    """Make a file or link, where nothing is in its way."""
    place = os.path.join(os.fsencode(repo.root), path)
    if os.path.realpath(os.path.dirname(place)) != os.path.dirname(place):
        return False
    with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if os.path.lexists(place):
            return False
        if kind == "link":
            os.symlink(b"nowhere", place)
        elif kind == "folder-link":
            os.symlink(b"..", place)
        else:
            with open(place, "wb") as file:
                file.write(b"" if kind == "empty" else path)
            os.chmod(place, 0o755 if kind == "executable" else 0o644)
        return True
    return False


def build(repo: GitBox, files: dict[bytes, tuple[str, str]], rules: dict[bytes, bytes]) -> None:
    made = [path for path, (kind, _) in files.items() if make(repo, path, kind)]
    tracked = [path for path in made if files[path][1] != "untracked"]
    if tracked:
        listing = repo.folder / "listing"
        listing.write_bytes(b"\0".join(tracked))
        repo.git("--literal-pathspecs", "add", "-f", f"--pathspec-from-file={listing}", "--pathspec-file-nul")  # fmt: skip
    repo.git("commit", "-q", "--allow-empty", "-m", "first")
    for path in tracked:
        when = files[path][1]
        place = os.path.join(os.fsencode(repo.root), path)
        if when in {"deleted", "replaced"}:
            os.unlink(place)
        if when == "replaced":
            make(repo, path + b"/inner", "file")
        if when == "forgotten":
            repo.git("--literal-pathspecs", "rm", "-q", "--cached", "--", path)
    for folder, text in rules.items():
        with suppress(FileExistsError, NotADirectoryError):
            repo.write(os.path.join(folder, b".gitignore"), text)


CHECKS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@CHECKS
@given(files=FILES, rules=RULE_FILES, exclude=RULES, excludes_file=RULES)
@example(
    files={b"ab/c/x": ("file", "untracked")},
    rules={b"": b"a**/x\n"},
    exclude=b"",
    excludes_file=b"",
)
@example(files={b"x.o": ("file", "untracked")}, rules={}, exclude=b"!x.o", excludes_file=b"*.o")
@example(
    files={b"a/b": ("file", "untracked")}, rules={b"a": b"**/"}, exclude=b"", excludes_file=b""
)
@example(
    files={b"a": ("folder-link", "untracked")}, rules={b"": b"a/"}, exclude=b"", excludes_file=b""
)
def test_a_snapshot_holds_the_files_that_git_lists(
    files: dict[bytes, tuple[str, str]],
    rules: dict[bytes, bytes],
    exclude: bytes,
    excludes_file: bytes,
):
    with box() as repo:
        (repo.root / ".git" / "info" / "exclude").write_bytes(exclude)
        (repo.home / ".config" / "git").mkdir(parents=True)
        (repo.home / ".config" / "git" / "ignore").write_bytes(excludes_file)
        build(repo, files, rules)

        assert repo.listed() == repo.paths()


@CHECKS
@given(files=FILES, rules=RULE_FILES)
def test_what_is_said_to_differ_from_head_is_what_git_says(
    files: dict[bytes, tuple[str, str]], rules: dict[bytes, bytes]
):
    with box() as repo:
        build(repo, files, rules)

        ours = dict(repo.capture().origin.changed)

        # Against HEAD, not against the index: what was only staged differs from HEAD too.
        raw = repo.git("diff", "HEAD", "--name-status", "--no-renames", "-z").split(b"\0")[:-1]
        theirs = {}
        for status, path in zip(raw[::2], raw[1::2], strict=True):
            theirs[path] = {b"M": "modified", b"T": "modified", b"A": "added", b"D": "deleted"}[
                status
            ]
        others = repo.git("ls-files", "--others", "--exclude-standard", "-z").split(b"\0")[:-1]
        in_head = set(repo.git("ls-tree", "-r", "--name-only", "-z", "HEAD").split(b"\0"))
        for path in others:
            if path in in_head:
                theirs.pop(path, None)
            else:
                theirs[path] = "untracked"
        shown = {path.decode("utf-8", "backslashreplace"): what for path, what in theirs.items()}
        assert shown == ours


@settings(max_examples=300, deadline=None, derandomize=True)
@given(rules=RULES, path=PATHS, is_folder=st.booleans())
def test_asking_for_one_path_never_fails(rules: bytes, path: bytes, is_folder: bool):
    decision = IgnoreRules(rules).decide(path, path.rpartition(b"/")[2], is_folder=is_folder)

    assert decision in {True, False, None}
