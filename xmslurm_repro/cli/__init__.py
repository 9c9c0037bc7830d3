"""The command line: reads arguments, prints, exits. Everything else is imported when needed."""


def main() -> None:
    """Run the command line and end the process with its exit status."""
    from xmslurm_repro.cli.app import app
    from xmslurm_repro.cli.errors import run_guarded

    run_guarded(app)
