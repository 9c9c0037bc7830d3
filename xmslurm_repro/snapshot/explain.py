"""Why a path is in a snapshot, or out: which rule in which file at which line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from xmslurm_repro.errors import UsageError
from xmslurm_repro.model.choice import Choice, Explanation
from xmslurm_repro.snapshot.cache import Stamp
from xmslurm_repro.snapshot.capturing import first_part
from xmslurm_repro.snapshot.choosing import Rules, let_in
from xmslurm_repro.snapshot.ignore import IgnoreRules, Line
from xmslurm_repro.snapshot.lfs import find_pointers
from xmslurm_repro.snapshot.paths import shown
from xmslurm_repro.snapshot.scan import GitAccess, Part, Scan, scan_work_tree


def explain(
    start: Path,
    path: Path,
    *,
    choice: Choice,
    cache_dir: Path,
    environment: Mapping[str, str],
    allow_no_repository: bool = False,
) -> Explanation:
    """
    Say why *path* is in a snapshot of the work tree that holds *start*, or out.

    Args:
        start: A folder of the work tree.
        path: From *start*; it need not be there.
        choice: The rules beyond git's.
        cache_dir: As for `capture`.
        environment: As for `capture`.
        allow_no_repository: As for `capture`.

    Raises:
        UsageError: If *path* is outside the work tree.
        NoRepositoryError: As for `capture`.
    """
    access = GitAccess(environment=environment, cache_dir=cache_dir)
    first = first_part(start, access, allow_no_repository=allow_no_repository)
    root = first.repository.root if first.repository else os.fsencode(start.resolve())
    scan = scan_work_tree(root, first, access)
    # The folders above it may be links; it itself is what is asked about.
    place = os.path.join(os.path.realpath(os.fsencode((start / path).parent)), _name(start, path))
    if place == root:
        relative = b""
    elif place.startswith(root + b"/"):
        relative = place[len(root) + 1 :]
    else:
        raise UsageError(f"{path} is outside the work tree {shown(root)}")
    return _Explaining(root, scan, Rules(choice)).path(relative)


def _name(start: Path, path: Path) -> bytes:
    return os.fsencode(Path(os.path.normpath(start / path)).name)


class _Explaining:
    def __init__(self, root: bytes, scan: Scan, rules: Rules) -> None:
        self._root, self._scan, self._rules = root, scan, rules

    def path(self, path: bytes) -> Explanation:
        part = self._part(path)
        found = part.files.get(path)
        if found is not None:
            return self._file(part, path, found)
        if path in self._scan.unreadable:
            return _out(path, f"it cannot be captured: {self._scan.unreadable[path]}")
        above = path
        while above:
            for reasons in (self._scan.skipped, self._scan.unreadable):
                if above in reasons:
                    where = "" if above == path else f"{shown(above)}: "
                    return _out(path, where + reasons[above])
            above = above.rpartition(b"/")[0]
        place = os.path.join(self._root, path)
        if b".git" in path.split(b"/"):
            return _out(path, "it is git's own")
        if os.path.isdir(place) and not os.path.islink(place):
            return self._folder(part, path)
        if self._rules.is_included(path) and os.path.lexists(place):
            let_in(self._root, self._scan, self._rules)
            if path in part.files:
                return self._wanted(path)
        if not os.path.lexists(place):
            return self._absent(part, path)
        return self._ignored(part, path)

    def _part(self, path: bytes) -> Part:
        parts = (part for part in self._scan.parts if (path + b"/").startswith(part.prefix))
        return max(parts, key=lambda part: len(part.prefix))

    def _wanted(self, path: bytes) -> Explanation:
        pattern = self._rules.include_pattern(path)
        return _in(path, "the choice includes it", rule=pattern, file="[snapshot] include")

    def _file(self, part: Part, path: bytes, found: Stamp) -> Explanation:
        place = self._rules.excluded_at(path)
        if place is not None:
            return _out(
                path,
                "the choice excludes it" + (f", with {shown(place)}" if place != path else ""),
                rule=self._rules.exclude_pattern(place),
                file="[snapshot] exclude",
            )
        if self._rules.is_included(path):
            return self._wanted(path)
        is_tracked = path[len(part.prefix) :] in part.index.entries
        doubt = self._rules.doubt(self._root, path, found, is_tracked=is_tracked)
        if doubt is not None and not is_tracked:
            return _out(path, f"a launch asks before it captures it: {doubt}")
        if path in find_pointers(self._root, part):
            return _in(path, "it is a pointer of Git LFS, not the file itself")
        if is_tracked:
            return _in(path, "git tracks it" + (f", although {doubt}" if doubt else ""))
        file, line = self._decisive(part, path, is_folder=False) or (None, None)
        if line is not None:
            return _in(path, "untracked, and a rule keeps it", line=line, file=file)
        return _in(path, "untracked, and no rule ignores it")

    def _folder(self, part: Part, path: bytes) -> Explanation:
        below = path + b"/" if path else b""
        files = sum(
            other.startswith(below) and self._rules.excluded_at(other) is None
            for one in self._scan.parts
            for other in one.files
        )
        if files:
            return _in(path, f"a folder with {files} captured {'file' if files == 1 else 'files'}")
        ignored = self._ignored(part, path, is_folder=True)
        return ignored if ignored.rule else _out(path, "a folder without files to capture")

    def _absent(self, part: Part, path: bytes) -> Explanation:
        relative = path[len(part.prefix) :]
        while relative:
            if relative in part.index.absent:
                return _out(path, "the sparse checkout leaves it out")
            relative = relative.rpartition(b"/")[0]
        if path[len(part.prefix) :] in part.index.entries:
            return _out(path, "git tracks it, but it is deleted")
        return _out(path, "there is no such file")

    def _ignored(self, part: Part, path: bytes, *, is_folder: bool = False) -> Explanation:
        """Which rule ignores it, or the first folder above it that one ignores."""
        at = path.find(b"/", len(part.prefix))
        while at >= 0:
            found = self._decisive(part, path[:at], is_folder=True)
            if found is not None and not found[1].text.startswith(b"!"):
                why = f"git ignores its folder {shown(path[:at])}"
                return _out(path, why, line=found[1], file=found[0])
            at = path.find(b"/", at + 1)
        found = self._decisive(part, path, is_folder=is_folder)
        if found is not None:
            return _out(path, "git ignores it", line=found[1], file=found[0])
        return _out(path, "it is neither tracked nor a file to capture")

    def _decisive(self, part: Part, path: bytes, *, is_folder: bool) -> tuple[str, Line] | None:
        name = path.rpartition(b"/")[2]
        for place, folder in self._rule_files(part, path):
            try:
                with open(place, "rb") as file:
                    text = file.read()
            except OSError:
                continue
            rules = IgnoreRules(text, ignore_case=part.settings.ignore_case)
            line = rules.find(path[len(folder) :], name, is_folder=is_folder)
            if line is not None:
                return self._shown(place), line
        return None

    def _rule_files(self, part: Part, path: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Files with rules for *path*, the one that wins first, each with its folder."""
        folder = path.rpartition(b"/")[0]
        while True:
            prefix = folder + b"/" if folder else b""
            place = os.path.join(self._root, prefix, b".gitignore")
            if not os.path.islink(place):
                yield place, prefix
            if len(prefix) <= len(part.prefix):
                break
            folder = folder.rpartition(b"/")[0]
        repository, excludes_file = part.repository, part.settings.excludes_file
        if repository is not None:
            yield os.path.join(repository.common_dir, b"info", b"exclude"), part.prefix
            if excludes_file:
                yield os.path.join(repository.root, os.fsencode(excludes_file)), part.prefix

    def _shown(self, place: bytes) -> str:
        return shown(place.removeprefix(self._root + b"/"))


def _in(
    path: bytes, why: str, *, rule: str | None = None, file: str | None = None,
    line: Line | None = None,
) -> Explanation:  # fmt: skip
    return _explanation(path, why, rule, file, line, is_captured=True)


def _out(
    path: bytes, why: str, *, rule: str | None = None, file: str | None = None,
    line: Line | None = None,
) -> Explanation:  # fmt: skip
    return _explanation(path, why, rule, file, line, is_captured=False)


def _explanation(
    path: bytes, why: str, rule: str | None, file: str | None, line: Line | None, *,
    is_captured: bool,
) -> Explanation:  # fmt: skip
    return Explanation(
        path=shown(path) or ".",
        is_captured=is_captured,
        why=why,
        rule=shown(line.text) if line else rule,
        file=file,
        line=line.number if line else None,
    )
