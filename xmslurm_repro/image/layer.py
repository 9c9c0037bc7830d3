"""Layers: canonical tars in gzip in which no compressor takes part.

A compressor's output depends on its version, and a layer's digest must not. So what we write
is framed as stored deflate blocks (RFC 1951, 3.2.4), and what a wheel holds compressed already
is copied as it is, as a gzip member of its own (RFC 1952, 2.2: members may be concatenated).
Docker, podman, containerd, charliecloud, umoci and gzip itself all read it. The framing is a
function of the content alone, not of the sizes of the pieces in which it is written.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import MEDIA_TYPE_LAYER_GZIP, Descriptor, Layer, LayerKind
from xmslurm_repro.ports.store import BlobStore, BlobWriter
from xmslurm_repro.store.tar import DIRECTORY, END, TarWriter, member_header

GZIP_HEADER = bytes.fromhex("1f8b08000000000000ff")
"""Deflate, no flags, no time, no extra flags, operating system unknown."""

_BLOCK = 65535


class LayerWriter:
    """Writes one layer into a blob and computes its DiffID in the same pass."""

    def __init__(self, blob: BlobWriter) -> None:
        """Write into *blob*; whoever opened it commits it through `commit`."""
        self._blob = blob
        self._diff = hashlib.sha256()
        self._pending = bytearray()
        self._crc = 0
        self._size_bytes = 0
        self._in_member = False
        self.position = 0
        """How many bytes the tar has so far."""

    def write(self, data: bytes | memoryview) -> None:
        """Append *data* to the tar, stored."""
        view = memoryview(data)
        self.position += len(view)
        if self._pending:
            room = _BLOCK - len(self._pending)
            self._pending += view[:room]
            view = view[room:]
            if not view:
                return
            self._block(self._pending, last=False)
            self._pending.clear()
        while len(view) > _BLOCK:
            self._block(view[:_BLOCK], last=False)
            view = view[_BLOCK:]
        self._pending += view

    def deflated(self, pieces: Iterable[tuple[bytes, bytes]], *, crc: int, size: int) -> None:
        """
        Append content that is compressed already, verbatim, as a gzip member of its own.

        The caller vouches that the pieces are one whole deflate stream of *size* bytes with
        the CRC-32 *crc*, and throws the blob away when they turn out not to be.

        Args:
            pieces: Compressed bytes and, beside them, uncompressed bytes, each in order.
            crc: CRC-32 of the uncompressed bytes.
            size: Number of the uncompressed bytes.
        """
        self._end_member()
        self._blob.write(GZIP_HEADER)
        for compressed, raw in pieces:
            self._blob.write(compressed)
            self._diff.update(raw)
            self.position += len(raw)
        self._blob.write(struct.pack("<II", crc, size & 0xFFFFFFFF))

    def commit(self, *, end: bytes = END) -> tuple[Digest, Descriptor]:
        """End the tar with *end*, keep the blob; return the DiffID and the blob's descriptor."""
        self.write(end)
        self._end_member()
        digest, size_bytes = self._blob.commit()
        blob = Descriptor(media_type=MEDIA_TYPE_LAYER_GZIP, digest=digest, size_bytes=size_bytes)
        return Digest.sha256(self._diff.hexdigest()), blob

    def _block(self, data: bytearray | memoryview, *, last: bool) -> None:
        if not self._in_member:
            self._blob.write(GZIP_HEADER)
            self._in_member, self._crc, self._size_bytes = True, 0, 0
        self._blob.write(struct.pack("<BHH", last, len(data), len(data) ^ 0xFFFF))
        self._blob.write(memoryview(data))
        self._crc = zlib.crc32(data, self._crc)
        self._size_bytes += len(data)
        self._diff.update(data)

    def _end_member(self) -> None:
        # Nothing pending means no member is open: a full block is only let go by a byte
        # that follows it, so the last block always holds something.
        if not self._pending:
            return
        self._block(self._pending, last=True)
        self._pending.clear()
        self._blob.write(struct.pack("<II", self._crc, self._size_bytes & 0xFFFFFFFF))
        self._in_member = False


class TreeWriter(TarWriter):
    """Writes members of a layer in order of their paths, each parent once and before them."""

    def __init__(self, layer: LayerWriter) -> None:
        """Write into *layer*."""
        super().__init__(layer.write)
        self.layer = layer
        self._parents: set[bytes] = set()

    def directory(self, path: bytes) -> None:
        """Add a directory and its parents, unless they are there."""
        for parent in (*parents(path), path):
            if parent not in self._parents:
                self._parents.add(parent)
                self.layer.write(member_header(parent, kind=DIRECTORY, mode=0o755))

    def parents_of(self, path: bytes) -> None:
        """Add the directories above *path*."""
        folder = path.rpartition(b"/")[0]
        if folder and folder not in self._parents:
            self.directory(folder)


def stored_bytes(blob: bytes) -> memoryview:
    """
    The tar of a layer that `LayerWriter.write` alone has written, taken out of its frame.

    Raises:
        ValueError: If *blob* is no such layer. Its bytes are not verified.
    """
    view, blocks = memoryview(blob)[len(GZIP_HEADER) : -8], bytearray()
    position, is_last = 0, 0
    while not is_last:
        if position + 5 > len(view):
            raise ValueError("a stored layer that ends early")
        is_last, length, inverse = struct.unpack_from("<BHH", view, position)
        if is_last not in {0, 1} or length ^ inverse != 0xFFFF:
            raise ValueError("no stored layer")
        blocks += view[position + 5 : position + 5 + length]
        position += 5 + length
    return memoryview(blocks)


def parents(path: bytes) -> Iterator[bytes]:
    """The directories above *path*, outermost first."""
    position = path.find(b"/")
    while position >= 0:
        yield path[:position]
        position = path.find(b"/", position + 1)


def build_layer(
    blobs: BlobStore, kind: LayerKind, title: str, fill: Callable[[TreeWriter], None]
) -> Layer:
    """
    Write the layer that *fill* fills and keep its blob.

    If *fill* raises, nothing is kept.
    """
    with blobs.writer() as blob:
        layer = LayerWriter(blob)
        fill(TreeWriter(layer))
        diff_id, descriptor = layer.commit()
    return Layer(kind=kind, title=title, diff_id=diff_id, blob=descriptor)
