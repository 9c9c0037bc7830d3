"""Pouring a wheel's files into a layer, checked while they flow and never held in memory."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from xmslurm_repro.image.layer import TreeWriter
from xmslurm_repro.image.record import expected_digest, hash_column
from xmslurm_repro.image.wheel import PlannedFile
from xmslurm_repro.store.tar import member_header, padding

VERBATIM_FROM_BYTES = 16 << 10
"""Files of this size or more keep the wheel's compression. Part of the layout: each is a gzip
member of its own, and ``unpigz``, which docker uses where it is installed, pays for each."""

_CHUNK = 256 << 10
_RAW_CHUNK = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")


class WheelSource:
    """Reads one wheel's members and notes what is wrong with them in *problems*."""

    def __init__(self, stream: BinaryIO, problems: list[str]) -> None:
        """Read from *stream*, which can seek."""
        self._stream = stream
        self._archive: zipfile.ZipFile | None = None
        self._problems = problems

    def pour(self, writer: TreeWriter, file: PlannedFile) -> None:
        """Write *file* with its parents."""
        path = file.path.encode()
        writer.parents_of(path)
        mode = 0o755 if file.executable else 0o644
        writer.layer.write(member_header(path, size_bytes=file.size_bytes, mode=mode))
        content = file.content
        if isinstance(content, bytes):
            writer.layer.write(content)
        elif content.compress_type == zipfile.ZIP_DEFLATED:
            self._deflated(writer, file, content)
        else:
            pieces = ((b"", raw) for raw in self._unpacked(content))
            for _, raw in self._checked(pieces, file, content):
                writer.layer.write(raw)
        writer.layer.write(padding(file.size_bytes))

    def _deflated(self, writer: TreeWriter, file: PlannedFile, member: zipfile.ZipInfo) -> None:
        pieces = self._checked(self._inflated(member), file, member)
        if file.size_bytes >= VERBATIM_FROM_BYTES:
            writer.layer.deflated(pieces, crc=member.CRC, size=member.file_size)
        else:
            for _, raw in pieces:
                writer.layer.write(raw)

    def _checked(
        self,
        pieces: Iterator[tuple[bytes, bytes]],
        file: PlannedFile,
        member: zipfile.ZipInfo,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pass *pieces* on; note it if they are not what directory and RECORD say."""
        algorithm, want = expected_digest(file.record) if file.record else ("sha256", b"")
        digest, crc, size_bytes = hashlib.new(algorithm), 0, 0
        for compressed, raw in pieces:
            digest.update(raw)
            crc = zlib.crc32(raw, crc)
            size_bytes += len(raw)
            yield compressed, raw
        if size_bytes != member.file_size:
            self._note(member, f"has {size_bytes} bytes instead of {member.file_size}")
        elif crc != member.CRC:
            self._note(member, f"has the CRC {crc:08x} instead of {member.CRC:08x}")
        elif digest.digest() != want:
            got = hash_column(algorithm, digest.digest())
            self._note(member, f"is {got}, its RECORD says {file.record}")

    def _inflated(self, member: zipfile.ZipInfo) -> Iterator[tuple[bytes, bytes]]:
        # Guards: were the stream to end early, go on after its end, or yield another size, a
        # reader of our gzip would see other bytes than we hashed.
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        size_bytes = 0
        try:
            for compressed in self._raw(member):
                raw = inflate.decompress(compressed, _RAW_CHUNK)
                size_bytes += len(raw)
                yield compressed, raw
                while inflate.unconsumed_tail and size_bytes <= member.file_size:
                    raw = inflate.decompress(inflate.unconsumed_tail, _RAW_CHUNK)
                    size_bytes += len(raw)
                    yield b"", raw
            raw = inflate.flush() if not inflate.unconsumed_tail else b""
            yield b"", raw
        except zlib.error as error:
            self._note(member, f"cannot be decompressed: {error}")
            return
        if not inflate.eof or inflate.unused_data:
            self._note(member, "is not exactly one deflate stream")

    def _unpacked(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        if member.compress_type == zipfile.ZIP_STORED:
            yield from self._raw(member)
            return
        try:
            if self._archive is None:
                self._archive = zipfile.ZipFile(self._stream)
            with self._archive.open(member) as source:
                while raw := source.read(_RAW_CHUNK):
                    yield raw
        except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
            self._note(member, f"cannot be read: {error}")

    def _raw(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        """The member's bytes as they stand in the file."""
        self._stream.seek(member.header_offset)
        head = self._stream.read(_LOCAL_HEADER.size)
        if len(head) != _LOCAL_HEADER.size or not head.startswith(b"PK\3\4"):
            self._note(member, "is not where the wheel's directory says")
            return
        fields = _LOCAL_HEADER.unpack(head)
        name_length, extra_length = fields[9], fields[10]
        name = self._stream.read(name_length)
        if name not in {member.filename.encode(), _zip_name(member)}:
            self._note(member, f"is called {name!r} where it stands")
            return
        self._stream.seek(extra_length, 1)
        left = member.compress_size
        while left:
            chunk = self._stream.read(min(left, _CHUNK))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk

    def _note(self, member: zipfile.ZipInfo, what: str) -> None:
        self._problems.append(f"{member.filename!r} {what}")


def pour_all(
    stream: BinaryIO,
    files: Sequence[PlannedFile],
    writer: TreeWriter,
    advance: Callable[[int], None],
) -> list[str]:
    """
    Write *files*, all from the wheel in *stream*, in their order.

    Args:
        stream: Can seek.
        files: Sorted by path.
        writer: Takes them.
        advance: Is told of compressed bytes that are done, about each MiB.

    Returns:
        What is wrong; then the layer must be thrown away.
    """
    problems: list[str] = []
    source = WheelSource(stream, problems)
    done = 0
    for file in files:
        source.pour(writer, file)
        done += 0 if isinstance(file.content, bytes) else file.content.compress_size
        if done >= _RAW_CHUNK:
            advance(done)
            done = 0
    advance(done)
    return problems


def _zip_name(member: zipfile.ZipInfo) -> bytes:
    # APPNOTE.TXT, appendix D: without the UTF-8 flag, names are in code page 437.
    try:
        return member.orig_filename.encode("cp437")
    except UnicodeEncodeError:
        return member.orig_filename.encode()
