"""The command line: reads arguments, prints, exits. Everything else is imported when needed."""

import sys


def main() -> None:
    """Run the command line and end the process with its exit status."""
    try:
        if sys.argv[1:2] == ["snapshot"]:
            from xmslurm_repro.cli.again import print_again

            print_again()
        from xmslurm_repro.cli.app import app
        from xmslurm_repro.cli.errors import run_guarded
    except KeyboardInterrupt:
        from xmslurm_repro.cli.errors import say_interrupted

        say_interrupted()

    run_guarded(app)
