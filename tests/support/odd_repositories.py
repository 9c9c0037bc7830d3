"""Steps that lead to repositories that nobody would think of, and what git lists of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.support.git_box import GitBox
from xmslurm_repro.snapshot.repository import repository_at

NAMES = (
    b"a|b|ab|a.b|foo|foo.o|x.o|.h|a b|a |[x]|*|\xff|\xc3\xbc|u\xcc\x88|-n|A|q\\|l\nf|!x|#x|build|"
    b"Build|FOO.O|.gitmodules|\t|\"|'|:x|git~1|.gitx"
).split(b"|")
FOLDERS = b"a|b|d|A|build|d e|\xc3\xbc|[x]|n".split(b"|")
PIECES = (
    b"a|b|ab|foo|x|.o|.|*|**|?|/|/|[ab]|[!a]|[^b]|[a-z]|[]a]|[[:alpha:]]|[a|[]-a]|[a/b]|[[:bad:]]|"
    b"\\*|\\|\\ | |\xff|\xc3\xbc|build|-n|\\!|A|\t|d|n|[A-C]|[[:upper:]]"
).split(b"|")
FIXED = (
    b"*|*.o|**/a|a/**|a/**/b|/*|!a|!*/|*/|a**/b|**/|!b/|**b|***|a/*|!a/b|/d/|d/*|!d/a|n/|!n/|*.O|"
    b"BUILD/|.*|!.gitignore|/a|\\#x|\\!x|# x|d/**/|*/a|??|a\\|/build"
).split(b"|")


def some_path(chance: Random, depth: int = 3) -> bytes:
    folders = [chance.choice(FOLDERS) for _ in range(chance.randrange(depth))]
    return b"/".join([*folders, chance.choice(NAMES if chance.random() < 0.8 else FOLDERS)])


def some_folder(chance: Random) -> bytes:
    return b"/".join(chance.choice(FOLDERS) for _ in range(chance.randrange(1, 3)))


def some_rules(chance: Random) -> bytes:
    lines = []
    for _ in range(chance.randrange(1, 6)):
        kind = chance.random()
        if kind < 0.35:
            line = b"".join(chance.choice(PIECES) for _ in range(chance.randrange(1, 6)))
        else:
            line = some_path(chance) if kind < 0.6 else chance.choice(FIXED)
        line = chance.choice([b"", b"", b"", b"!"]) + chance.choice([b"", b"", b"/"]) + line
        lines.append(line + chance.choice([b"", b"", b"", b"/", b" ", b"\r"]))
    return chance.choice([b"", b"", b"\xef\xbb\xbf"]) + b"\n".join(lines) + b"\n"


class OddRepository:
    """A repository that steps are done to; those that are impossible do nothing."""

    def __init__(self, box: GitBox, upstream: Path) -> None:
        self.box, self.upstream, self.root = box, upstream, os.fsencode(box.root)

    def do(self, step: str, seed: int) -> None:
        getattr(self, step)(Random(seed))

    def git(self, *words: str | bytes, cwd: bytes | None = None) -> None:
        place = Path(os.fsdecode(cwd)) if cwd else None
        self.box.git(*words, cwd=place, check=False)

    def is_free(self, place: bytes) -> bool:
        """Whether something can be made there without leaving the tree through a link."""
        with suppress(OSError):
            os.makedirs(os.path.dirname(place), exist_ok=True)
        folder = os.path.dirname(place)
        return os.path.isdir(folder) and os.path.realpath(folder) == folder

    def put(self, place: bytes, data: bytes, *, mode: int = 0o644) -> None:
        is_git_s = b"/.git/" in place[len(self.root) :] + b"/"
        if is_git_s or not self.is_free(place) or os.path.isdir(place):
            return
        with suppress(OSError):
            if os.path.lexists(place):
                os.unlink(place)
            with open(place, "wb") as file:
                file.write(data)
            os.chmod(place, mode)

    def write(self, chance: Random) -> None:
        path = some_path(chance)
        kind = chance.choice(["file", "file", "file", "empty", "crlf", "run"])
        data = {"empty": b"", "crlf": b"a\r\nb\n"}.get(kind, path + b"%d" % chance.randrange(99))
        self.put(os.path.join(self.root, path), data, mode=0o755 if kind == "run" else 0o644)

    def link(self, chance: Random) -> None:
        place = os.path.join(self.root, some_path(chance))
        if self.is_free(place) and not os.path.lexists(place):
            os.symlink(chance.choice([b"nowhere", b"..", b".", b"/tmp", b"a"]), place)

    def ignore(self, chance: Random) -> None:
        folder = some_folder(chance) if chance.random() < 0.6 else b""
        self.put(os.path.join(self.root, folder, b".gitignore"), some_rules(chance))

    def exclude(self, chance: Random) -> None:
        (self.box.root / ".git/info/exclude").write_bytes(some_rules(chance))

    def exclude_file(self, chance: Random) -> None:
        (self.box.home / "rules").write_bytes(some_rules(chance))
        self.git("config", "core.excludesFile", "~/rules")

    def add(self, chance: Random) -> None:
        self.git("--literal-pathspecs", "add", "-f", "--", some_path(chance))

    def commit(self, chance: Random) -> None:
        if chance.random() < 0.5:
            self.git("add", "-A")
        self.git("commit", "-qam", "x")

    def forget(self, chance: Random) -> None:
        self.git("--literal-pathspecs", "rm", "-rq", "--cached", "--", some_path(chance))

    def delete(self, chance: Random) -> None:
        place = os.path.join(self.root, some_path(chance))
        if os.path.realpath(os.path.dirname(place)) == os.path.dirname(place):
            with suppress(OSError):
                os.unlink(place)

    def remove_folder(self, chance: Random) -> None:
        place = os.path.join(self.root, some_folder(chance))
        if os.path.realpath(place) == place:
            shutil.rmtree(place, ignore_errors=True)

    def move_folder(self, chance: Random) -> None:
        one, other = (os.path.join(self.root, some_folder(chance)) for _ in range(2))
        # git cannot look into a submodule that was moved.
        is_plain = not os.path.isfile(os.path.join(one, b".git"))
        if is_plain and os.path.realpath(one) == one and self.is_free(other):
            with suppress(OSError):
                os.rename(one, other)

    def nest(self, chance: Random) -> None:
        place = os.path.join(self.root, some_folder(chance))
        if not self.is_free(place + b"/x") or os.path.islink(place):
            return
        self.git("init", "-q", cwd=place)
        for _ in range(2):
            self.put(os.path.join(place, some_path(chance, 2)), b"nested")
        self.put(place + b"/.gitignore", some_rules(chance))
        if chance.random() < 0.6:
            self.git("add", "-A", cwd=place)
            self.git("commit", "-qm", "n", "--allow-empty", cwd=place)

    def link_nested(self, chance: Random) -> None:
        self.git("--literal-pathspecs", "add", "-f", "--", some_folder(chance))

    def submodule(self, chance: Random) -> None:
        path = some_folder(chance)
        self.git("submodule", "--quiet", "add", "-f", str(self.upstream), path)
        self.git("submodule", "--quiet", "update", "--init", "--recursive")
        for _ in range(chance.randrange(3)):
            place = os.path.join(self.root, path)
            if os.path.realpath(place) == place:
                self.put(os.path.join(place, some_path(chance, 2)), b"in a submodule")

    def work_tree(self, chance: Random) -> None:
        self.git("worktree", "add", "-q", "-f", "--detach", some_folder(chance))

    def sparse(self, chance: Random) -> None:
        kind = chance.choice(["--cone --sparse-index", "--cone --no-sparse-index", "--no-cone"])
        wanted = [
            some_folder(chance) if "--cone" in kind.split() else chance.choice(FIXED)
            for _ in range(chance.randrange(3))
        ]
        self.git("sparse-checkout", "set", *kind.split(), *wanted)

    def not_sparse(self, chance: Random) -> None:
        del chance
        self.git("sparse-checkout", "disable")

    def configure(self, chance: Random) -> None:
        settings = [
            "core.autocrlf true",
            "core.fileMode false",
            "core.symlinks false",
            "core.untrackedCache true",
            "core.precomposeUnicode true",
            "status.showUntrackedFiles no",
            "index.sparse true",
            "extensions.worktreeConfig true",
            "submodule.recurse true",
            "core.protectNTFS false",
        ]
        self.git("config", *chance.choice(settings).split())

    def attributes(self, chance: Random) -> None:
        texts = (b"* text=auto eol=crlf\n", b"*.o export-ignore\na filter=lfs\n", b"* ident\n")
        self.put(self.root + b"/.gitattributes", chance.choice(texts))

    def conflict(self, chance: Random) -> None:
        place = os.path.join(self.root, some_path(chance))
        self.git("commit", "-qam", "before", "--allow-empty")
        self.git("checkout", "-q", "-b", "side")
        for text in (b"theirs", b"ours"):
            self.put(place, text)
            self.git("add", "-A")
            self.git("commit", "-qm", "x")
            self.git("checkout", "-q", "main")
        self.git("merge", "side")
        self.git("branch", "-D", "side")

    def overlook(self, chance: Random) -> None:
        flag = chance.choice(["--assume-unchanged", "--skip-worktree"])
        self.git("update-index", flag, "--", some_path(chance))

    def index(self, chance: Random) -> None:
        words = ["--split-index", "--no-split-index", "--index-version 2", "--index-version 4"]
        self.git("update-index", *chance.choice(words).split())

    def reset(self, chance: Random) -> None:
        self.git("reset", "-q", chance.choice(["--hard", "--soft", "--mixed"]), "HEAD~1")

    def stash(self, chance: Random) -> None:
        del chance
        self.git("stash", "-u")


STEPS = sorted(
    name
    for name, found in vars(OddRepository).items()
    if isinstance(found, Callable) and name not in {"__init__", "do", "git", "is_free", "put"}
)


def make_library(folder: Path) -> Path:
    """A repository to be a submodule, with a submodule of its own."""
    inner = GitBox(folder / "inner")
    inner.write("i.py", "1")
    inner.write(".gitignore", "*.o\n")
    inner.commit()
    library = GitBox(folder / "library")
    library.write("l.py", "1")
    library.write(".gitignore", "a\n!b\n")
    library.git("submodule", "--quiet", "add", str(inner.root), "deep")
    library.commit()
    return library.root


def listed_everywhere(box: GitBox, root: bytes, prefix: bytes = b"") -> set[bytes] | None:
    """
    What git lists, and lists in every repository below; ``None`` where git itself fails.

    Names that are ``.git`` in another case are left out by us and by git, once it adds them.
    """
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, cwd=root, env=box.environment, capture_output=True, check=False)
    if done.returncode:
        return None
    found: set[bytes] = set()
    for path in {name.rstrip(b"/") for name in done.stdout.split(b"\0")} - {b""}:
        place = os.path.join(root, path)
        folder = os.path.dirname(place)
        if os.path.realpath(folder) != folder or not os.path.lexists(place):
            continue
        if os.path.islink(place) or not os.path.isdir(place):
            found.add(prefix + path)
        elif repository_at(place) is not None:
            below = listed_everywhere(box, place, prefix + path + b"/")
            if below is None:
                return None
            found |= below
    return found
