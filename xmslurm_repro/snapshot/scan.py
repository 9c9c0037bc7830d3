"""What belongs to a work tree: tracked files that are there, and untracked ones not ignored.

The same files as ``git ls-files --cached --others --exclude-standard``, less the deleted, plus
what is in submodules and nested repositories; found in one walk that looks at each file once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xmslurm_repro.model.snapshot import DEEPEST
from xmslurm_repro.snapshot.cache import Stamp, cache_file, stamp
from xmslurm_repro.snapshot.git_settings import GitSettings, read_settings
from xmslurm_repro.snapshot.ignore import IgnoreRules
from xmslurm_repro.snapshot.index import GITLINK, Index, IndexEntry, read_index
from xmslurm_repro.snapshot.looking import listing_of
from xmslurm_repro.snapshot.repository import (
    Head,
    Repository,
    head_files,
    read_head,
    repository_at,
)
from xmslurm_repro.snapshot.witnesses import Witnesses, index_witness, witness

ID_BYTES = {"sha1": 20, "sha256": 32}

Chain = tuple[tuple[int, IgnoreRules], ...]
"""Rules that apply in a folder, nearest first, each with the length of its folder's path."""


@dataclass(slots=True, kw_only=True)
class Part:
    """
    The files of one repository: the work tree itself, a submodule or a nested repository.

    Attributes:
        prefix: Its path in the work tree with a final slash; empty for the work tree itself.
        repository: ``None`` for a folder that is in no repository.
        is_tracked: Whether it is a submodule, or the work tree itself.
        files: Files and links by path from the work tree's root; a `Known`, which begins as a
            stamp does, of those that were read.
        witnesses: Stamps of all files outside the work tree that decide what is found, from
            before they were read; ``None`` where it depends on more than such files.
    """

    prefix: bytes
    repository: Repository | None
    settings: GitSettings
    head: Head
    index: Index
    is_tracked: bool = True
    files: dict[bytes, Stamp] = field(default_factory=dict)
    witnesses: Witnesses | None = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Scan:
    """
    What a walk found.

    Attributes:
        parts: The work tree first, then what is nested in it.
        skipped: Paths left out, with the reason.
        unreadable: Paths that cannot be captured, with the reason.
        vanished: Folders and files that went away meanwhile.
        folders: Folders that were listed, with their stamps from before.
        listings: What tells the names and kinds in each of them; see `looking.listing_of`.
        rules: Ignore files in the work tree that were read.
        is_plain: Whether the stamps of all these decide what is found.
    """

    parts: list[Part] = field(default_factory=list)
    skipped: dict[bytes, str] = field(default_factory=dict)
    unreadable: dict[bytes, str] = field(default_factory=dict)
    vanished: set[bytes] = field(default_factory=set)
    folders: dict[bytes, Stamp] = field(default_factory=dict)
    listings: dict[bytes, bytes] = field(default_factory=dict)
    rules: set[bytes] = field(default_factory=set)
    is_plain: bool = True

    def forget_files(self) -> None:
        """Let go of what was found in each part and of its index; where parts are, stays."""
        for part in self.parts:
            part.files.clear()
            part.index = Index()


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAccess:
    """Where settings come from and are remembered."""

    environment: Mapping[str, str]
    cache_dir: Path

    def part(self, repository: Repository, prefix: bytes, *, is_tracked: bool = True) -> Part:
        """Read what git knows of a repository."""
        remembered = cache_file(self.cache_dir, repository.root, "git")
        index_path = os.path.join(repository.git_dir, b"index")
        exclude_path = os.path.join(repository.common_dir, b"info", b"exclude")
        names = head_files(repository)
        attributes_path = os.path.join(repository.common_dir, b"info", b"attributes")
        paths = [*(names or ()), os.fsdecode(exclude_path), os.fsdecode(attributes_path)]
        before = {path: witness(path) for path in paths}
        before[os.fsdecode(index_path)] = index_witness(os.fsdecode(index_path))
        settings, read = read_settings(repository, self.environment, remembered)
        for outer in (settings.excludes_file, settings.attributes_file):
            if outer:
                place = os.path.join(os.fsdecode(repository.root), outer)
                before[place] = witness(place)
        index = read_index(index_path, id_bytes=ID_BYTES.get(settings.hash_name, 20))
        if index.collapsed:
            from xmslurm_repro.snapshot.sparse import expand  # noqa: PLC0415 (rare)

            index = expand(repository, index, settings.hash_name)
        return Part(
            prefix=prefix,
            repository=repository,
            settings=settings,
            head=read_head(repository),
            index=index,
            is_tracked=is_tracked,
            witnesses=None if names is None or read is None else {**before, **read},
        )


