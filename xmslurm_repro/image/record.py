"""RECORD: the list of a package's files, read from wheels and written sorted."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass

_ALGORITHMS = {"sha256": 32, "sha384": 48, "sha512": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordLine:
    """One file: its hash as ``algorithm=digest`` (empty when none is given) and its size."""

    hash: str
    size_bytes: int | None


def parse_record(text: str) -> dict[str, RecordLine]:
    """
    Read a RECORD by path.

    Raises:
        ValueError: If a line has no three columns, a path stands twice, or a hash is weaker
            than SHA-256, which the specification forbids.
    """
    lines: dict[str, RecordLine] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        if not row:
            continue
        if len(row) != 3:
            raise ValueError(f"line {number} has {len(row)} columns instead of 3")
        path, named, size = row
        if path in lines:
            raise ValueError(f"line {number}: {path!r} stands there twice")
        named = hash_column(*expected_digest(named)) if named else ""
        if size and not size.isdecimal():
            raise ValueError(f"line {number}: {size!r} is no size")
        lines[path] = RecordLine(hash=named, size_bytes=int(size) if size else None)
    return lines


def expected_digest(named: str) -> tuple[str, bytes]:
    """
    Part ``sha256=…`` into algorithm and raw digest.

    The specification wants URL-safe Base64; hexadecimal digits, which some wheels have (gmsh
    does), are taken as well, since they say the same.

    Raises:
        ValueError: If it is of no algorithm that we know, or of the wrong length.
    """
    algorithm, _, encoded = named.partition("=")
    size_bytes = _ALGORITHMS.get(algorithm, 0)
    if len(encoded) == 2 * size_bytes:
        digest = bytes.fromhex(encoded)
    else:
        digest = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    if not size_bytes or len(digest) != size_bytes:
        raise ValueError(f"{named!r} is no SHA-256, SHA-384 or SHA-512")
    return algorithm, digest


def hash_column(algorithm: str, digest: bytes) -> str:
    """Write a digest as RECORD does."""
    return f"{algorithm}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def sha256_line(content: bytes) -> str:
    """Name *content* as RECORD does."""
    return hash_column("sha256", hashlib.sha256(content).digest())


def render_record(lines: Iterable[tuple[str, str, str]]) -> bytes:
    """Write a RECORD, sorted by path."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ordered = sorted(lines, key=lambda line: line[0].encode())
    writer.writerows(ordered)
    return out.getvalue().encode()
