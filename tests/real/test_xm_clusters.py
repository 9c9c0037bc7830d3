"""A cluster that only the launch script describes, reached over a real SSH server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.real.conftest import cluster_config
from tests.testbed.bed import Testbed

SCRIPT = """\
import datetime as dt
from xmanager import xm
import xmslurm_repro.xm as xm_slurm
from xmslurm_repro.xm import config

async def main(argv):
    cluster = config.SlurmClusterConfig(
        name="bed",
        ssh=config.SSHConfig(
            endpoints=(config.Endpoint({host!r}, {port}),),
            public_key=config.PublicKey({algorithm!r}, {key!r}),
            user={user!r},
        ),
        container_environment={{"SAID": "by the cluster"}},
    )
    executor = xm_slurm.Slurm(
        requirements=xm_slurm.JobRequirements(cpu=1, cluster=cluster),
        time=dt.timedelta(minutes=2),
        bind={{xm_slurm.ResourceType.MEMORY: None}},
        bind_flag="enforce-binding",
        requeue=False,
    )
    async with xm_slurm.create_experiment("described") as experiment:
        [image] = experiment.package(
            [xm_slurm.docker_image(image="default", args=["/bin/sh", "-c"])])
        unit = await experiment.add(xm.Job(image, executor, args=["echo said $SAID"]))
        await unit.wait_until_complete()
        print("".join([piece async for piece in unit.logs()]), end="")
"""

GRACE = """\
import datetime as dt
from xmanager import xm
import xmslurm_repro.xm as xm_slurm

async def main(argv):
    executor = xm_slurm.Slurm(
        time=dt.timedelta(minutes=1), timeout_signal_grace_period=dt.timedelta(seconds=45))
    async with xm_slurm.create_experiment("grace") as experiment:
        [image] = experiment.package(
            [xm_slurm.docker_image(image="default", args=["/bin/sh", "-c"])])
        unit = await experiment.add(
            xm.Job(image, executor, args=["trap 'echo saved; exit 0' TERM; sleep 300 & wait"]))
        try:
            await unit.wait_until_complete()
        except xm.ExperimentUnitFailedError as error:
            print(error.args[0].partition(';')[0])
            print("".join([piece async for piece in unit.logs()]), end="")
"""


def host_key(testbed: Testbed) -> tuple[str, str]:
    line = Path(testbed.ssh_known_hosts).read_text().splitlines()[0].split()
    return line[1], line[2]


def script(testbed: Testbed, algorithm: str, key: str) -> str:
    return SCRIPT.format(
        host=testbed.ssh_host,
        port=testbed.ssh_port,
        user=testbed.ssh_user,
        algorithm=algorithm,
        key=key,
    )


@pytest.fixture
def home(testbed, tmp_path):
    """A home folder whose default key the cluster takes, and that knows no hosts."""
    folder = tmp_path / "somebody"
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    shutil.copy(testbed.ssh_key, folder / ".ssh" / "id_ed25519")
    (folder / ".ssh" / "id_ed25519").chmod(0o600)
    return folder


def test_a_described_cluster_runs_jobs_and_says_how_to_keep_it(make_cli, testbed, home):
    cli = make_cli({"launch.py": script(testbed, *host_key(testbed))})
    cli.env["HOME"] = str(home)

    done = cli.run("launch", "launch.py")
    unknown = cli.run("status", "1", status=None)
    text = done.stderr.partition("[clusters.bed]")[2].partition("\n\n")[0]
    (cli.folder / "xmslurm-repro.toml").write_text(f"[clusters.bed]{text}\n")
    replay = cli.json("replay", "1")

    assert "said by the cluster\n" == done.stdout
    assert unknown.returncode in {0, 18}
    assert ["R3"] == [verdict["level"] for verdict in replay["verdicts"]]


def test_a_host_with_another_key_than_the_pinned_one_is_refused(make_cli, testbed, home):
    algorithm, key = host_key(testbed)
    other = key[:-6] + ("A" if key[-6] != "A" else "B") + key[-5:]
    cli = make_cli({"launch.py": script(testbed, algorithm, other)})
    cli.env["HOME"] = str(home)

    done = cli.run("launch", "launch.py", status=26)

    assert "Traceback" not in done.stderr


def test_a_grace_period_lets_the_command_save_its_state(make_cli, testbed):
    cli = make_cli({"launch.py": GRACE}, config=cluster_config(testbed))

    done = cli.run("launch", "launch.py")

    assert "work unit 1/1 ended as timeout: its time limit was near\nsaved\n" == done.stdout
