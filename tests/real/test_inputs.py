"""Inputs on a cluster: named by their content, shown read-only, and never others unnoticed."""

from __future__ import annotations

import hashlib
import os
import pwd
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster_places import Place, fresh_token, local_place, outcome_of, ssh_place
from tests.cluster_support import scratch_state, submission
from tests.real.conftest import cluster_config
from tests.testbed.bed import Testbed
from xmslurm_repro import errors
from xmslurm_repro.cluster.charliecloud import Charliecloud
from xmslurm_repro.cluster.docker import Docker
from xmslurm_repro.cluster.podman import Podman
from xmslurm_repro.cluster.runtime import Bubblewrap
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.model.run import RunState
from xmslurm_repro.model.work import Input, InputKind
from xmslurm_repro.ports.cluster import PlacedInput

SHOW = r"""
    cd /xm/inputs
    cat one; cat "many/a b/c"; cat many/link; ls
    for path in one many many/x "many/a b/c" .; do
        { : >>"$path"; touch "$path/new"; } 2>/dev/null && echo "$path can be written to"
    done
    true
"""


def fill(folder: Path) -> None:
    (folder / "many, of: them" / "a b").mkdir(parents=True)
    (folder / "one").write_text("1\n")
    (folder / "many, of: them" / "a b" / "c").write_text("2\n")
    (folder / "many, of: them" / "x").write_text("3\n")
    (folder / "many, of: them" / "link").symlink_to("a b/c")


@pytest.mark.parametrize("runtime", ["bubblewrap", "podman", "charliecloud", "docker"])
def test_a_command_sees_its_inputs_and_cannot_change_them(testbed: Testbed, request, runtime: str):
    made = {"bubblewrap": Bubblewrap(), "podman": Podman(), "charliecloud": Charliecloud()}
    if runtime == "docker":
        made["docker"] = Docker(options=(f"--host={request.getfixturevalue('docker_engine')}",))
    with ssh_place(testbed, made[runtime]) as place:
        data = testbed.homes[testbed.ssh_user] / f"data-{fresh_token()}"
        fill(data)
        give(data, testbed.ssh_user)
        home = Path(pwd.getpwnam(testbed.ssh_user).pw_dir) / data.name
        paths = [("many", str(home / "many, of: them")), ("one", str(home / "one"))]

        outcome = outcome_of(play(place, ["bash", "-c", SHOW], paths))

        assert (RunState.COMPLETED, None) == (outcome.state, outcome.reason)
        assert place.log_of(outcome.run_id) == b"1\n2\n2\nmany\none\n"


def give(folder: Path, user: str) -> None:
    entry = pwd.getpwnam(user)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def survey(place: Place, paths) -> tuple[Input, ...]:
    return place.run(lambda cluster: cluster.survey(paths))


def play(place: Place, argv, paths, *, inputs: tuple[Input, ...] | None = None):
    """Run *argv* with what is at *paths* now, or with what was there."""
    found = survey(place, paths) if inputs is None else inputs
    placed = tuple(PlacedInput(content=one, path=dict(paths)[one.name]) for one in found)
    wanted = replace(submission(place.image(), argv, token=fresh_token()), inputs=placed)
    return place.play(wanted)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with scratch_state(tmp_path / "a state") as seen:
        yield local_place(seen)


def test_an_input_is_named_by_what_it_holds(place: Place, tmp_path: Path):
    for name in ("here", "there"):
        fill(tmp_path / name)

    here, there = (
        survey(place, [("d", str(tmp_path / name / "many, of: them"))])
        for name in ("here", "there")
    )
    (one,) = survey(place, [("one", str(tmp_path / "here" / "one"))])

    digests = [hashlib.sha256(data).hexdigest() for data in (b"2\n", b"a b/c", b"3\n")]
    listed = [
        f"{digest} {size} {kind} {path}\0"
        for digest, size, kind, path in zip(
            digests, (2, 5, 2), "flf", ("a b/c", "link", "x"), strict=True
        )
    ]
    assert here == there
    assert here[0].kind is InputKind.FOLDER
    assert here[0].digest.hex == hashlib.sha256("".join(listed).encode()).hexdigest()
    assert (InputKind.FILE, hashlib.sha256(b"1\n").hexdigest()) == (one.kind, one.digest.hex)


