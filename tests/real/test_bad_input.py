"""Bad input: a clear error, a hint, a status of its own, and nothing submitted."""

import os
import subprocess
import threading

import pytest

from tests.support.cli import git
from xmslurm_repro import errors

NEEDS_PACKAGE = (
    '[project]\nname = "p"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["numpy"]\n'
)


def refused(cli, error, *words, mention):
    """Launch, expect that error, and that nothing came of it."""
    done = cli.run("launch", *words, "--", "python3", "main.py", status=error.exit_status)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "\nhint: " in done.stderr
    assert mention in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    runs = [item["states"] for item in cli.json("list")]
    assert all(set(states) <= {"cancelled"} for states in runs), runs
    return done.stderr


def test_no_git_repository(make_cli):
    cli = make_cli()
    subprocess.run(["rm", "-rf", cli.folder / ".git"], check=True)

    refused(cli, errors.NoRepositoryError, mention="git init")
    assert cli.launch("python3", "main.py", options=("--wait", "--no-git"))["snapshot"]


def test_unborn_head(make_cli):
    cli = make_cli()
    subprocess.run(["rm", "-rf", cli.folder / ".git"], check=True)
    git(cli.folder, "init", "--quiet")

    refused(cli, errors.UnbornHeadError, mention="--allow-unborn")
    assert cli.launch("python3", "main.py", options=("--wait", "--allow-unborn"))["snapshot"]


def test_dependencies_without_a_lock(make_cli):
    cli = make_cli({"main.py": "", "pyproject.toml": NEEDS_PACKAGE})

    refused(cli, errors.LockMissingError, mention="uv lock")


def test_a_project_without_dependencies_needs_no_lock(make_cli):
    cli = make_cli({"main.py": "", "pyproject.toml": '[project]\nname = "p"\nversion = "0"\n'})

    assert cli.launch("python3", "main.py")["status"][0]["state"] == "completed"


def test_a_lock_without_hashes_names_every_package_at_once(make_cli):
    cli = make_cli({"main.py": "", "requirements.txt": "numpy==2.0.0\nrich\nsix==1.16.0\n"})

    message = refused(cli, errors.LockUnpinnedError, mention="--generate-hashes")
    assert all(name in message for name in ("numpy", "rich", "six"))


def test_a_package_without_a_wheel_for_the_platform(make_cli):
    lock = """\
lock-version = "1.0"
created-by = "test"
[[packages]]
name = "onlymac"
version = "1.0"
wheels = [{name = "onlymac-1.0-cp311-cp311-macosx_11_0_arm64.whl", url = "https://files.example/onlymac-1.0-cp311-cp311-macosx_11_0_arm64.whl", hashes = {sha256 = "AAAA"}}]
[[packages]]
name = "onlysource"
version = "2.0"
sdist = {name = "onlysource-2.0.tar.gz", url = "https://files.example/onlysource-2.0.tar.gz", hashes = {sha256 = "BBBB"}}
""".replace("AAAA", "a" * 64).replace("BBBB", "b" * 64)
    cli = make_cli({"main.py": "", "pylock.toml": lock})

    message = refused(cli, errors.NoWheelError, mention="onlymac")
    assert "onlysource" in message


def test_no_base_image(make_cli):
    cli = make_cli(has_base=False)

    refused(cli, errors.NoBaseImageError, mention="xmslurm-repro base create")


def test_a_base_image_that_nobody_has(make_cli):
    cli = make_cli()

    refused(cli, errors.NoBaseImageError, "--base", "nosuchname", mention="nosuchname")


def test_a_base_image_out_of_reach(make_cli):
    cli = make_cli()

    refused(
        cli, errors.BaseUnreachableError, "--base", "127.0.0.1:9/python:3.11", mention="127.0.0.1:9"
    )


def test_no_container_runtime(make_cli, tmp_path):
    cli = make_cli()
    # A PATH that has everything but container runtimes.
    folder = tmp_path / "bin"
    folder.mkdir()
    hidden = {"bwrap", "podman", "docker", "apptainer", "singularity", "ch-run", "enroot"}
    for place in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for name in os.listdir(place):
            if name not in hidden and not (folder / name).is_symlink():
                (folder / name).symlink_to(f"{place}/{name}")
    cli.env["PATH"] = str(folder)

    refused(cli, errors.NoRuntimeError, mention="bubblewrap")


def test_an_unknown_cluster(make_cli):
    cli = make_cli(config='[clusters.alpha]\nscheduler = "local"\n')

    refused(cli, errors.UnknownClusterError, "--cluster", "alpa", mention="Did you mean `alpha`?")


def test_a_file_that_changes_while_it_is_read(make_cli):
    cli = make_cli()
    log = cli.folder / "grows.log"
    log.write_bytes(b"x" * 5_000_000)
    stop = threading.Event()

    def grow():
        with log.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"x")

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        refused(cli, errors.ChangingFileError, mention="grows.log")
    finally:
        stop.set()
        thread.join()


def test_an_unreadable_file(make_cli):
    if os.geteuid() != 0:
        pytest.fail("run the real tests as root")
    cli = make_cli()
    os.mkfifo(cli.folder / "main.pipe")
    git(cli.folder, "rm", "--quiet", "main.py")
    (cli.folder / "main.py").symlink_to("main.pipe")

    assert cli.launch("true")["status"][0]["state"] == "completed"


def test_a_configuration_that_makes_no_sense_names_file_and_key(make_cli):
    cli = make_cli(config='[clusters.alpha]\nschedular = "slurm"\n')

    done = cli.run("launch", "--", "true", status=errors.ConfigError.exit_status)

    assert "clusters.alpha.schedular" in done.stderr
    assert "scheduler" in done.stderr
