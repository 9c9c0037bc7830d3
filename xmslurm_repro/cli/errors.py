"""The only place that prints errors and ends the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from xmslurm_repro.errors import ReproError
from xmslurm_repro.model.canonical import Json, readable_json

_INTERRUPTED = 130


def run_guarded(command: click.Command) -> None:
    """Run *command*; print what goes wrong in our form; end the process."""
    try:
        status = command.main(prog_name="xmslurm-repro", standalone_mode=False)
    except ReproError as error:
        report(error)
        sys.exit(error.exit_status)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _report_usage(error)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt) as error:
        # click puts its own error in the place of Python's.
        say_interrupted(getattr(error.__cause__ or error, "__notes__", ()))
    except BrokenPipeError:
        # Whoever reads us (`head`) has seen enough; Python would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(status if isinstance(status, int) else 0)


def say_interrupted(notes: Sequence[str] = ()) -> NoReturn:
    """End the process as somebody wished it; *notes* say what goes on all the same."""
    _say("interrupted")
    for note in notes:
        _say(note)
    sys.exit(_INTERRUPTED)


def report(error: ReproError) -> None:
    """Print *error* to standard error; to standard output as JSON where that was asked for."""
    if wants_json():
        click.echo(readable_json({"error": error_json(error)}))
        return
    echo_error(error)


def wants_json() -> bool:
    """Whether the command line asks for JSON, however far it was understood."""
    before = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    return "--json" in before


def error_json(error: ReproError) -> dict[str, Json]:
    """The error for programs."""
    return {
        "code": error.code,
        "message": error.message,
        "details": list(error.details),
        "caused_by": _causes(error),
        "hint": error.hint,
        "exit_status": error.exit_status,
    }


def echo_error(error: ReproError, *, label: str = "error") -> None:
    """Print what happened, why, then what to do."""
    color = {"error": "red", "warning": "yellow"}[label]
    _say(f"{click.style(f'{label}:', fg=color, bold=True)} {error.message}")
    for line in error.details:
        _say(f"  {line}")
    for cause in _causes(error):
        _say(f"  caused by: {cause}")
    if error.hint:
        _say(f"{click.style('hint:', fg='cyan', bold=True)} {error.hint}")


def _say(text: str) -> None:
    """Print to standard error. Outside a command nobody else looks at ``NO_COLOR``."""
    click.echo(text, err=True, color=False if os.environ.get("NO_COLOR") else None)


def _causes(error: BaseException) -> list[Json]:
    causes: list[Json] = []
    cause = error.__cause__
    while cause is not None:
        text = str(cause).strip() or type(cause).__name__
        if text not in causes:
            causes.append(text)
        cause = cause.__cause__
    return causes


def _report_usage(error: click.ClickException) -> None:
    message = error.format_message()
    message = message[:1].lower() + message[1:].rstrip(".")
    path = "xmslurm-repro"
    if isinstance(error, click.UsageError) and error.ctx is not None:
        path = error.ctx.command_path
    hint = f"Run `{path} --help`."
    if wants_json():
        document: dict[str, Json] = {"code": "usage", "message": message, "hint": hint}
        click.echo(readable_json({"error": {**document, "exit_status": 2}}))
        return
    _say(f"{click.style('error:', fg='red', bold=True)} {message}")
    _say(f"{click.style('hint:', fg='cyan', bold=True)} {hint}")