def touch_content(folder: Path) -> None:
    path = folder / "x"
    before = path.stat()
    path.write_text("4\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def add_file(folder: Path) -> None:
    (folder / "new").write_text("")


def move_link(folder: Path) -> None:
    (folder / "link").unlink()
    (folder / "link").symlink_to("x")


def remove_all(folder: Path) -> None:
    folder.rename(folder.with_name("gone"))


@pytest.mark.parametrize("change", [touch_content, add_file, move_link, remove_all])
def test_a_job_refuses_an_input_that_changed_since_it_was_recorded(
    place: Place, tmp_path: Path, change
):
    fill(tmp_path)
    paths = [("data", str(tmp_path / "many, of: them"))]
    before = survey(place, paths)

    change(tmp_path / "many, of: them")
    outcome = outcome_of(play(place, ["touch", "/xm/outputs/x"], paths, inputs=before))

    assert (RunState.REFUSED, ()) == (outcome.state, outcome.outputs)
    assert "the input data " in (outcome.reason or "")


def test_an_input_that_changes_while_the_command_runs_is_named(place: Place, tmp_path: Path):
    fill(tmp_path)
    paths = [("data", str(tmp_path / "many, of: them"))]
    script = "echo on; until [[ -e /xm/inputs/data/new ]]; do sleep 0.05; done"
    found = survey(place, paths)
    placed = tuple(PlacedInput(content=one, path=paths[0][1]) for one in found)
    wanted = replace(
        submission(place.image(), ["bash", "-c", script], token=fresh_token()), inputs=placed
    )

    async def scenario(cluster: ShellCluster):
        runs = await place.launch(cluster, wanted)
        async for _ in cluster.logs(wanted.tasks[0].run_id, attempt=None, follow=True):
            break
        add_file(tmp_path / "many, of: them")
        return await place.finish(cluster, runs)

    (observation,) = place.run(scenario)

    assert "inputs changed while it ran: data" == observation.reason


def unreadable(folder: Path) -> str:
    (folder / "x").symlink_to("/nowhere/at/all")
    return "a link in"


def leading_out(folder: Path) -> str:
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to("../../elsewhere")
    return "sub/up -> ../../elsewhere"


def a_pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return "no file, folder or link: pipe"


@pytest.mark.parametrize("spoil", [unreadable, leading_out, a_pipe])
def test_what_no_job_could_be_shown_is_an_error(place: Place, tmp_path: Path, spoil):
    folder = tmp_path / "data"
    folder.mkdir()
    said = spoil(folder)

    with pytest.raises(errors.InputError) as caught:
        survey(place, [("data", str(folder)), ("other", str(tmp_path / "nothing"))])

    assert "data, other" in caught.value.message
    assert said in caught.value.details[0]
    assert "there is no" in caught.value.details[1]


def test_a_folder_of_many_files_is_read_once(place: Place, tmp_path: Path):
    folder = tmp_path / "data"
    for number in range(3000):
        if number % 100 == 0:
            (folder / str(number // 100)).mkdir(parents=True)
        (folder / str(number // 100) / f"file {number}").write_bytes(b"%d" % number)
    os.utime(folder / "0" / "file 0", (1, 1))
    paths = [("data", str(folder))]
    time.sleep(2.1)
    (first,) = survey(place, paths)
    noted = next((place.seen / "inputs").glob("*[0-9a-f]"))
    noted.write_text(noted.read_text().replace(first.digest.hex, "0" * 64))

    assert survey(place, paths)[0].digest.hex == "0" * 64


def test_a_replay_goes_by_the_content_of_its_inputs(make_cli, testbed: Testbed):
    program = """\
import os, pathlib
outputs, inputs = (pathlib.Path(os.environ[f"XMSLURM_{name}"]) for name in ("OUTPUTS", "INPUTS"))
(outputs / "sum").write_text(str(sum(map(int, (inputs / "numbers").read_text().split()))))
"""
    name = f"numbers-{fresh_token()}"
    numbers = testbed.homes[testbed.ssh_user] / name
    there = f"{pwd.getpwnam(testbed.ssh_user).pw_dir}/{name}"
    numbers.write_text("1 2 3\n")
    config = cluster_config(testbed) + f'[clusters.alpha.inputs]\nnumbers = "{there}"\n'
    cli = make_cli({"main.py": program}, config=config)

    launched = cli.launch("python3", "main.py", options=("--wait", "--input", "numbers"))
    again = cli.json("replay", "1")
    numbers.rename(numbers.with_name(f"{name}-moved"))
    moved = cli.json("replay", "1", "--input", f"numbers={there}-moved")
    numbers.with_name(f"{name}-moved").write_text("1 2 4\n")
    changed = cli.run(
        "replay", "1", "--input", f"numbers={there}-moved", status=errors.InputError.exit_status
    )
    shown = cli.run("show", "1").stdout

    digest = hashlib.sha256(b"1 2 3\n").hexdigest()
    assert "completed" == launched["status"][0]["state"]
    assert ["R3", "R3"] == [each["verdicts"][0]["level"] for each in (again, moved)]
    assert "numbers" in changed.stderr
    assert digest in shown
