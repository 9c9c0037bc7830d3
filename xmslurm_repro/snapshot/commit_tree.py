"""The tree of a commit, straight from git's object files (gitformat-pack(5), "Git Internals").

The library answers every such question, but to import it takes longer than to scan a repository
of hundreds of files, and this is asked at each launch after a commit. What is not simple, such as
a commit that is stored as a difference, is left to it.
"""

from __future__ import annotations

import os
import struct
import zlib

from xmslurm_repro.snapshot.repository import Repository

_ENOUGH_BYTES = 200
"""How much of a commit is looked at: its kind, size and tree are in its first lines."""
_MOST_PACKED_BYTES = 4096
_INDEX_MAGIC = b"\xfftOc\x00\x00\x00\x02"
_FANOUT_BYTES = 4 * 256
_LARGE = 1 << 31
_COMMIT = 1


def quick_root_tree(repository: Repository, commit: str) -> str | None:
    """
    The id of *commit*'s tree, or ``None`` where the library has to be asked.

    Args:
        repository: Where the commit is.
        commit: Its id in hexadecimal.
    """
    objects = os.path.join(repository.common_dir, b"objects")
    name = bytes.fromhex(commit)
    try:
        begin = _loose(objects, commit.encode()) or _packed(objects, name)
    except (OSError, zlib.error, struct.error, IndexError):
        return None
    if begin is None or not begin.startswith(b"tree "):
        return None
    tree = begin[5:].partition(b"\n")[0].decode("ascii", "replace")
    is_id = len(tree) == len(commit) and not tree.strip("0123456789abcdef")
    return tree if is_id else None


def _loose(objects: bytes, digits: bytes) -> bytes | None:
    try:
        with open(os.path.join(objects, digits[:2], digits[2:]), "rb") as file:
            data = zlib.decompressobj().decompress(file.read(_MOST_PACKED_BYTES), _ENOUGH_BYTES)
    except FileNotFoundError:
        return None
    header, _, body = data.partition(b"\0")
    return body if header.startswith(b"commit ") else None


def _packed(objects: bytes, name: bytes) -> bytes | None:
    folder = os.path.join(objects, b"pack")
    with os.scandir(folder) as found:
        indexes = sorted(entry.path for entry in found if entry.name.endswith(b".idx"))
    for path in indexes:
        with open(path, "rb", buffering=0) as file:
            position = _position(file.fileno(), name)
        if position is not None:
            with open(path[:-4] + b".pack", "rb", buffering=0) as file:
                return _entry(os.pread(file.fileno(), _MOST_PACKED_BYTES, position))
    return None


def _position(index: int, name: bytes) -> int | None:
    """Where a pack holds the object *name*, by its index."""
    width, first = len(name), len(_INDEX_MAGIC)
    if os.pread(index, first, 0) != _INDEX_MAGIC:
        return None
    fanout = struct.unpack(">256I", os.pread(index, _FANOUT_BYTES, first))
    count, names = fanout[255], first + _FANOUT_BYTES
    low, high = fanout[name[0] - 1] if name[0] else 0, fanout[name[0]]
    while low < high:
        middle = (low + high) // 2
        found = os.pread(index, width, names + middle * width)
        if found == name:
            # Behind the names are their checksums of 4 bytes, and then their positions.
            positions = names + count * (width + 4)
            (at,) = struct.unpack(">I", os.pread(index, 4, positions + middle * 4))
            if at < _LARGE:
                return int(at)
            large = positions + count * 4 + (at - _LARGE) * 8
            (at,) = struct.unpack(">Q", os.pread(index, 8, large))
            return int(at)
        low, high = (middle + 1, high) if found < name else (low, middle)
    return None


def _entry(data: bytes) -> bytes | None:
    """The beginning of a packed object, if it is a commit and whole."""
    if data[0] >> 4 & 7 != _COMMIT:
        return None
    at = 0
    while data[at] & 0x80:
        at += 1
    return zlib.decompressobj().decompress(data[at + 1 :], _ENOUGH_BYTES)
