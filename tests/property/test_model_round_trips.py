"""Every file format: what is written is read back, and what is damaged is refused by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.any_document import DOCUMENTS, entries
from xmslurm_repro.errors import FormatError
from xmslurm_repro.model.canonical import canonical_json, readable_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.model.run import RunId
from xmslurm_repro.model.snapshot import decode_node, encode_node

KINDS = sorted(DOCUMENTS)
quick = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(data=st.data())
def test_a_document_is_read_as_it_was_written(kind, data):
    made, values = DOCUMENTS[kind]
    value = data.draw(values)

    written = canonical_json(value.to_json())

    assert value == made.from_json(Reader.of_json(written, "it"))
    assert written == canonical_json(json.loads(written))


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(data=st.data())
def test_how_a_document_is_laid_out_means_nothing(kind, data):
    made, values = DOCUMENTS[kind]
    value = data.draw(values)

    laid_out = readable_json(value.to_json()).encode()

    assert value == made.from_json(Reader.of_json(laid_out, "it"))


@pytest.mark.parametrize("kind", KINDS)
@given(garbage=st.binary(max_size=40))
def test_what_is_no_json_is_refused(kind, garbage):
    made, _ = DOCUMENTS[kind]

    with pytest.raises(FormatError, match="the file"):
        made.from_json(Reader.of_json(garbage + b"}", "the file"))


@given(entries)
def test_a_directory_node_is_read_as_it_was_written_whatever_the_order(made):
    written = encode_node(made)

    assert sorted(made, key=lambda entry: entry.name) == list(decode_node(written, "it"))
    assert written == encode_node(reversed(made))


@given(entries, st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_directory_node_is_refused_or_says_something_else(made, position, byte):
    written = encode_node(made)
    damaged = bytearray(written)
    if not damaged or damaged[position % len(damaged)] == byte:
        return
    damaged[position % len(damaged)] = byte

    try:
        read = decode_node(bytes(damaged), "node x")
    except FormatError:
        return
    assert bytes(damaged) == encode_node(read)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_node_or_refused(data):
    try:
        read = decode_node(data, "node x")
    except FormatError:
        return
    assert data == encode_node(read)


near_run_ids = st.from_regex(r"\A[a-z0-9]{8}\.[0-9]{1,3}\Z") | st.sampled_from(
    ["abcdefgh.٣", "abcdefgh.²", "abcdefgh.-1", "abcdefgh.+1", "abcdefgh.1_0", "abcdefgh. 1"]
)


@given(st.text(max_size=80) | near_run_ids)
def test_a_digest_and_a_run_id_are_read_exactly_as_written_or_refused(text):
    for kind in (Digest, RunId):
        try:
            read = kind.parse(text)
        except ValueError:
            continue
        assert text == str(read)


@given(st.integers() | st.floats() | st.text() | st.lists(st.text() | st.integers()))
def test_canonical_json_is_exact_or_refused(value):
    try:
        written = canonical_json(value)
    except ValueError:
        return
    read = json.loads(written)
    # A large float is written without an exponent, and Python reads it as an integer.
    assert value == (float(read) if isinstance(value, float) else read)
