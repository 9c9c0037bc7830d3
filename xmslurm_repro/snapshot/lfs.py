"""Which files of Git LFS are only pointers, by git-lfs's ``docs/spec.md`` and gitattributes(5)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from xmslurm_repro.snapshot.cache import Stamp
from xmslurm_repro.snapshot.ignore import IgnoreRules
from xmslurm_repro.snapshot.scan import Part

_NAME = b".gitattributes"
_MACRO = b"[attr]"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPE = re.compile(rb"\\([abfnrtv\"\\]|[0-3][0-7]{2})")
_ESCAPES = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}
_LINE = re.compile(rb'\s*(?!#)("(?:[^"\\]|\\.)*"|\S+)\s*(.*)')
_LARGEST_POINTER_BYTES = 1024
_FIRST_LINES = (
    b"version https://git-lfs.github.com/spec/v1\n",
    b"version https://hawser.github.com/spec/v1\n",
)


def find_pointers(root: bytes, part: Part) -> Iterator[bytes]:
    """
    The files of *part* that hold a pointer in place of the content that git-lfs would put there.

    Only files that the repository's attributes give to git-lfs are looked at.
    """
    rules = list(_rules(root, part))
    if not rules:
        return
    for path, found in part.files.items():
        is_small = found.size_bytes <= _LARGEST_POINTER_BYTES
        if is_small and _is_lfs(rules, path) and reads_as_pointer(root, path, found):
            yield path


def reads_as_pointer(root: bytes, path: bytes, found: Stamp) -> bool:
    """Whether a file holds what would be a pointer if the repository's attributes said so."""
    if found.size_bytes > _LARGEST_POINTER_BYTES:
        return False
    return _read(os.path.join(root, path), len(_FIRST_LINES[0])).startswith(_FIRST_LINES)


def _rules(root: bytes, part: Part) -> Iterator[tuple[bytes, IgnoreRules]]:
    """Rules that say what is git-lfs's, the nearest first, each with its folder."""
    if part.repository is None:
        return
    repository, outer = part.repository, part.settings.attributes_file
    # From the weakest to the strongest: what defines a macro comes before what uses it.
    texts: list[tuple[bytes, bytes]] = []
    if outer:
        texts.append((part.prefix, _read(os.path.join(repository.root, os.fsencode(outer)))))
    places = [path for path in part.files if path.endswith(_NAME)]
    named = [path for path in places if path.rpartition(b"/")[2] == _NAME]
    texts += [
        (path[: -len(_NAME)], _read(os.path.join(root, path)))
        for path in sorted(named, key=lambda path: (path.count(b"/"), path))
        if stat.S_ISREG(part.files[path].mode)
    ]
    own = os.path.join(repository.common_dir, b"info", b"attributes")
    texts.append((part.prefix, _read(own)))
    macros: dict[bytes, bool] = {}
    parsed = [(folder, _parse(text, macros)) for folder, text in texts]
    yield from ((folder, rules) for folder, rules in reversed(parsed) if rules is not None)


def _parse(text: bytes, macros: dict[bytes, bool]) -> IgnoreRules | None:
    """What a file with attributes gives to git-lfs, and takes from it; *macros* grows."""
    lines: list[bytes] = []
    for line in text.removeprefix(_BYTE_ORDER_MARK).splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        pattern = _unquoted(found[1])
        decision = _decision(found[2].split(), macros)
        if pattern.startswith(_MACRO):
            if decision is not None:
                macros[pattern.removeprefix(_MACRO)] = decision
        elif decision is not None and not pattern.startswith(b"!"):
            lines.append(pattern if decision else b"!" + pattern)
    return IgnoreRules(b"\n".join(lines)) if lines else None


def _decision(words: list[bytes], macros: dict[bytes, bool]) -> bool | None:
    decision: bool | None = None
    for word in words:
        if word.lstrip(b"-!").partition(b"=")[0] == b"filter":
            decision = word == b"filter=lfs"
        elif word in macros:
            decision = macros[word]
    return decision


def _unquoted(pattern: bytes) -> bytes:
    """A pattern that may be quoted as C writes strings, for blanks in it."""
    if not pattern.startswith(b'"'):
        return pattern
    return _ESCAPE.sub(_unescaped, pattern[1:-1])


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found[1]
    return bytes([int(code, 8)]) if code.isdigit() else _ESCAPES.get(code, code)


def _is_lfs(rules: list[tuple[bytes, IgnoreRules]], path: bytes) -> bool:
    name = path.rpartition(b"/")[2]
    for folder, found in rules:
        if path.startswith(folder):
            decision = found.decide(path[len(folder) :], name, is_folder=False)
            if decision is not None:
                return decision
    return False


def _read(place: bytes, size: int = -1) -> bytes:
    try:
        with open(place, "rb") as file:
            return file.read(size)
    except OSError:
        return b""
