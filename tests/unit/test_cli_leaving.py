"""How the command line ends: with its status, and nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = "from xmslurm_repro.cli import main; main()"


def run(script: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", script, *words),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (("--version",), 0, "xmslurm-repro, version", ""),
        (("snapshot", "--what"), 2, "", "error: no such option"),
        (("show", "41"), 8, "", "error: "),
    ],
)
def test_the_status_and_all_that_was_printed_arrive(
    tmp_path: Path, words: tuple[str, ...], status: int, out: str, err: str
):
    done = run(RUN, *words, folder=tmp_path)

    assert status == done.returncode
    assert done.stdout.startswith(out)
    assert done.stderr.startswith(err)


def test_what_is_registered_for_the_end_is_done_once(tmp_path: Path):
    script = f"import atexit; atexit.register(print, 'the end'); {RUN}"

    assert 1 == run(script, "--version", folder=tmp_path).stdout.count("the end\n")


def test_another_thread_is_waited_for(tmp_path: Path):
    script = (
        "import threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(0.3), print('done'))).start()\n" + RUN
    )

    assert "done\n" in run(script, "--version", folder=tmp_path).stdout


def test_what_a_launch_script_left_open_is_written(tmp_path: Path):
    script = (
        "import sys, types\n"
        "sys.modules['xmslurm_repro.xm'] = types.ModuleType('xm')\n"
        "file = open('left-open', 'w'); file.write('all of it')\n" + RUN
    )
    done = run(script, "--version", folder=tmp_path)

    assert 0 == done.returncode
    assert "all of it" == (tmp_path / "left-open").read_text()
