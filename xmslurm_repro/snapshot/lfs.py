"""Which files of Git LFS are only pointers, by git-lfs's ``docs/spec.md`` and gitattributes(5)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from xmslurm_repro.snapshot.ignore import IgnoreRules
from xmslurm_repro.snapshot.scan import Part

_NAME = b".gitattributes"
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
        if found.size_bytes <= _LARGEST_POINTER_BYTES and _is_lfs(rules, path):
            head = _read(os.path.join(root, path), len(_FIRST_LINES[0]))
            if head.startswith(_FIRST_LINES):
                yield path


def _rules(root: bytes, part: Part) -> Iterator[tuple[bytes, IgnoreRules]]:
    """Rules that say what is git-lfs's, the nearest first, each with its folder."""
    if part.repository is None:
        return
    own = os.path.join(part.repository.common_dir, b"info", b"attributes")
    yield from _parse(_read(own), part.prefix)
    places = [path for path in part.files if path.endswith(_NAME)]
    named = [path for path in places if path.rpartition(b"/")[2] == _NAME]
    for path in sorted(named, key=lambda path: -path.count(b"/")):
        yield from _parse(_read(os.path.join(root, path)), path[: -len(_NAME)])


def _parse(text: bytes, folder: bytes) -> Iterator[tuple[bytes, IgnoreRules]]:
    lines: list[bytes] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith((b"#", b"[attr]", b"!")):
            continue
        for word in words[1:]:
            if word == b"filter=lfs":
                lines.append(words[0])
            elif word in {b"-filter", b"!filter"} or word.startswith(b"filter="):
                lines.append(b"!" + words[0])
    if lines:
        yield folder, IgnoreRules(b"\n".join(lines))


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
