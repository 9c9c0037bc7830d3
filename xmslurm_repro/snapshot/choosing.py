"""Applying a person's choice to what a walk found: what comes in, what stays out, what is asked."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from xmslurm_repro.errors import DoubtfulFilesError
from xmslurm_repro.model.choice import Choice
from xmslurm_repro.snapshot.cache import Stamp, stamp
from xmslurm_repro.snapshot.ignore import IgnoreRules
from xmslurm_repro.snapshot.lfs import find_pointers
from xmslurm_repro.snapshot.paths import shown
from xmslurm_repro.snapshot.scan import Part, Scan
from xmslurm_repro.snapshot.secrets import is_public, secret_inside

Notes = dict[bytes, str]
"""What people should know of files that are captured, by path."""


class Rules:
    """
    A choice, ready to be asked.

    Every path is from the root of the work tree.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self._include = _patterns(choice.include)
        self._exclude = _patterns(choice.exclude)
        self._secrets = _patterns(choice.secrets)

    @property
    def may_exclude(self) -> bool:
        """Whether anything can be left out at all."""
        return self._exclude is not None

    @property
    def may_include(self) -> bool:
        """Whether anything can come in at all."""
        return self._include is not None

    def is_included(self, path: bytes) -> bool:
        """Whether the choice wants the file at *path* in any case."""
        return self._include is not None and _reach(self._include, path) is not None

    def excluded_at(self, path: bytes) -> bytes | None:
        """The path or the folder above it that the choice leaves out, if it does."""
        if self._exclude is None or self.is_included(path):
            return None
        return _reach(self._exclude, path)

    def exclude_pattern(self, path: bytes) -> str:
        """The pattern that leaves out *path*, for people."""
        return _pattern_of(self._exclude, path)

    def include_pattern(self, path: bytes) -> str:
        """The pattern that wants *path*, for people."""
        reached = _reach(self._include, path) if self._include else None
        return _pattern_of(self._include, reached or path)

    def doubt(self, root: bytes, path: bytes, found: Stamp, *, is_tracked: bool) -> str | None:
        """What speaks against capturing a file, or ``None``."""
        name = path.rpartition(b"/")[2]
        place = os.path.join(root, path)
        is_named = self._secrets is not None and self._secrets.decide(path, name, is_folder=False)
        if is_named and not is_public(place, found.size_bytes):
            return f"its name looks like a secret's ({_pattern_of(self._secrets, path)})"
        limit = self.choice.max_file_bytes
        if limit is not None and found.size_bytes > limit:
            return f"it is larger than {say_bytes(limit)}"
        if self.choice.looks_inside and not is_tracked and stat.S_ISREG(found.mode):
            secret = secret_inside(place, found.size_bytes)
            return f"it seems to hold {secret}" if secret else None
        return None


def choose(root: bytes, scan: Scan, rules: Rules) -> Notes:
    """
    Let in and leave out what *rules* say; what is left out goes to ``scan.skipped``.

    Args:
        root: Absolute path of the work tree.
        scan: What was found; changed.
        rules: The choice.

    Returns:
        What people should know of files that are captured: large ones and secrets that git
        tracks, pointers of Git LFS.

    Raises:
        DoubtfulFilesError: If untracked files are large or look like secrets; names all.
    """
    if rules.may_include:
        let_in(root, scan, rules)
    if rules.may_exclude:
        _leave_out(scan, rules)
    notes: Notes = {}
    doubtful: list[_Doubt] = []
    for part in scan.parts:
        cut, tracked = len(part.prefix), part.index.entries
        for path, found in part.files.items():
            is_tracked = path[cut:] in tracked
            doubt = rules.doubt(root, path, found, is_tracked=is_tracked)
            if doubt is None or rules.is_included(path):
                continue
            if is_tracked:
                notes[path] = f"{say_bytes(found.size_bytes)}, tracked by git; {doubt}"
            else:
                doubtful.append(_Doubt(path=path, size_bytes=found.size_bytes, why=doubt))
        for path in find_pointers(root, part):
            notes[path] = "a pointer of Git LFS, not the file itself; run `git lfs pull`"
    if doubtful:
        raise _refusal(doubtful)
    return notes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doubt:
    path: bytes
    size_bytes: int
    why: str