def scan_work_tree(root: bytes, first: Part, access: GitAccess) -> Scan:
    """
    Walk the folder *root*; links are never followed.

    Args:
        root: Absolute path.
        first: The part that *root* itself is.
        access: For the repositories below it.

    Raises:
        FormatError: If a repository's index or configuration cannot be read.
    """
    scan = Scan()
    waiting = [first]
    while waiting:
        part = waiting.pop()
        scan.parts.append(part)
        _PartScan(root, part, scan, access, waiting).run()
    scan.parts.sort(key=lambda part: part.prefix)
    return scan


class _PartScan:
    """The walk through one repository. Folders that are others' go to *waiting*."""

    def __init__(
        self, root: bytes, part: Part, scan: Scan, access: GitAccess, waiting: list[Part]
    ) -> None:
        self._root = root
        self._part = part
        self._scan = scan
        self._access = access
        self._waiting = waiting
        self._cut = len(part.prefix)
        self._tracked = part.index.entries
        self._folders: list[tuple[bytes, bool, Chain]] = []

    def run(self) -> None:
        self._folders.append((self._part.prefix, False, self._outer_rules()))
        while self._folders:
            prefix, is_ignored, chain = self._folders.pop()
            place = os.path.join(self._root, prefix)
            if prefix.count(b"/") > DEEPEST:
                self._scan.unreadable[prefix.rstrip(b"/")] = f"over {DEEPEST} folders deep"
                continue
            try:
                folder = prefix.rstrip(b"/") or b"."
                self._scan.folders[folder] = stamp(os.lstat(place))
                with os.scandir(place) as found:
                    entries = list(found)
                self._scan.listings[folder] = listing_of(entries)
            except (FileNotFoundError, NotADirectoryError):
                self._scan.vanished.add(prefix)
            except OSError as error:
                self._scan.unreadable[prefix.rstrip(b"/")] = error.strerror or str(error)
            else:
                self._folder(prefix, entries, chain, is_ignored=is_ignored)

    def _folder(
        self, prefix: bytes, entries: list[os.DirEntry[bytes]], chain: Chain, *, is_ignored: bool
    ) -> None:
        cut = self._cut
        if not is_ignored:
            chain = self._rules_of(prefix, entries) + chain
        for entry in entries:
            name = entry.name
            if name == b".git":
                # One that leads nowhere may become a repository, which its folder does not show.
                self._scan.is_plain &= prefix == self._part.prefix
                continue
            if len(name) == 4 and name.lower() == b".git":
                # Whoever restores this where case means nothing gets a repository with hooks.
                self._scan.skipped[prefix + name] = "git refuses this name"
                continue
            path = prefix + name
            known = self._tracked.get(path[cut:])
            try:
                if entry.is_dir(follow_symlinks=False):
                    self._subfolder(path, name, chain, is_ignored, known)
                elif known is not None:
                    self._take(path, entry, is_tracked=True)
                elif not is_ignored and not _is_ignored(chain, path, name, is_folder=False):
                    self._take(path, entry, is_tracked=False)
            except FileNotFoundError:
                self._scan.vanished.add(path)
            except OSError as error:
                self._scan.unreadable[path] = error.strerror or str(error)

    def _subfolder(
        self, path: bytes, name: bytes, chain: Chain, is_ignored: bool, known: IndexEntry | None
    ) -> None:
        if known is not None and known.mode == GITLINK:
            self._submodule(path, chain)
            return
        is_ignored = is_ignored or _is_ignored(chain, path, name, is_folder=True)
        if path[self._cut :] not in self._part.index.folders:
            # A repository in place of a tracked file counts, as a submodule that nobody added.
            if is_ignored and known is None:
                return
            repository = repository_at(os.path.join(self._root, path))
            if repository is not None and not self._is_own(repository):
                nested = self._access.part(repository, path + b"/", is_tracked=False)
                self._waiting.append(nested)
                return
            if is_ignored:
                return
        self._folders.append((path + b"/", is_ignored, chain))

    def _is_own(self, repository: Repository) -> bool:
        """Whether it is this very one: ``core.worktree`` may name a folder above ``.git``."""
        own = self._part.repository
        return own is not None and os.path.realpath(repository.git_dir) == os.path.realpath(
            own.git_dir
        )

    def _submodule(self, path: bytes, chain: Chain) -> None:
        place = os.path.join(self._root, path)
        repository = repository_at(place)
        if repository is not None:
            self._waiting.append(self._access.part(repository, path + b"/"))
        elif os.path.lexists(os.path.join(place, b".git")):
            self._scan.unreadable[path] = "its `.git` does not lead to a repository"
        else:
            self._scan.skipped[path] = "the submodule is not checked out"
            # git lists nothing here. What somebody put here all the same may decide a run.
            self._folders.append((path + b"/", False, chain))

    def _take(self, path: bytes, entry: os.DirEntry[bytes], *, is_tracked: bool) -> None:
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
            self._part.files[path] = stamp(found)
        elif is_tracked:
            self._scan.unreadable[path] = f"git tracks it, but it is {_kind(found.st_mode)}"
        else:
            self._scan.skipped[path] = f"it is {_kind(found.st_mode)}"

    def _own_rules(self, prefix: bytes, entry: os.DirEntry[bytes]) -> Chain:
        # A .gitignore that is a link is not read, as git does not since 2.32.
        if not entry.is_file(follow_symlinks=False):
            return ()
        path = prefix + b".gitignore"
        self._scan.rules.add(path)
        return self._rules(os.path.join(self._root, path), len(prefix))

    def _rules_of(self, prefix: bytes, entries: list[os.DirEntry[bytes]]) -> Chain:
        for entry in entries:
            if entry.name == b".gitignore":
                return self._own_rules(prefix, entry)
        return self._absent_rules(prefix) if self._part.index.absent else ()

    def _absent_rules(self, prefix: bytes) -> Chain:
        """Those of an ignore file that only the sparse checkout keeps from being here."""
        part, path = self._part, prefix[self._cut :] + b".gitignore"
        if part.repository is None or path not in part.index.absent:
            return ()
        from xmslurm_repro.snapshot.sparse import absent_rules  # noqa: PLC0415 (rare)

        settings = part.settings
        text = absent_rules(part.repository, part.index, path, settings.hash_name)
        return ((len(prefix), IgnoreRules(text, ignore_case=settings.ignore_case)),)

    def _outer_rules(self) -> Chain:
        repository, excludes_file = self._part.repository, self._part.settings.excludes_file
        if repository is None:
            return ()
        chain = self._rules(os.path.join(repository.common_dir, b"info", b"exclude"), self._cut)
        if excludes_file:
            place = os.path.join(repository.root, os.fsencode(excludes_file))
            chain += self._rules(place, self._cut)
        return chain

    def _rules(self, place: bytes, cut: int) -> Chain:
        # An unreadable .gitignore is reported when its bytes are to be captured.
        text = _read_rules(place)
        if text is None:
            return ()
        return ((cut, IgnoreRules(text, ignore_case=self._part.settings.ignore_case)),)


def _read_rules(place: bytes) -> bytes | None:
    """
    The bytes of a file with rules, or ``None`` where it holds none: a configuration may name a
    device or a FIFO, which would never end.
    """
    try:
        if not stat.S_ISREG(os.stat(place).st_mode):
            return None
        with open(place, "rb") as file:
            return file.read()
    except OSError:
        return None


def _is_ignored(chain: Chain, path: bytes, name: bytes, *, is_folder: bool) -> bool:
    for cut, rules in chain:
        decision = rules.decide(path[cut:], name, is_folder=is_folder)
        if decision is not None:
            return decision
    return False


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
    }
    return kinds.get(stat.S_IFMT(mode), "no regular file")


def all_files(scan: Scan) -> Iterator[tuple[Part, bytes, Stamp]]:
    """Every file and link with the part that it belongs to."""
    for part in scan.parts:
        for path, found in part.files.items():
            yield part, path, found
