"""Which file of the code goes into which layer, so that an edit moves little.

A rule looks at paths and sizes only, never at what was edited when: the same tree is dealt the
same way on every machine. Each layout has its own, frozen. The number of layers grows in powers
of two with the size, so that it seldom changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from xmslurm_repro.model.image import LAYOUT
from xmslurm_repro.model.snapshot import EntryKind, PathEntry

Buckets = tuple[tuple[PathEntry, ...], ...]

MAX_CODE_LAYERS = {1: 16 + 8 + 16, 2: 32 + 16 + 8 + 8 + 8}
"""How many layers the code may take, by layout."""

_LARGE = 1 << 20
_TEXT_SUFFIXES = (
    *(b".bash", b".bib", b".c", b".cc", b".cfg", b".cpp", b".cu", b".cuh", b".gin", b".h"),
    *(b".hpp", b".ini", b".ipynb", b".jl", b".js", b".json", b".lock", b".lua", b".md", b".proto"),
    *(b".py", b".pyi", b".pyx", b".r", b".rs", b".rst", b".sh", b".sql", b".tex", b".toml"),
    *(b".ts", b".txt", b".yaml", b".yml"),
)
_SIZES_2 = ((16 << 10, 32), (64 << 10, 16), (_LARGE, 8))
"""Layout 2: text below so many bytes goes into so many layers at most. What people edit by hand
is mostly small, and small files are little altogether: so they are dealt finely."""


def deal(entries: Iterable[PathEntry], layout: int = LAYOUT) -> Buckets:
    """Part *entries* into the contents of layers; none is empty. At most `MAX_CODE_LAYERS`."""
    text: list[PathEntry] = []
    data: list[PathEntry] = []
    large: list[PathEntry] = []
    for entry in entries:
        if entry.kind is EntryKind.SYMLINK:
            text.append(entry)
        elif entry.size_bytes >= _LARGE:
            large.append(entry)
        elif _is_text(entry.path):
            text.append(entry)
        else:
            data.append(entry)
    return (_deal_1 if layout == 1 else _deal_2)(text, data, large)


def _deal_1(
    text: Sequence[PathEntry], data: Sequence[PathEntry], large: Sequence[PathEntry]
) -> Buckets:
    return (
        *_buckets(text, _layer_count(text, 1 << 20, most=16), _folder),
        *_buckets(data, _layer_count(data, 16 << 20, most=8), _path),
        *_buckets(large, 16, _path),
    )


def _deal_2(
    text: Sequence[PathEntry], data: Sequence[PathEntry], large: Sequence[PathEntry]
) -> Buckets:
    by_size: list[list[PathEntry]] = [[] for _ in _SIZES_2]
    for entry in text:
        below = (n for n, (limit, _) in enumerate(_SIZES_2) if entry.size_bytes < limit)
        # The target of a link may be longer than any file of text is, in theory.
        by_size[next(below, -1)].append(entry)
    texts = (
        _buckets(found, _layer_count(found, 128 << 10, most=most), _path)
        for found, (_, most) in zip(by_size, _SIZES_2, strict=True)
    )
    return (
        *chain.from_iterable(texts),
        *_buckets(data, _layer_count(data, 4 << 20, most=8), _path),
        *_buckets(large, 8, _path),
    )


def _buckets(
    entries: Sequence[PathEntry], count: int, name_of: Callable[[bytes], bytes]
) -> Iterable[tuple[PathEntry, ...]]:
    dealt: dict[int, list[PathEntry]] = {}
    for entry in entries:
        first_byte = hashlib.sha256(name_of(entry.path)).digest()[0]
        dealt.setdefault(first_byte % count, []).append(entry)
    return (tuple(sorted(dealt[n], key=lambda entry: entry.path)) for n in sorted(dealt))


def _layer_count(entries: Sequence[PathEntry], layer_size_bytes: int, *, most: int) -> int:
    wanted = sum(entry.size_bytes for entry in entries) // layer_size_bytes
    return min(most, 1 << wanted.bit_length())


def _path(path: bytes) -> bytes:
    return path


def _folder(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _is_text(path: bytes) -> bool:
    name = path.rpartition(b"/")[2]
    return b"." not in name[1:] or name.lower().endswith(_TEXT_SUFFIXES)