def _refusal(doubtful: list[_Doubt]) -> DoubtfulFilesError:
    count = len(doubtful)
    return DoubtfulFilesError(
        f"{count} untracked {'file is' if count == 1 else 'files are'} large or may be secret",
        details=[
            f"{shown(doubt.path)}: {say_bytes(doubt.size_bytes)}; {doubt.why}"
            for doubt in sorted(doubtful, key=lambda doubt: doubt.path)
        ],
        hint="For each, say `--exclude PATH` to leave it out or `--include PATH` to capture it, or"
        " write it to `exclude` or `include` of [snapshot] in xmslurm-repro.toml.",
    )


def say_bytes(count: int) -> str:
    """A number of bytes in decimal units."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _patterns(texts: tuple[str, ...]) -> IgnoreRules | None:
    return IgnoreRules("\n".join(texts).encode()) if texts else None


def _pattern_of(rules: IgnoreRules | None, path: bytes) -> str:
    name = path.rpartition(b"/")[2]
    found = rules.find(path, name, is_folder=False) if rules else None
    if rules is not None and found is None:
        found = rules.find(path, name, is_folder=True)
    return shown(found.text) if found else ""


def _reach(rules: IgnoreRules, path: bytes) -> bytes | None:
    """The part of *path* that the rules speak for: itself, or a folder above it."""
    at = path.find(b"/")
    while at >= 0:
        folder = path[:at]
        if rules.decide(folder, folder.rpartition(b"/")[2], is_folder=True):
            return folder
        at = path.find(b"/", at + 1)
    return path if rules.decide(path, path.rpartition(b"/")[2], is_folder=False) else None


def _leave_out(scan: Scan, rules: Rules) -> None:
    for part in scan.parts:
        for path in list(part.files):
            place = rules.excluded_at(path)
            if place is not None:
                del part.files[path]
                scan.skipped[place] = f"excluded by choice ({rules.exclude_pattern(place)})"
    for path in [path for path in scan.unreadable if rules.excluded_at(path) is not None]:
        del scan.unreadable[path]
        scan.skipped[path] = f"excluded by choice ({rules.exclude_pattern(path)})"


def let_in(root: bytes, scan: Scan, rules: Rules) -> None:
    """Add the files that git ignores and the choice wants, which takes a walk of its own."""
    known = {path for part in scan.parts for path in part.files}
    for path, found in _all_paths(root, scan):
        if path not in known and rules.is_included(path):
            part = max(
                (part for part in scan.parts if path.startswith(part.prefix)),
                key=lambda part: len(part.prefix),
            )
            _take(part, scan, path, found)


def _take(part: Part, scan: Scan, path: bytes, found: os.stat_result) -> None:
    if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
        part.files[path] = stamp(found)
    elif path not in scan.unreadable:
        scan.skipped.setdefault(path, "it is no regular file")


def _all_paths(root: bytes, scan: Scan) -> Iterator[tuple[bytes, os.stat_result]]:
    folders = [b""]
    while folders:
        prefix = folders.pop()
        try:
            # The memory of this capture has to see what comes and goes here, too.
            here = stamp(os.lstat(os.path.join(root, prefix)))
            scan.folders.setdefault(prefix.rstrip(b"/") or b".", here)
            with os.scandir(os.path.join(root, prefix)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            for entry in entries:
                if entry.name == b".git":
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(prefix + entry.name + b"/")
                else:
                    yield prefix + entry.name, entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            scan.vanished.add(prefix)
        except OSError:
            # An ignored folder that nobody may read holds nothing that anybody could want.
            continue
