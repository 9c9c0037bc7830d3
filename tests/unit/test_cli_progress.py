"""Progress bars: only on a terminal, only for what takes long."""

import os
import pty
import subprocess
import sys

PROGRAM = """
import sys, time
from xmslurm_repro.cli.progress import TerminalProgress
progress = TerminalProgress()
step = progress.start("fetching", total=4_000_000)
for _ in range(4):
    step.advance(1_000_000)
    time.sleep(float(sys.argv[1]))
step.finish()
step.finish()
print("rich" in {name.partition(".")[0] for name in sys.modules})
"""


def run_on_terminal(seconds):
    """What a person would see on a terminal, and what goes to standard output."""
    master, slave = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seconds)],
        stderr=slave,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "TERM": "xterm"},
    )
    os.close(slave)
    try:
        seen = os.read(master, 1 << 20).decode()
    except OSError:
        seen = ""
    os.close(master)
    return seen, done.stdout.strip()


def test_a_long_step_shows_bytes_of_bytes():
    seen, has_rich = run_on_terminal(0.3)

    assert "fetching" in seen
    assert "of 4.0 MB" in seen
    assert has_rich == "True"


def test_a_short_step_shows_nothing_and_does_not_even_import_what_would_show_it():
    seen, has_rich = run_on_terminal(0.001)

    assert seen == ""
    assert has_rich == "False"
