"""The test bed itself: what the other real tests lean on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.testbed.bed import PREFIX, REPOSITORY, Parts, Testbed, start_testbed
from tests.testbed.processes import Process, marked, wait_until


def test_a_user_submits_a_job_on_the_login_node_and_finds_its_output_at_home(testbed: Testbed):
    command = (
        "cd && mkdir tb-home && cd tb-home && sbatch --parsable -J tb-home --wrap 'id -un; pwd'"
    )

    job_id = ssh(testbed, command)
    state = testbed.wait_for_job(job_id)

    assert state == "COMPLETED"
    assert ssh(testbed, f"cat tb-home/slurm-{job_id}.out") == "xsalice\n/home/xsalice/tb-home"
    assert (testbed.homes["xsalice"] / f"tb-home/slurm-{job_id}.out").exists()
    assert testbed.jobs_named("tb-home") == 1


def test_arrays_count_as_one_job_and_other_names_as_none(testbed: Testbed):
    job_id = testbed.run_as(
        "xsbob", ["sbatch", "--parsable", "-Jtb-array", "-o/dev/null", "--array=0-9", "--wrap=true"]
    ).strip()

    assert " ".join(["COMPLETED"] * 10) == testbed.wait_for_job(job_id)
    assert testbed.jobs_named("tb-array") == 1
    assert testbed.jobs_named("tb-arra") == 0


def test_two_gpus_are_handed_out_by_number(testbed: Testbed):
    words = ["srun", "-wn2", "--gres=gpu:2", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]

    assert testbed.run_as("xsalice", words) == "0,1\n"


def test_a_cut_connection_ends_the_client_and_not_the_command(testbed: Testbed):
    home = testbed.homes["xsalice"]
    command = "touch tb-begun; sleep 0.5; touch tb-done"
    client = subprocess.Popen(["ssh", "-F", testbed.ssh_config, "testbed", command])
    wait_until((home / "tb-begun").exists, "the command's start")

    assert testbed.cut_connections() == 2
    assert client.wait(timeout=10) == 255
    wait_until((home / "tb-done").exists, "the command's end", seconds=10)


def test_the_controller_comes_back_with_its_queue(testbed: Testbed):
    job_id = testbed.run_as("xsalice", ["sbatch", "--parsable", "-H", "--wrap=true"]).strip()
    testbed.stop_controller()
    testbed.start_controller()

    assert testbed.run(["squeue", "-h", "-j", job_id, "-o", "%T"]) == "PENDING\n"
    testbed.run(["scancel", job_id])


def test_a_test_bed_ends_with_the_process_that_started_it_even_when_that_is_killed(tmp_path: Path):
    program = """
import sys, time
from tests.testbed.bed import Parts, start_testbed
bed = start_testbed(Parts(accounting=False, nodes=2))
bed.run_as("xsalice", ["sbatch", "--wrap", "setsid sleep 1000 & sleep 1000"])
print(bed.root, flush=True)
time.sleep(1000)
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    root = Path(owner.stdout.readline().strip())
    assert root.name.startswith(PREFIX)
    assert len(marked(root)) > 6
    owner.kill()
    owner.communicate()

    wait_until(lambda: not root.exists(), "the folder to be gone", seconds=10)
    assert marked(root) == []


def test_what_left_its_parents_its_environment_and_its_namespace_ends_with_the_test_bed():
    # As the process that podman without root leaves behind.
    leave = "setsid env -i unshare --user --mount sh -c 'echo $$; exec sleep 1000' 2>&1 &"
    bed = start_testbed(Parts(slurm=False, registry=False))
    try:
        said = bed.run_as("xsalice", ["sh", "-c", f"({leave}) >left; sleep 0.5; cat left"])
        left = Process.of(int(said))
        assert left is not None
        assert left.is_alive
    finally:
        bed.stop()

    assert not left.is_alive


def ssh(testbed: Testbed, command: str) -> str:
    done = subprocess.run(
        ["ssh", "-F", testbed.ssh_config, "testbed", command],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()
