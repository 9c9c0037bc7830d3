"""Killed at any step of a launch: the next command finds the job or submits it, never twice."""

import signal
import sys
import time
from dataclasses import replace

import pytest

from tests.real.conftest import cluster_config
from tests.support.cli import REPOSITORY
from tests.support.dying import STEPS

SLOW = {"main.py": "import time\ntime.sleep(1)\nprint('ran')\n"}
WORDS = ("launch", "--", "python3", "main.py")
PROMISED = STEPS[STEPS.index("after:record.promise") :]


def killed_at(cli, step):
    dying = replace(
        cli,
        program=(sys.executable, "-m", "tests.support.dying", step),
        env={**cli.env, "PYTHONPATH": str(REPOSITORY)},
    )
    dying.run(*WORDS, status=-signal.SIGKILL)


def attempts_of(state_dir, token):
    return sorted(path.name for path in (state_dir / "runs" / token).glob("*/*/facts"))


@pytest.mark.parametrize("step", STEPS)
def test_killed_on_this_machine(make_cli, base_home, step):
    cli = make_cli(SLOW)
    killed_at(cli, step)

    statuses = cli.json("status", "--wait") if step in PROMISED else []

    if step not in PROMISED:
        assert cli.json("launch", "--wait", "--", "python3", "main.py")["status"]
        statuses = cli.json("status")
    assert [status["state"] for status in statuses] == ["completed"]
    token = statuses[0]["run"].partition(".")[0]
    assert len(attempts_of(base_home / "local", token)) == 1
    assert cli.run("logs").stdout == "ran\n"


@pytest.mark.parametrize("step", PROMISED)
def test_killed_before_slurm_answered(make_cli, testbed, step):
    cli = make_cli(SLOW, config=cluster_config(testbed))
    killed_at(cli, step)

    [status] = cli.json("status", "--wait")
    cli.json("list")

    assert status["state"] == "completed"
    token = status["run"].partition(".")[0]
    assert testbed.jobs_named(f"xmslurm-{token}") == 1


@pytest.mark.parametrize("delay", [0.2, 0.4, 0.6, 0.8, 1.0, 1.2])
def test_killed_at_any_moment_on_slurm(make_cli, testbed, delay):
    import subprocess

    cli = make_cli(SLOW, config=cluster_config(testbed))
    process = subprocess.Popen(
        [*cli.program, *WORDS],
        cwd=cli.folder,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(cli.home),
            "XMSLURM_REPRO_HOME": str(cli.home),
            **cli.env,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(delay)
    process.kill()
    process.wait()

    cli.run("list")
    found = [item for item in cli.json("list") if item["states"]]

    for item in found:
        [status] = cli.json("status", str(item["id"]), "--wait")
        token = status["run"].partition(".")[0]
        assert status["state"] == "completed"
        assert testbed.jobs_named(f"xmslurm-{token}") == 1
