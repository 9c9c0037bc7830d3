"""Launch scripts run as XManager's own launch runs them, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import REPOSITORY

PROGRAM = """
import sys
from pathlib import Path
from xmslurm_repro.errors import ReproError
from xmslurm_repro.xm.launcher import run_launch_script
before = list(sys.path)
try:
    run_launch_script(Path(sys.argv[1]), sys.argv[2:])
except ReproError as error:
    print(f"{error.code}: {error.message}")
finally:
    print("path kept" if sys.path == before else sys.path)
"""


def run(folder: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, script, *words],
        cwd=folder,
        env={"PYTHONPATH": str(REPOSITORY), "HOME": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_flags_are_parsed_and_the_rest_is_given_to_main(tmp_path: Path):
    (tmp_path / "launch.py").write_text(
        "from absl import flags\n"
        "N = flags.DEFINE_integer('n', 1, 'How many.')\n"
        "def main(argv):\n"
        "    print(N.value, argv[1:], flags.FLAGS.xm_launch_script)\n"
    )

    done = run(tmp_path, "launch.py", "--n=3", "rest", "--", "--n=4")

    assert f"3 ['rest', '--n=4'] {tmp_path / 'launch.py'}\npath kept\n" == done.stdout
    assert 0 == done.returncode


def test_an_unknown_flag_ends_the_launch_as_it_does_in_any_absl_program(tmp_path: Path):
    (tmp_path / "launch.py").write_text("def main(argv): print('not reached')\n")

    done = run(tmp_path, "launch.py", "--nosuch=3")

    assert 1 == done.returncode
    assert "Unknown command line flag 'nosuch'" in done.stderr
    assert "not reached" not in done.stdout


def test_what_main_returns_is_the_exit_status(tmp_path: Path):
    (tmp_path / "launch.py").write_text("def main(argv): return 7\n")

    assert 7 == run(tmp_path, "launch.py").returncode


def test_main_may_be_a_coroutine_function(tmp_path: Path):
    (tmp_path / "launch.py").write_text(
        "import asyncio\nasync def main(argv):\n    await asyncio.sleep(0)\n    print('ran')\n"
    )

    assert "ran\npath kept\n" == run(tmp_path, "launch.py").stdout


def test_modules_beside_the_script_can_be_imported_even_late(tmp_path: Path):
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "early.py").write_text("X = 1\n")
    (folder / "late.py").write_text("Y = 2\n")
    (folder / "launch.py").write_text(
        "import early\ndef main(argv):\n    import late\n    print(early.X, late.Y, __name__)\n"
    )

    assert "1 2 launch\npath kept\n" == run(tmp_path, "scripts/launch.py").stdout


@pytest.mark.parametrize("name", ["json.py", "test.py", "xmanager.py", "two words.py"])
def test_a_script_may_be_called_like_a_module(tmp_path: Path, name: str):
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / name).write_text("def main(argv):\n    print('mine')\n")

    done = run(tmp_path, f"scripts/{name}")

    assert "mine\npath kept\n" == done.stdout, done.stderr


def test_the_guard_at_the_end_of_a_script_is_not_run(tmp_path: Path):
    (tmp_path / "launch.py").write_text(
        "from absl import app\n"
        "def main(argv): print('once')\n"
        "if __name__ == '__main__': app.run(main)\n"
    )

    assert "once\npath kept\n" == run(tmp_path, "launch.py").stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "usage: the launch script launch.py has no function `main`"),
        ("main = 3\n", "usage: the launch script launch.py has no function `main`"),
        (None, "usage: there is no launch script launch.py"),
    ],
)
def test_what_is_no_launch_script_is_refused(tmp_path: Path, text: str | None, said: str):
    if text is not None:
        (tmp_path / "launch.py").write_text(text)

    assert f"{said}\npath kept\n" == run(tmp_path, "launch.py").stdout


def test_a_failed_unit_is_a_failed_run(tmp_path: Path):
    (tmp_path / "launch.py").write_text(
        "from xmanager import xm\n"
        "def main(argv): raise xm.ExperimentUnitFailedError('work unit 1/1 ended as failed')\n"
    )

    assert "run-failed: work unit 1/1 ended as failed\n" in run(tmp_path, "launch.py").stdout


def test_an_error_of_the_script_itself_keeps_its_traceback(tmp_path: Path):
    (tmp_path / "launch.py").write_text("def main(argv):\n    1 / 0\n")

    done = run(tmp_path, "launch.py")

    assert 1 == done.returncode
    assert "launch.py" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_the_project_is_found_from_the_script_and_not_from_the_folder_of_the_launch(
    tmp_path: Path,
):
    project = tmp_path / "project"
    (project / "scripts").mkdir(parents=True)
    (project / "requirements.txt").write_text("")
    (project / "xmslurm-repro.toml").write_text('base = "from the project"\n')
    (project / "scripts" / "launch.py").write_text(
        "from xmslurm_repro.xm import scripts, session\n"
        "def main(argv):\n"
        "    print(scripts.find_project_root(), scripts.launch_script().name)\n"
    )

    done = run(tmp_path, "project/scripts/launch.py")

    assert f"{project} launch.py\npath kept\n" == done.stdout
