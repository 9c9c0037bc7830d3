"""Command lines that bash fills in."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmslurm_repro.cluster.words import Joined, Var, Words, assign_array, quote

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


def in_bash(program: str) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, check=True, env={"LC_ALL": "C"}
    )
    return [item.decode() for item in done.stdout.split(b"\0")][:-1]


@settings(max_examples=30, deadline=None)
@given(words=st.lists(TEXT, min_size=1), value=TEXT, items=st.lists(TEXT))
def test_bash_reads_every_word_as_it_was(words: list[str], value: str, items: list[str]):
    program = f"one={quote(value)}\n"
    program += assign_array("many", tuple(items))
    program += assign_array("all", (*words, Var("one"), Joined(("a=", Var("one"))), Words("many")))
    program += """printf '%s\\0' "${all[@]}" """

    assert [*words, value, f"a={value}", *items] == in_bash(program)


@pytest.mark.parametrize("name", ["", "A", "a b", "$(id)", "a;b", "1a", "a\n"])
def test_what_is_no_variable_cannot_be_named(name: str):
    with pytest.raises(ValueError, match="no variable name"):
        Var(name)
    with pytest.raises(ValueError, match="no variable name"):
        Words(name)
