"""From XManager's arguments to the words that a process is given."""

from __future__ import annotations

import enum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xmanager import xm

from xmslurm_repro.xm.arguments import variables, words
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError
from xmslurm_repro.xm.job_blocks import entrypoint_words


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (None, ()),
        ([], ()),
        ({}, ()),
        (["a b", "", "$HOME", "it's"], ("a b", "", "$HOME", "it's")),
        ([1, 0.1, Path("x/y")], ("1", "0.1", "x/y")),
        ({"lr": 0.1, "name": "a b"}, ("--lr=0.1", "--name=a b")),
        ({"on": True, "off": False}, ("--on", "--nooff")),
        ({"skip": None, "text": "None"}, ("--text=None",)),
        ({"many": [1, "b c"], "none": []}, ("--many=1", "--many=b c")),
        ({"nested": [[1, 2]]}, ("--nested=[[1, 2]]",)),
        ({"color": Color.RED}, ("--color=RED",)),
        ([Color.RED, True, None], ("RED", "True", "None")),
        (xm.merge_args({"a": 1}, ["--", "x"], {"b": 2}, {"a": 3}), ("--a=3", "--", "x", "--b=2")),
    ],
)
def test_words_are_what_sequential_args_say_without_any_shell(args, expected):
    assert expected == words(args)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_any_text_arrives_as_it_is(texts):
    assert tuple(texts) == words(texts)
    assert tuple(f"--v={text}" for text in texts) == words({"v": texts})


@pytest.mark.parametrize(
    "args", [[xm.ShellSafeArg("$X")], {"a": xm.ShellSafeArg("$X")}, {"a": [xm.ShellSafeArg("$X")]}]
)
def test_what_asks_for_a_shell_is_refused(args):
    with pytest.raises(ArgumentError, match=r"'\$X' is wrapped in xm.ShellSafeArg"):
        words(args)


@pytest.mark.parametrize("args", ["--lr=1", 3])
def test_what_is_no_collection_is_refused(args):
    with pytest.raises(ArgumentTypeError):
        words(args)


@pytest.mark.parametrize("value", [b"x", "a\0b"])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(ArgumentError):
        words([value])


def test_variables_are_text():
    assert {"A": "1", "B": "$HOME 'x'", "C": "", "D": "True"} == variables(
        {"A": 1, "B": "$HOME 'x'", "C": "", "D": True}
    )
    assert {} == variables(None)


@pytest.mark.parametrize("value", [None, xm.ShellSafeArg("$X"), "a\0b"])
def test_variables_without_a_plain_value_are_refused(value):
    with pytest.raises(ArgumentError):
        variables({"A": value})


def test_an_entrypoint_is_given_to_python():
    assert ("python", "-m", "a.b") == entrypoint_words(xm.ModuleName("a.b"))
    assert ("python", "train.py", "--x") == entrypoint_words(xm.CommandList(["train.py", "--x"]))
    assert ("python", "-c", "print(1, 2)") == entrypoint_words(
        xm.CommandList(["-c", "print(1, 2)"])
    )


def test_command_lines_are_run_one_after_another_and_the_last_gets_the_arguments():
    lines = xm.CommandList(["make data", "python train.py"])
    explicit = xm.CommandList(["python train.py $@", "make report"])

    assert ("sh", "-e", "-c", 'make data\npython train.py "$@"', "sh") == entrypoint_words(lines)
    assert ("sh", "-e", "-c", "python train.py $@\nmake report", "sh") == entrypoint_words(explicit)
    with pytest.raises(ValueError, match="empty"):
        entrypoint_words(xm.CommandList([]))
    with pytest.raises(TypeError):
        entrypoint_words("train.py")
