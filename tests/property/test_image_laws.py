"""Laws of archives, layers and the dealing of code."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st

from xmslurm_repro.image.dealing import MAX_CODE_LAYERS, deal
from xmslurm_repro.image.layer import LayerWriter
from xmslurm_repro.image.record import parse_record, render_record, sha256_line
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import LAYOUTS
from xmslurm_repro.model.snapshot import EntryKind, PathEntry
from xmslurm_repro.store.memory_blobs import MemoryBlobStore
from xmslurm_repro.store.tar import TarWriter

names = st.binary(min_size=1, max_size=130).filter(
    lambda name: name not in {b".", b".."} and not set(name) & set(b"/\0")
)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
sizes = st.integers(0, 300 << 10) | st.integers(0, 30 << 20)
suffixes = st.sampled_from(["", ".py", ".png", ".bin", ".txt"])
entries = st.dictionaries(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 40), suffixes), sizes, max_size=60
).map(
    lambda found: [
        PathEntry(
            path=f"{folder}/{number}{suffix}".encode(),
            kind=EntryKind.FILE,
            digest=Digest.blake3(hashlib.sha256(f"{number}{size}".encode()).hexdigest()),
            size_bytes=size,
        )
        for (folder, number, suffix), size in found.items()
    ]
)


@given(st.dictionaries(names, st.tuples(st.binary(max_size=2000), st.booleans()), max_size=6))
def test_tarfile_reads_every_name_and_content_to_the_byte(files):
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for path, (data, executable) in files.items():
        writer.file(path, len(data), executable, io.BytesIO(data))
    writer.finish()
    out.seek(0)

    with tarfile.open(fileobj=out, errors="surrogateescape") as archive:
        found = {
            member.name.encode("utf-8", "surrogateescape"): (
                archive.extractfile(member).read(),
                bool(member.mode & 0o100),
            )
            for member in archive
        }
    assert files == found
    assert 0 == len(out.getvalue()) % 512


@given(paths, st.binary(max_size=300).filter(lambda target: b"\0" not in target))
def test_tarfile_reads_every_link_to_the_byte(path, target):
    out = io.BytesIO()
    writer = TarWriter(out.write)
    writer.symlink(path, target)
    writer.finish()
    out.seek(0)

    with tarfile.open(fileobj=out, errors="surrogateescape") as archive:
        (member,) = archive
    assert (path, target) == tuple(
        text.encode("utf-8", "surrogateescape") for text in (member.name, member.linkname)
    )


@given(st.lists(st.binary(max_size=100_000), max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_a_layer_is_a_function_of_its_bytes_alone(pieces, random):
    data = b"".join(pieces)
    results = set()
    for cuts in ([], sorted(random.randint(0, len(data)) for _ in range(5))):
        blobs = MemoryBlobStore()
        with blobs.writer() as blob:
            layer = LayerWriter(blob)
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                layer.write(data[start:end])
            diff_id, described = layer.commit()
        assert data + bytes(1024) == gzip.decompress(blobs.get(described.digest))
        assert hashlib.sha256(data + bytes(1024)).hexdigest() == diff_id.hex
        results.add(described)

    assert 1 == len(results)


layouts = st.sampled_from(LAYOUTS)


@given(entries, st.randoms(use_true_random=False), layouts)
def test_every_file_is_dealt_to_one_layer_whatever_the_order(found, random, layout):
    dealt = deal(found, layout)
    turned = list(found)
    random.shuffle(turned)

    assert sorted(found, key=lambda entry: entry.path) == sorted(
        (entry for layer in dealt for entry in layer), key=lambda entry: entry.path
    )
    assert dealt == deal(turned, layout)
    assert len(dealt) <= MAX_CODE_LAYERS[layout]
    assert all(dealt)


@given(entries.filter(bool), st.data(), layouts)
def test_an_edit_that_keeps_the_size_changes_one_layer(found, data, layout):
    position = data.draw(st.integers(0, len(found) - 1))
    old = found[position]
    edited = PathEntry(
        path=old.path, kind=old.kind, digest=Digest.blake3("0" * 64), size_bytes=old.size_bytes
    )
    before = deal(found, layout)
    after = deal([*found[:position], edited, *found[position + 1 :]], layout)

    assert 1 == sum(one != two for one, two in zip(before, after, strict=True))


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@given(st.dictionaries(texts, st.binary(max_size=20), max_size=8))
def test_record_is_read_back_as_it_was_written(files):
    lines = [(path, sha256_line(data), str(len(data))) for path, data in files.items()]
    read = parse_record(render_record(lines).decode())

    assert {path: (named, int(size)) for path, named, size in lines} == {
        path: (line.hash, line.size_bytes) for path, line in read.items()
    }
