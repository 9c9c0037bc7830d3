"""Secrets: in the process that needs them, and nowhere else."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster_places import Place, fresh_token, outcome_of, ssh_place
from tests.cluster_support import submission
from tests.real.conftest import cluster_config
from tests.testbed.bed import Testbed
from xmslurm_repro.cluster.charliecloud import Charliecloud
from xmslurm_repro.cluster.docker import Docker
from xmslurm_repro.cluster.podman import Podman
from xmslurm_repro.cluster.runtime import Bubblewrap
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.errors import MissingSecretError
from xmslurm_repro.model.run import RunState

CORE = f"s3cr3t{fresh_token()}"
NASTY = f"{CORE}'\"$HOME `id`\\\n größe %s 'x'\n"


def with_secret(wanted, value: str = NASTY):
    return replace(wanted, secrets=("TOKEN",), secret_values=(("TOKEN", value),))


def wait_for(condition: Callable[[], bool], *, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def command_lines_with(text: str) -> list[str]:
    """Command lines of this machine's processes that hold *text*."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if text.encode() in words:
            found.append(words.decode(errors="replace"))
    return found


def files_with(text: str, *folders: Path) -> list[str]:
    """Files below *folders* that hold *text*; compressed ones are looked into."""
    words = ["grep", "-r", "-l", "-a", "-F", "-e", text, *(str(folder) for folder in folders)]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()


@pytest.mark.parametrize("runtime", ["bubblewrap", "podman", "charliecloud", "docker"])
def test_a_command_gets_a_secret_to_the_byte_and_no_other_variable(
    testbed: Testbed, request, runtime: str
):
    made = {"bubblewrap": Bubblewrap(), "podman": Podman(), "charliecloud": Charliecloud()}
    if runtime == "docker":
        engine = request.getfixturevalue("docker_engine")
        made["docker"] = Docker(options=(f"--host={engine}",))
    with ssh_place(testbed, made[runtime]) as place:
        wanted = with_secret(submission(place.image(), ["env", "-0"], token=fresh_token()))

        outcome = outcome_of(place.play(wanted))
        shown = place.log_of(outcome.run_id).decode()

        given = {f"{name}={value}" for name, value in wanted.tasks[0].env}
        run = {f"XMSLURM_ATTEMPT={outcome.attempt}", "XMSLURM_RESTART_COUNT=0"}
        expected = {*given, *run, f"TOKEN={NASTY}"}
        assert (RunState.COMPLETED, None) == (outcome.state, outcome.reason)
        assert expected == set(shown.split("\0")) - {""}
        assert not (place.seen / "secrets" / wanted.token).exists()


SLEEP = ["bash", "-c", "echo on; sleep 60"]


def started(place: Place, cluster: ShellCluster, wanted):
    async def wait() -> None:
        async for _ in cluster.logs(wanted.tasks[0].run_id, attempt=None, follow=True):
            return

    return wait()


def test_a_secret_is_removed_when_its_job_is_cancelled(testbed: Testbed):
    with ssh_place(testbed, Bubblewrap()) as place:
        wanted = with_secret(submission(place.image(), SLEEP, token=fresh_token()))
        folder = place.seen / "secrets" / wanted.token

        async def scenario(cluster: ShellCluster) -> tuple[int, int]:
            runs = await place.launch(cluster, wanted)
            await started(place, cluster, wanted)
            modes = folder.stat().st_mode & 0o777, (folder / "values").stat().st_mode & 0o777
            await cluster.cancel(list(runs.values()))
            wait_for(lambda: not folder.exists())
            await place.finish(cluster, runs)
            return modes

        assert (0o700, 0o600) == place.run(scenario)


def test_a_secret_is_removed_when_its_job_never_began(testbed: Testbed):
    with ssh_place(testbed, Bubblewrap()) as place:
        held = submission(
            place.image(), ["true"], token=fresh_token(), options=(("begin", "now+1hour"),)
        )
        wanted = with_secret(held)

        async def scenario(cluster: ShellCluster) -> RunState:
            runs = await place.launch(cluster, wanted)
            assert (place.seen / "secrets" / wanted.token / "values").exists()
            await cluster.cancel(list(runs.values()))
            (observation,) = await place.finish(cluster, runs)
            return observation.state

        assert place.run(scenario) is RunState.CANCELLED
        assert not (place.seen / "secrets" / wanted.token).exists()


