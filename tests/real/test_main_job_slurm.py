"""The main job on a real Slurm, through a real sshd, as a user who has nothing there of ours."""

import json
import time

import pytest

from tests.real.conftest import cluster_config
from tests.support.cli import QUICKSTART
from xmslurm_repro import errors

WRITES = """\
import os, pathlib, sys
outputs = pathlib.Path(os.environ["XMSLURM_OUTPUTS"])
(outputs / "result.txt").write_text(" ".join(sys.argv[1:]) + "\\n")
print("wrote", *sys.argv[1:])
"""


@pytest.mark.parametrize("runtime", ["bubblewrap", "podman"])
def test_launch_replay_and_diff_over_ssh(make_cli, testbed, runtime):
    files = {path.name: path.read_text() for path in QUICKSTART.iterdir()}
    cli = make_cli(files, config=cluster_config(testbed, more=f'runtime = "{runtime}"'))
    train = ["python", "train.py", "--steps", "50"]

    first = cli.launch(*train)
    source = cli.folder / "train.py"
    source.write_text(source.read_text().replace("HIDDEN_UNITS = 48", "HIDDEN_UNITS = 32"))
    second = cli.launch(*train)
    replay = cli.json("replay", "1")
    diff = cli.json("diff", "1", "2", status=1)

    [status] = first["status"]
    facts = status["outcome"]["facts"]
    assert status["cluster"] == "alpha"
    assert status["job"].isdigit()
    assert status["outcome"]["image"] == first["image"]
    assert facts["node"] in testbed.nodes
    assert facts["runtime"] == runtime
    assert facts["kernel"]
    assert facts["cpu_model"]
    assert first["image"] != second["image"]
    assert replay["verdicts"][0]["level"] == "R3"
    assert {"code", "outputs"} <= {axis["path"] for axis in diff["differences"]}


@pytest.mark.every_slurm
def test_whatever_slurm_runs_it_a_replay_gives_the_same_bytes(make_cli, testbed):
    cli = make_cli({"main.py": WRITES}, config=cluster_config(testbed))

    cli.launch("python", "main.py", "a b", "$HOME")
    replay = cli.json("replay", "1")

    assert replay["verdicts"][0]["level"] == "R3"
    assert testbed.wait_for_job(replay["runs"][0]["job_id"]) == "COMPLETED"


def test_every_runtime_and_the_embedded_default_give_the_same_bytes(
    make_cli, testbed, base_home, docker_engine
):
    config = cluster_config(testbed, more='runtime = "bubblewrap"')
    config += f'[clusters.local]\nscheduler = "local"\nstate_dir = "{base_home / "local"}"\n'
    for name in ("podman", "charliecloud", "docker"):
        more = f'runtime = "{name}"\n'
        if name == "docker":
            more += f'runtime_options = {{ host = "{docker_engine}" }}\n'
        described = cluster_config(testbed, name=name, more=more)
        config += described.replace(f'default_cluster = "{name}"\n', "")
    files = {path.name: path.read_text() for path in QUICKSTART.iterdir()}
    cli = make_cli(files, config=config)
    cli.launch("python", "train.py", "--steps", "50")

    elsewhere = ("podman", "charliecloud", "docker", "local")
    replays = [cli.json("replay", "1", "--cluster", name) for name in elsewhere]

    assert ["R3"] * 4 == [replay["verdicts"][0]["level"] for replay in replays]


def test_an_image_can_travel_through_a_registry(make_cli, testbed):
    more = f'runtime = "podman"\nregistry = "{testbed.registry}/lab/runs"'
    insecure = f'[registry]\ninsecure_hosts = ["{testbed.registry}"]\n'
    config = cluster_config(testbed, more=more) + insecure
    cli = make_cli({"main.py": WRITES}, config=config)

    launched = cli.launch("python3", "main.py", "a")

    [status] = launched["status"]
    assert status["state"] == "completed", status
    assert status["outcome"]["image"] == launched["image"]
    assert cli.json("replay", "1")["verdicts"][0]["level"] == "R3"


def test_a_refusal_says_what_slurm_said(make_cli, testbed):
    cli = make_cli({"main.py": WRITES}, config=cluster_config(testbed))

    done = cli.run(
        "launch",
        "-o",
        "partition=nosuch",
        "--",
        "true",
        status=errors.SubmitRefusedError.exit_status,
    )

    assert "invalid partition" in done.stderr.lower()
    assert "\nhint: " in done.stderr
    assert cli.json("list")[0]["states"] == {"cancelled": 1}
    assert cli.json("status", "latest", status=1)[0]["job"] is None


def test_resources_reach_slurm(make_cli, testbed):
    cli = make_cli(
        {"main.py": "import os; print(os.environ['OMP_NUM_THREADS'])\n"},
        config=cluster_config(testbed),
    )

    cli.launch(
        "python3", "main.py", options=("--wait", "--cpus", "2", "--memory", "200M", "--time", "5")
    )

    job = cli.json("status")[0]["job"]
    assert cli.run("logs").stdout == "2\n"
    asked = ["sacct", "-n", "-X", "-P", "-j", job, "-o", "AllocCPUS,Timelimit"]
    for _ in range(50):
        # slurmdbd learns of a job's parts one after the other.
        shown = testbed.run(asked).strip()
        if shown == "2|00:05:00":
            break
        time.sleep(0.2)
    assert shown == "2|00:05:00"


def test_a_cluster_can_be_checked_before_anything_is_launched(make_cli, testbed):
    cli = make_cli(config=cluster_config(testbed))

    facts = {fact["name"]: fact for fact in cli.json("clusters", "check", "alpha", status=None)}

    assert any(
        "22.05" in fact["value"] or "slurm" in fact["value"].lower() for fact in facts.values()
    )


def test_a_host_whose_key_is_unknown_is_refused(make_cli, testbed, tmp_path):
    nobody = tmp_path / "known_hosts"
    nobody.write_text("")
    config = cluster_config(testbed).replace(str(testbed.ssh_known_hosts), str(nobody))
    cli = make_cli(config=config)

    done = cli.run("launch", "--", "true", status=errors.HostKeyError.exit_status)

    assert "hint: " in done.stderr
    assert cli.json("list") == [] or json.dumps(cli.json("list")).count("promised") == 0
