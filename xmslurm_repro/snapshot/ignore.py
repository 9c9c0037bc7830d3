"""Ignore rules, as git reads them (gitignore(5)).

Own code because the library's differs from git in ways that lose files or let them in: what
wins between ``info/exclude`` and ``core.excludesFile``, byte order marks, ``a**/x``, links to
folders. ``tests/property/test_snapshot_against_git.py`` compares this with git itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from xmslurm_repro.snapshot.wildmatch import has_wildcard, literal_length, translate

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A rule as people wrote it: the number of its line, from 1, and its text."""

    number: int
    text: bytes


class IgnoreRules:
    """
    The rules of one file.

    Args:
        text: The bytes of a ``.gitignore`` or an exclude file.
        ignore_case: ``core.ignoreCase``.
    """

    def __init__(self, text: bytes, *, ignore_case: bool = False) -> None:
        self._ignore_case = ignore_case
        self._is_negated: list[bool] = []
        self._written: list[Line] = []
        # Most rules are plain names or "*.ext": these are looked up, the others tried in turn.
        self._by_name: dict[bytes, list[_Rule]] = {}
        self._by_extension: dict[bytes, list[_Rule]] = {}
        self._by_path: dict[bytes, list[_Rule]] = {}
        self._others: list[_Rule] = []
        for line in _lines(text):
            self._written.append(line)
            self._add(line.text)
        self._others.reverse()

    def decide(self, path: bytes, name: bytes, *, is_folder: bool) -> bool | None:
        """
        Whether a path is ignored, or ``None`` when no rule here speaks of it. The last that
        does wins.

        Args:
            path: From the folder of the rules' file, ``/`` between components.
            name: Its last component.
            is_folder: Whether it is a folder; a link to one is not.
        """
        best = self._best(path, name, is_folder=is_folder)
        return None if best < 0 else not self._is_negated[best]

    def find(self, path: bytes, name: bytes, *, is_folder: bool) -> Line | None:
        """The line that `decide` went by, or ``None`` when no rule here speaks of the path."""
        best = self._best(path, name, is_folder=is_folder)
        return None if best < 0 else self._written[best]

    def _best(self, path: bytes, name: bytes, *, is_folder: bool) -> int:
        if self._ignore_case:
            path, name = path.lower(), name.lower()
        best = _last(self._by_name.get(name), -1, is_folder=is_folder)
        best = _last(self._by_path.get(path), best, is_folder=is_folder)
        _, dot, extension = name.rpartition(b".")
        if dot:
            best = _last(self._by_extension.get(extension), best, is_folder=is_folder)
        for rule in self._others:
            if rule.number < best:
                break
            if (is_folder or not rule.folders_only) and rule.matches(path, name):
                best = rule.number
                break
        return best

    def _add(self, line: bytes) -> None:
        is_negated = line.startswith(b"!")
        pattern = line[is_negated:]
        folders_only = pattern.endswith(b"/")
        pattern = pattern[: len(pattern) - folders_only]
        on_path = b"/" in pattern
        pattern = pattern[pattern.startswith(b"/") :]
        if self._ignore_case:
            pattern = pattern.lower()
        rule = _Rule(len(self._is_negated), pattern, on_path=on_path, folders_only=folders_only)
        self._is_negated.append(is_negated)
        if not has_wildcard(pattern):
            table = self._by_path if on_path else self._by_name
            table.setdefault(pattern, []).append(rule)
        elif not on_path and (extension := _extension(pattern)):
            self._by_extension.setdefault(extension, []).append(rule)
        else:
            self._others.append(rule)


class _Rule:
    def __init__(self, number: int, pattern: bytes, *, on_path: bool, folders_only: bool) -> None:
        self.number = number
        self.folders_only = folders_only
        self._pattern = pattern
        self._on_path = on_path

    def matches(self, path: bytes, name: bytes) -> bool:
        return self._compiled.fullmatch(path if self._on_path else name) is not None

    @cached_property
    def _compiled(self) -> re.Pattern[bytes]:
        # git compares the literal beginning first and gives the rest to its matcher, to which
        # "**" at the start of the rest is a leading one: "a**/x" matches "ab/c/x".
        count = literal_length(self._pattern) if self._on_path else 0
        rest = translate(self._pattern[count:], is_path=self._on_path)
        return re.compile(re.escape(self._pattern[:count]) + rest, re.DOTALL)


def _last(rules: Iterable[_Rule] | None, best: int, *, is_folder: bool) -> int:
    for rule in rules or ():
        if rule.number > best and (is_folder or not rule.folders_only):
            best = rule.number
    return best


def _extension(pattern: bytes) -> bytes | None:
    """The ``ext`` of ``*.ext``, where a look at a name's last dot decides."""
    if pattern[:2] != b"*." or has_wildcard(pattern[2:]) or b"." in pattern[2:]:
        return None
    return pattern[2:]


def _lines(text: bytes) -> Iterable[Line]:
    for number, line in enumerate(text.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), start=1):
        if line and not line.startswith(b"#"):
            # git keeps lines as C strings.
            kept = _without_trailing_spaces(line.removesuffix(b"\r").partition(b"\0")[0])
            yield Line(number, kept)


def _without_trailing_spaces(line: bytes) -> bytes:
    kept = line.rstrip(b" ")
    if len(kept) == len(line):
        return line
    # An odd number of backslashes escapes the first of the spaces, which then stays.
    backslashes = len(kept) - len(kept.rstrip(b"\\"))
    return line[: len(kept) + backslashes % 2]
