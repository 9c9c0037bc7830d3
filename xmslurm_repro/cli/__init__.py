"""The command line: reads arguments, prints, exits. Everything else is imported when needed."""

import gc
import sys


def main() -> None:
    """Run the command line and end the process with its exit status."""
    # To look for cycles among what is imported takes a tenth of the time, and there is nothing to
    # be found.
    gc.set_threshold(50_000)
    try:
        if sys.argv[1:2] == ["snapshot"]:
            from xmslurm_repro.cli.again import print_again

            print_again()
        _run()
    except KeyboardInterrupt:
        from xmslurm_repro.cli.errors import say_interrupted

        say_interrupted()
    except SystemExit as end:
        from xmslurm_repro.cli.leaving import leave

        leave(end.code)
        raise


def _run() -> None:
    from xmslurm_repro.cli.app import app
    from xmslurm_repro.cli.errors import run_guarded

    run_guarded(app)
