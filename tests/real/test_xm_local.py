"""An XManager launch script on the embedded default: one machine, nothing configured."""

import os
import subprocess
import sys

from tests.support.cli import REPOSITORY, git
from tests.support.launch_script import PROJECT, SCRIPT, VALUES, fetched


def project(make_cli):
    cli = make_cli(PROJECT)
    (cli.folder / "launch.py").write_text(SCRIPT)
    return cli


def test_a_launch_script_runs_its_sweep_with_exact_arguments_and_replays(make_cli):
    cli = project(make_cli)

    done = cli.run("launch", "launch.py", "--", "--title=my sweep")

    assert "done 1 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]\n" in done.stdout
    assert "work units 1 to 10 are tasks of job" in done.stderr
    [row] = cli.json("list")
    assert ("my sweep", {"completed": 11}) == (row["title"], row["states"])
    for number, value in enumerate(VALUES, start=1):
        assert [["--common=1", f"--v={value}"], value, str(number)] == fetched(cli, 1, number)
    assert [["--common=1", "last"], None, "11"] == fetched(cli, 1, 11)
    replay = cli.json("replay", "1")
    assert ["R3"] * 11 == [verdict["level"] for verdict in replay["verdicts"]]


def test_a_failed_unit_fails_the_launch(make_cli):
    cli = project(make_cli)

    done = cli.run("launch", "launch.py", "--", "--fail", status=1)

    assert "error: work unit 1/11 ended as failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert 1 == cli.json("list")[0]["states"]["failed"]


def test_adding_again_by_identity_submits_nothing(make_cli):
    cli = project(make_cli)
    cli.run("launch", "launch.py", "--", "--identity")
    manifest = cli.json("show", "1")["manifest"]

    done = cli.run("launch", "launch.py", "--", "--identity", "--experiment=1")

    assert "done 1 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]\n" in done.stdout
    assert "job" not in done.stderr
    assert manifest == cli.json("show", "1")["manifest"]
    assert {"completed": 11} == cli.json("list")[0]["states"]


def test_launching_a_script_twice_gives_the_same_manifest(make_cli):
    cli = project(make_cli)
    git(cli.folder, "add", ".")
    for _ in range(2):
        cli.run("launch", "launch.py")

    assert cli.json("show", "1")["manifest"] == cli.json("show", "2")["manifest"]


def test_a_script_also_runs_by_itself_and_by_xmanagers_own_launch(make_cli):
    cli = project(make_cli)
    env = {**os.environ, "XMSLURM_REPRO_HOME": str(cli.home), "PYTHONPATH": str(REPOSITORY)}
    ways = [
        [sys.executable, "launch.py", "--title=python"],
        [sys.executable, "-m", "xmanager.cli.cli", "launch", "launch.py", "--title=xmanager"],
    ]
    for way in ways:
        done = subprocess.run(
            way, cwd=cli.folder, env={**env, **cli.env}, capture_output=True, text=True, check=False
        )
        assert 0 == done.returncode, done.stderr
        assert "done" in done.stdout

    assert {"python", "xmanager"} == {row["title"] for row in cli.json("list")}


def test_what_goes_wrong_in_a_script_is_said_without_a_traceback(make_cli):
    cli = project(make_cli)
    (cli.folder / "uv.lock").unlink()

    done = cli.run("launch", "launch.py", status=2)

    assert f"error: there is no {cli.folder / 'uv.lock'}" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_be_done_is_refused_with_a_way_out(make_cli):
    cli = project(make_cli)
    (cli.folder / "launch.py").write_text(SCRIPT.replace('args={"common": 1}', "ssh=True"))

    done = cli.run("launch", "launch.py", status=29)

    assert "error: uv_container fetches nothing over SSH" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_without_main_is_refused(make_cli):
    cli = make_cli({"launch.py": "x = 1\n"})

    done = cli.run("launch", "launch.py", status=2)

    assert "the launch script launch.py has no function `main`" in done.stderr


def test_a_given_image_runs_with_its_own_entrypoint(make_cli):
    cli = make_cli(
        {
            "launch.py": (
                "from xmanager import xm\n"
                "import xmslurm_repro.xm as xm_slurm\n"
                "def main(argv):\n"
                "    with xm_slurm.create_experiment('given') as experiment:\n"
                "        [image] = experiment.package(\n"
                "            [xm_slurm.docker_image(image='default', args=['/bin/sh', '-c'])])\n"
                "        experiment.add(xm.Job(image, xm_slurm.Slurm(), args=['echo hello $0']))\n"
            )
        }
    )
    cli.run("launch", "launch.py")

    cli.run("logs", "1", "--follow")

    assert "hello /bin/sh\n" == cli.run("logs", "1").stdout
