"""Stamps of git's own files, and files of ours that are read back only if they are whole.

Imports next to nothing, as all that an unchanged tree is recognized with: a launch waits for it.
"""

from __future__ import annotations

import os

from xmslurm_repro.store.blake3_names import blake3_hex

Witnesses = dict[str, str | None]
"""Stamps of git's own files, by path; see `witness`."""

SUM = "sum"
"""What an `index_witness` by checksum begins with."""

RACY_MARGIN_NS = 2_000_000_000
"""
How much older than a capture a file must be for its stamps to prove that it did not change
since. Two seconds is the coarsest clock of a file system in use (FAT), and makes up for one
that is behind the clock of the cache's own file system.
"""

_CHECKSUM_BYTES = 20


def settled_before(began_ns: int) -> int:
    """What is older than this cannot change unseen after a capture that began then."""
    return began_ns - RACY_MARGIN_NS


def witness(path: str) -> str | None:
    """The stamp of a file outside the work tree as text, or ``None`` where none can be seen."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    # As text: JSON numbers end at 2**53.
    return f"{found.st_mtime_ns} {found.st_ctime_ns} {found.st_size} {found.st_ino}"


def index_witness(path: str) -> str | None:
    """
    What tells that git's index *path* still says the same: the checksum at its end.

    Its stamp would not do: ``git status`` and others write the index anew, to the same bytes.
    Where git was told to leave the checksum out (``index.skipHash``), the stamp has to.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _CHECKSUM_BYTES))
            end = file.read()
    except OSError:
        return None
    return f"{SUM} {size} {end.hex()}" if any(end) else witness(path)


def is_as_witnessed(path: str, text: str | None) -> bool:
    """Whether the file *path* is as when *text* was said of it."""
    return (index_witness(path) if text and text.startswith(SUM) else witness(path)) == text


def is_settled(text: str | None, limit_ns: int) -> bool:
    """Whether what *text* was said of is older than `settled_before`."""
    if text is None or text.startswith(SUM):
        return True
    return all(int(word) < limit_ns for word in text.split(" ")[:2])


def memory_name(root: bytes, kind: str) -> str:
    """What a file is called that remembers something about the work tree *root*."""
    return f"{blake3_hex(root)[:32]}.{kind}"


def load_checked(path: str | os.PathLike[str], magic: bytes) -> bytes | None:
    """The body of a file that `cache.save_checked` wrote, or ``None`` if there is no whole one."""
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
    except OSError:
        return None
    begin = len(magic) + 65
    digits = checked_digits(memoryview(data)[begin:])
    if not data.startswith(magic) or data[len(magic) : begin - 1] != digits:
        return None
    return data[begin:]


def checked_digits(body: bytes | bytearray | memoryview) -> bytes:
    """What stands before the body of a file that is to be read by `load_checked`."""
    return blake3_hex(body).encode()


def refs_digest(common_dir: bytes) -> str:
    """What changes whenever a ref of a remote does, in the repository of that common folder."""
    places = [
        os.path.join(common_dir, name)
        for name in (b"packed-refs", b"shallow", os.path.join(b"reftable", b"tables.list"))
    ]
    texts = [text for place in places if (text := _read(place)) is not None]
    folders = [os.path.join(common_dir, b"refs", b"remotes")]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif (text := _read(entry.path)) is not None:
                texts.append(entry.path + b"\0" + text)
    return blake3_hex(b"\0".join(sorted(texts)))


def _read(path: bytes) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return None
