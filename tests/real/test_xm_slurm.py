"""An XManager launch script on a real Slurm, over SSH."""

import subprocess
import sys

from tests.real.conftest import cluster_config
from tests.support.cli import REPOSITORY
from tests.support.launch_script import PROJECT, SCRIPT, VALUES, fetched


def test_a_sweep_is_one_array_with_exact_arguments_and_is_never_added_twice(make_cli, testbed):
    cli = make_cli(PROJECT, config=cluster_config(testbed))
    (cli.folder / "launch.py").write_text(SCRIPT)

    done = cli.run("launch", "launch.py", "--", "--identity")
    again = cli.run("launch", "launch.py", "--", "--identity", "--experiment=1")

    assert "done 1 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]\n" in done.stdout
    assert "done 1 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]\n" in again.stdout
    jobs = [run["job"] for run in cli.json("status", "1")]
    array = jobs[0].partition("_")[0]
    assert [f"{array}_{task}" for task in range(10)] == jobs[:10]
    assert jobs[10].isdigit()
    for number, value in enumerate(VALUES, start=1):
        assert [["--common=1", f"--v={value}"], value, str(number)] == fetched(cli, 1, number)


def test_a_refusal_names_what_slurm_said(make_cli, testbed):
    cli = make_cli(PROJECT, config=cluster_config(testbed))
    script = SCRIPT.replace("xm_slurm.Slurm(", "xm_slurm.Slurm(partition='nosuch', ")
    (cli.folder / "launch.py").write_text(script)

    done = cli.run("launch", "launch.py", status=19)

    assert "invalid partition specified: nosuch" in done.stderr
    assert "Traceback" not in done.stderr


def test_stopping_a_unit_ends_its_job(make_cli, testbed):
    cli = make_cli(PROJECT, config=cluster_config(testbed))
    (cli.folder / "launch.py").write_text(
        "import asyncio\n"
        "from xmanager import xm\n"
        "import xmslurm_repro.xm as xm_slurm\n"
        "async def main(argv):\n"
        "    async with xm_slurm.create_experiment('stop') as experiment:\n"
        "        [image] = experiment.package([xm_slurm.docker_image(image='default')])\n"
        "        unit = await experiment.add(\n"
        "            xm.Job(image, xm_slurm.Slurm(), args=['sleep', '600']))\n"
        "        while not (await unit.get_status()).message.startswith('running'):\n"
        "            await asyncio.sleep(0.5)\n"
        "        unit.stop()\n"
        "        try:\n"
        "            await unit.wait_until_complete()\n"
        "        except xm.ExperimentUnitNotCompletedError as error:\n"
        "            print('stopped:', error)\n"
    )

    done = cli.run("launch", "launch.py")

    assert "stopped: work unit 1/1 ended as cancelled" in done.stdout


def test_the_adapter_works_with_the_oldest_xmanager_that_is_allowed(tmp_path):
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps"]
    target = ["--python", sys.executable, "--target", str(tmp_path / "old")]
    subprocess.run([*uv, *target, "xmanager==0.7.1"], check=True)
    path = f"{tmp_path / 'old'}:{REPOSITORY}"
    version = "import importlib.metadata as m; print(m.version('xmanager'))"
    tests = sorted(str(path) for path in (REPOSITORY / "tests" / "unit").glob("test_xm_*.py"))

    shown = subprocess.run(
        [sys.executable, "-c", version], env={"PYTHONPATH": path}, capture_output=True, check=True
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert b"0.7.1\n" == shown.stdout
    assert 0 == done.returncode, done.stdout
