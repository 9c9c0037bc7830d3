"""Run the command line: ``python -m xmslurm_repro``."""

from xmslurm_repro.cli import main

if __name__ == "__main__":
    main()
