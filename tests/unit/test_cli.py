"""The command line before it does anything: help, usage, errors."""

import json
import subprocess
import sys

import click
import pytest

from xmslurm_repro.cli.app import app
from xmslurm_repro.cli.errors import error_json
from xmslurm_repro.cli.launch import launch
from xmslurm_repro.cli.output import print_table, say_bytes
from xmslurm_repro.errors import NotFoundError


@pytest.fixture
def cli(tmp_path):
    """Runs the command line in an empty folder with an empty store."""

    def run(*words, env=()):
        return subprocess.run(
            [sys.executable, "-m", "xmslurm_repro", *words],
            cwd=tmp_path,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(tmp_path),
                "XMSLURM_REPRO_HOME": str(tmp_path / "store"),
                **dict(env),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_help_shows_every_command(golden):
    done = subprocess.run(
        [sys.executable, "-m", "xmslurm_repro", "--help"],
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "100"},
        capture_output=True,
        check=True,
    )

    golden("cli/help.txt", done.stdout)


def test_the_table_of_commands_says_what_the_commands_say():
    context = click.Context(app)

    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_every_command_explains_itself_and_takes_json_where_it_prints_a_result():
    context = click.Context(app)

    def leaves(command):
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                yield from leaves(command.get_command(context, name))
        else:
            yield command

    for command in leaves(app):
        assert command.help, command.name
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options or command.name == "completion"


def test_an_unknown_command_is_a_usage_error(cli):
    done = cli("lunch")

    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: no such command 'lunch'"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["launch"], "no command to launch"),
        (["launch", "--"], "no command to launch"),
        (["launch", "python", "--", "x"], "python is no launch script"),
        (["launch", "missing.py"], "there is no launch script missing.py"),
        (["launch", "-e", "novalue", "--", "x"], "'novalue' is not of the form NAME=VALUE"),
        (["launch", "--memory", "much", "--", "x"], "'much' is no amount of memory"),
        (["launch", "--time", "soon", "--", "x"], "'soon' is no time limit"),
        (["launch", "--cpus", "0", "--", "x"], "invalid value for '--cpus'"),
    ],
)
def test_a_launch_that_makes_no_sense_says_so(cli, words, problem):
    done = cli(*words)

    assert done.returncode == 2
    assert problem in done.stderr
    assert done.stdout == ""


def test_what_stands_after_two_dashes_is_never_read_as_ours():
    context = launch.make_context("launch", ["--cpus", "2", "--", "prog", "--json", "--", "-w"])

    assert context.meta["xmslurm_repro.rest"] == ["prog", "--json", "--", "-w"]
    assert context.params["cpus"] == 2
    assert not context.params["as_json"]


def test_an_error_is_a_json_document_when_json_was_asked_for(cli):
    done = cli("status", "7", "--json")

    assert done.returncode == NotFoundError.exit_status
    assert json.loads(done.stdout)["error"]["code"] == "not-found"
    assert done.stderr == ""


def test_an_error_names_its_cause_once():
    error = NotFoundError("gone", hint="Look elsewhere.", details=["a: 1"])
    error.__cause__ = ValueError("inner")
    error.__cause__.__cause__ = ValueError("inner")

    assert error_json(error) == {
        "code": "not-found",
        "message": "gone",
        "details": ["a: 1"],
        "caused_by": ["inner"],
        "hint": "Look elsewhere.",
        "exit_status": 8,
    }


def test_a_new_user_sees_how_to_begin(cli):
    done = cli("list")

    assert done.returncode == 0
    assert done.stdout == "No experiments yet. Begin with `xmslurm-repro launch -- COMMAND`.\n"


def test_nothing_is_colored_when_nobody_looks(cli):
    assert "\x1b" not in cli("status", "7").stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(cli, shell):
    done = cli("completion", shell)

    assert done.returncode == 0
    assert "_XMSLURM_REPRO_COMPLETE" in done.stdout


def test_completion_offers_the_commands(cli):
    done = cli(
        env={
            "_XMSLURM_REPRO_COMPLETE": "bash_complete",
            "COMP_WORDS": "xmslurm-repro re",
            "COMP_CWORD": "1",
        }
    )

    assert done.stdout == "plain,replay\n"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (12345678, "12.3 MB")],
)
def test_sizes_are_for_people(count, shown):
    assert say_bytes(count) == shown


def test_columns_stand_under_each_other(capsys):
    print_table(["a", "bb"], [["long", "x"], ["y", ""]])

    assert capsys.readouterr().out == "a     bb\nlong  x\ny\n"
