"""A command's words on their way through a shell, and what comes back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmslurm_repro.errors import UsageError
from xmslurm_repro.transport.words import (
    CHUNK_BYTES,
    MARK,
    AfterMark,
    checked_words,
    chunks_of,
    converse,
    remote_line,
    status_of,
)

WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))


@settings(max_examples=60, deadline=None)
@given(WORDS)
def test_a_shell_makes_the_same_words_of_the_line(words: list[str]):
    line = remote_line(["printf", "%s\\0", "", *words])

    said = subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout

    assert [os.fsencode(word) for word in ["", *words]] == said[len(MARK) :].split(b"\0")[:-1]


@given(WORDS)
def test_the_line_is_one_line_of_printable_ascii_without_what_shells_quarrel_about(words):
    line = remote_line(["program", *words])

    assert line.isascii()
    assert line.isprintable()
    assert not set("\\!") & set(line)


def test_plain_words_can_be_read_in_the_process_list_of_the_host():
    assert remote_line(["squeue", "-o", "%i|%T"]) == (
        "exec /bin/sh -c 'echo xmslurm-repro-begin;exec \"$@\"' sh squeue -o '%i|%T'"
    )


def test_a_line_that_no_host_can_take_is_refused_before_it_is_sent():
    with pytest.raises(UsageError, match="take 13107[0-9] bytes as a remote command"):
        remote_line(["echo", "x" * 131_011])


@pytest.mark.parametrize("argv", [[], ["a", "b\0"]])
def test_words_that_cannot_be_passed_are_refused(argv: list[str]):
    with pytest.raises(ValueError, match="word"):
        checked_words(argv)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_what_comes_before_the_mark_is_dropped_however_it_is_cut(size: int):
    said = b"Welcome\nxmslurm-repro-be\n" + MARK + b"out\n" + MARK + b"more"
    after = AfterMark()

    kept = b"".join(after.feed(said[i : i + size]) for i in range(0, len(said), size))

    assert kept == b"out\n" + MARK + b"more"
    assert after.was_seen


def test_without_the_mark_nothing_is_lost():
    after = AfterMark()

    assert after.feed(b"This account is ") + after.feed(b"not available.\n") == b""
    assert after.rest() == b"This account is not available.\n"
    assert not after.was_seen


def test_input_is_cut_into_chunks_and_stays_the_same():
    pieces = [b"", b"a" * CHUNK_BYTES, b"b" * (2 * CHUNK_BYTES + 1), b"c"]

    async def given_pieces() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def chunks() -> list[bytes]:
        return [bytes(chunk) async for chunk in chunks_of(given_pieces())]

    assert [len(chunk) for chunk in asyncio.run(chunks())] == [CHUNK_BYTES] * 3 + [1, 1]
    assert b"".join(pieces) == b"".join(asyncio.run(chunks()))


def test_a_conversation_ends_when_the_feeder_fails_or_the_hearer_has_heard_all():
    async def fails() -> None:
        raise OSError("disk")

    async def waits() -> str:
        await asyncio.sleep(3600)
        return "never"

    async def waits_too() -> None:
        await asyncio.sleep(3600)

    async def hears() -> str:
        return "all"

    async def done() -> None:
        return

    with pytest.raises(OSError, match="disk"):
        asyncio.run(converse(fails(), waits()))
    assert asyncio.run(converse(waits_too(), hears())) == "all"
    assert asyncio.run(converse(done(), hears())) == "all"


def test_signals_are_told_as_shells_tell_them():
    assert [status_of(code) for code in (0, 3, 255, -9, -15)] == [0, 3, 255, 137, 143]


def test_asyncssh_is_not_imported_before_it_is_needed():
    program = (
        "import sys, xmslurm_repro.transport.ssh, xmslurm_repro.transport.openssh;"
        "print('asyncssh' in sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout

    assert said == b"False\n"