def test_a_requeued_job_gets_its_secret_again(testbed: Testbed):
    script = 'printf %s "$TOKEN"; [[ $XMSLURM_ATTEMPT == *.0 ]] && { echo on; sleep 60; }; true'
    with ssh_place(testbed, Bubblewrap()) as place:
        wanted = with_secret(
            submission(
                place.image(),
                ["bash", "-c", script],
                token=fresh_token(),
                options=(("requeue", ""),),
            )
        )

        async def scenario(cluster: ShellCluster):
            runs = await place.launch(cluster, wanted)
            await started(place, cluster, wanted)
            testbed.run(["scontrol", "requeue", *runs.values()])
            return await place.finish(cluster, runs)

        outcome = outcome_of(place.run(scenario))

        assert (RunState.COMPLETED, None) == (outcome.state, outcome.reason)
        assert outcome.attempt.endswith(".1")
        assert NASTY == place.log_of(outcome.run_id).decode()
        assert not (place.seen / "secrets" / wanted.token).exists()


def test_a_job_does_not_run_with_a_secret_that_others_could_have_changed(testbed: Testbed):
    with ssh_place(testbed, Bubblewrap()) as place:
        held = submission(place.image(), ["true"], token=fresh_token(), options=(("hold", ""),))
        wanted = with_secret(held)

        async def scenario(cluster: ShellCluster):
            runs = await place.launch(cluster, wanted)
            (place.seen / "secrets" / wanted.token / "values").chmod(0o640)
            testbed.run(["scontrol", "release", *runs.values()])
            return await place.finish(cluster, runs)

        outcome = outcome_of(place.run(scenario))

        assert outcome.state is RunState.REFUSED
        assert "others can read or change" in (outcome.reason or "")


TELL = """\
import hashlib, os, pathlib, time
outputs = pathlib.Path(os.environ["XMSLURM_OUTPUTS"])
(outputs / "digest").write_text(hashlib.sha256(os.environ["TOKEN"].encode()).hexdigest())
print("on")
time.sleep(8)
"""


def test_the_value_of_a_secret_is_written_nowhere_and_asked_for_again(make_cli, testbed: Testbed):
    cli = make_cli({"main.py": TELL}, config=cluster_config(testbed))
    mine = f"mine{fresh_token()}"
    cli.env["TOKEN"] = NASTY.replace(CORE, mine)
    state = testbed.homes[testbed.ssh_user] / ".xmslurm"
    everything = (testbed.root, cli.home, cli.folder)

    launched = cli.launch("python3", "main.py", options=("--secret", "TOKEN"))
    (folder,) = (state / "secrets").iterdir()
    log = f"runs/{folder.name}/*/*/log"
    wait_for(lambda: any(b"on" in path.read_bytes() for path in state.glob(log)))
    during = command_lines_with(mine), files_with(mine, *everything)
    cli.run("status", "--wait")
    after = files_with(mine, *everything)
    del cli.env["TOKEN"]
    refused = cli.run("replay", "1", status=MissingSecretError.exit_status)
    cli.env["TOKEN"] = NASTY.replace(CORE, mine)
    again = cli.json("replay", "1")
    shown = cli.run("show", "1").stdout

    assert ([], [str(folder / "values")]) == during
    assert [] == after
    assert "TOKEN" in refused.stderr
    assert again["verdicts"][0]["level"] == "R3"
    assert mine not in str(launched) + shown + str(again)
    assert "TOKEN" in shown
    assert not folder.exists()


def test_a_launch_that_would_record_a_secret_is_refused(make_cli):
    cli = make_cli({"main.py": "print(1)\n"})
    cli.env["TOKEN"] = CORE

    done = cli.run("launch", "--secret", "TOKEN", "--", "echo", f"--key={CORE}", status=2)

    assert "TOKEN" in done.stderr
    assert CORE not in done.stderr
    assert [] == cli.json("list")


def test_a_command_of_the_user_may_know_a_secret_and_one_of_a_project_is_refused(make_cli):
    cli = make_cli({"main.py": TELL})
    config = Path(cli.env["XDG_CONFIG_HOME"]) / "xmslurm-repro" / "config.toml"
    said = f'secrets = ["TOKEN"]\n[secret_commands]\nTOKEN = "printf %s {CORE}"\n'
    config.write_text(said + config.read_text())

    launched = cli.launch("python3", "main.py")
    (cli.folder / "xmslurm-repro.toml").write_text(said.partition("\n")[2])
    refused = cli.run("list", status=4)

    (status,) = launched["status"]
    assert "completed" == status["state"]
    assert "secret_commands.TOKEN" in refused.stderr
