"""Sweeps of the command line: which command each unit gets."""

import pytest

from xmslurm_repro.cli.sweep import read_sweep
from xmslurm_repro.errors import UsageError


def commands(argv, axes=(), file=None):
    return [list(trial.argv) for trial in read_sweep(argv, axes, file)]


def lines(tmp_path, text):
    file = tmp_path / "sweep.jsonl"
    file.write_bytes(text.encode())
    return file


def test_every_combination_is_a_unit_and_the_last_axis_changes_fastest():
    assert [
        ["train", "--lr=0.1", "--seed=1"],
        ["train", "--lr=0.1", "--seed=2"],
        ["train", "--lr=1e-3", "--seed=1"],
        ["train", "--lr=1e-3", "--seed=2"],
    ] == commands(["train"], ["lr=0.1,1e-3", "--seed=1,2"])


def test_a_value_goes_where_its_name_stands_in_the_command():
    assert [["run", "x/{b}.yaml", "{c}"], ["run", "x/2.yaml", "{c}"]] == commands(
        ["run", "x/{a}.yaml", "{c}"], ["a={b},2"]
    )


def test_a_file_holds_a_trial_in_each_line(tmp_path):
    file = lines(
        tmp_path,
        """{"lr": 1e-3, "flag": true, "off": false, "none": null, "many": [1, "b c"]}

        ["a b", "", "$HOME \\u00e9\\n"]
        {"args": {"x": 1}, "env_vars": {"SEED": 7}}
        """,
    )

    trials = read_sweep(["t"], [], file)

    assert [
        ("t", "--lr=1e-3", "--flag", "--nooff", "--many=1", "--many=b c"),
        ("t", "a b", "", "$HOME \u00e9\n"),
        ("t", "--x=1"),
    ] == [trial.argv for trial in trials]
    assert (("SEED", "7"),) == trials[2].env


def test_a_file_is_combined_with_what_is_swept_beside_it(tmp_path):
    file = lines(tmp_path, '["a"]\n["b"]\n')

    assert [["t", "--s=1", "a"], ["t", "--s=2", "a"], ["t", "--s=1", "b"], ["t", "--s=2", "b"]] == (
        commands(["t"], ["s=1,2"], file)
    )


def test_without_a_sweep_there_is_none():
    assert () == read_sweep(["t"], [], None)


@pytest.mark.parametrize("axis", ["lr", "=1", "--=1"])
def test_what_is_no_sweep_is_refused(axis):
    with pytest.raises(UsageError, match="is no sweep"):
        read_sweep(["t"], [axis], None)


def test_an_argument_that_is_swept_twice_is_refused():
    with pytest.raises(UsageError, match="twice"):
        read_sweep(["t"], ["a=1", "a=2"], None)


@pytest.mark.parametrize("text", ["", "{", "3", '{"a": {}}', "[[]]", '{"env_vars": 3}', "\xff"])
def test_a_line_that_is_no_trial_is_refused_with_its_number(tmp_path, text):
    with pytest.raises(UsageError, match=r"sweep\.jsonl|argument a"):
        read_sweep(["t"], [], lines(tmp_path, text))
