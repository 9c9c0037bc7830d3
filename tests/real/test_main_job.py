"""The main job on the embedded default: launch, replay, verdict, diff."""

import json
import os
import subprocess

import pytest

from tests.support.cli import QUICKSTART, git, tree_state

WRITES = """\
import os, pathlib, sys
outputs = pathlib.Path(os.environ["XMSLURM_OUTPUTS"])
(outputs / "result.txt").write_text(" ".join(sys.argv[1:]) + "\\n")
print("wrote", *sys.argv[1:])
"""


def test_launch_replay_and_diff_of_an_experiment_with_packages(make_cli):
    files = {path.name: path.read_text() for path in QUICKSTART.iterdir()}
    cli = make_cli(files)
    train = ["python", "train.py", "--steps", "50"]

    first = cli.launch(*train)
    source = cli.folder / "train.py"
    source.write_text(source.read_text().replace("HIDDEN_UNITS = 48", "HIDDEN_UNITS = 32"))
    second = cli.launch(*train)
    replay = cli.json("replay", "1")
    diff = cli.json("diff", "1", "2", status=1)

    [status] = first["status"]
    assert [file["path"] for file in status["outcome"]["outputs"]] == ["result.json", "weights.npz"]
    assert first["image"] != second["image"]
    [verdict] = replay["verdicts"]
    assert verdict["level"] == "R3"
    assert verdict["equal"]
    assert verdict["same_log"]
    axes = {axis["path"]: axis for axis in diff["differences"]}
    assert list(axes) == ["code", "outputs"]
    [edit] = axes["code"]["children"]
    assert "-HIDDEN_UNITS = 48\n+HIDDEN_UNITS = 32" in edit["note"]
    assert {file["path"] for file in axes["outputs"]["children"]} == {"result.json", "weights.npz"}


def test_a_replay_ends_with_1_when_a_byte_differs(make_cli):
    cli = make_cli(
        {
            "main.py": "import os, pathlib\n"
            "out = pathlib.Path(os.environ['XMSLURM_OUTPUTS'])\n"
            "(out / 'same').write_text('x')\n"
            "(out / 'noise').write_bytes(os.urandom(8))\n"
        }
    )
    cli.launch("python3", "main.py")

    done = cli.run("replay", "1", status=1)

    assert "R2: 1 of 2 outputs differ" in done.stdout
    assert "! noise  differs" in done.stdout
    assert "= same  equal" in done.stdout


def test_the_users_folder_is_byte_identical_after_a_launch(make_cli):
    cli = make_cli({"main.py": WRITES, ".gitignore": "ignored\n"})
    (cli.folder / "untracked.py").write_text("x = 1\n")
    (cli.folder / "ignored").write_text("secret\n")
    (cli.folder / "main.py").write_text(WRITES + "# staged\n")
    git(cli.folder, "add", "main.py")
    (cli.folder / "main.py").write_text(WRITES + "# staged and modified\n")
    before = tree_state(cli.folder)

    cli.launch("python3", "main.py", "a")
    cli.run("replay", "latest")

    assert tree_state(cli.folder) == before


def test_untracked_and_uncommitted_files_run_and_ignored_ones_do_not(make_cli):
    cli = make_cli({"main.py": "import helper\n", ".gitignore": "ignored.txt\n"})
    (cli.folder / "helper.py").write_text(
        "import pathlib\nprint('helped', pathlib.Path('ignored.txt').exists())\n"
    )
    (cli.folder / "ignored.txt").write_text("")

    cli.launch("python3", "main.py")

    assert cli.run("logs").stdout == "helped False\n"


def test_launching_the_same_tree_twice_gives_the_same_manifest_and_image(make_cli):
    cli = make_cli({"main.py": WRITES})
    other = make_cli({"main.py": WRITES})
    git(other.folder, "commit", "--quiet", "--allow-empty", "--message", "another history")

    documents = [
        launcher.launch("python3", "main.py", "x", options=("--wait", "--title", "same"))
        for launcher in (cli, cli, other)
    ]

    assert len({document["manifest"] for document in documents}) == 1
    assert len({document["image"] for document in documents}) == 1


def test_the_command_starts_in_the_folder_of_the_launch(make_cli):
    cli = make_cli({"sub/main.py": "import os; print(os.getcwd())\n"})
    cli.folder = cli.folder / "sub"

    cli.launch("python3", "main.py")

    assert cli.run("logs", "1").stdout == "/xm/code/sub\n"


def test_words_and_variables_arrive_to_the_byte(make_cli):
    cli = make_cli(
        {"main.py": "import json, os, sys\nprint(json.dumps([sys.argv[1:], os.environ['V']]))\n"}
    )
    words = ["", "a b", "$HOME", '"', "'", "\\", "line\nbreak", "é", "--json", "*"]

    cli.launch("python3", "main.py", *words, options=("--wait", "--env", "V=a b\n$HOME'\""))

    assert json.loads(cli.run("logs").stdout) == [words, "a b\n$HOME'\""]


def test_the_process_sees_nothing_of_the_machine(make_cli):
    cli = make_cli(
        {
            "main.py": """\
import json, os, socket, pathlib
def writable(path):
    try:
        pathlib.Path(path, "probe").write_text("")
        return True
    except OSError:
        return False
def online():
    try:
        socket.create_connection(("127.0.0.1", 22), timeout=1)
        return True
    except OSError:
        return bool([n for _, n in socket.if_nameindex() if n != "lo"])
print(json.dumps({
    "env": dict(os.environ),
    "home": os.path.exists("/root") and os.listdir("/root"),
    "writable": [p for p in ("/", "/xm/code", "/xm/venv", "/usr", "/xm/outputs", "/tmp") if writable(p)],
    "online": online(),
    "umask": os.umask(0),
}))
"""
        }
    )
    cli.env["LEAK"] = "1"

    cli.launch("python3", "main.py")

    seen = json.loads(cli.run("logs").stdout)
    assert "LEAK" not in seen["env"]
    assert seen["env"]["PYTHONHASHSEED"] == "0"
    assert seen["env"]["TZ"] == "UTC"
    unit = json.loads(cli.run("show", "1", "--json").stdout)
    assert {name for name in seen["env"] if name.startswith("SLURM")} == set(), unit
    assert seen["home"] in (False, [])
    assert seen["writable"] == ["/xm/outputs", "/tmp"]
    assert not seen["online"]
    assert seen["umask"] == 0o022


def test_a_command_that_fails_is_reported_as_failed(make_cli):
    cli = make_cli({"main.py": "import sys; print('oh'); sys.exit(3)\n"})

    launched = cli.launch("python3", "main.py", status=1)

    [status] = launched["status"]
    assert (status["state"], status["outcome"]["exit_code"]) == ("failed", 3)
    assert cli.run("status", "1", status=1).stdout.split()[9] == "failed"
    assert cli.run("logs", "1").stdout == "oh\n"


def test_a_launch_without_waiting_is_followed_to_its_end(make_cli):
    cli = make_cli(
        {
            "main.py": "import time\n"
            "for n in range(4):\n"
            "    print(n, flush=True)\n"
            "    time.sleep(0.4)\n"
        }
    )
    cli.launch("python3", "main.py", options=())

    followed = cli.run("logs", "latest", "--follow")

    assert followed.stdout == "0\n1\n2\n3\n"
    assert cli.json("status", "1", "--wait")[0]["state"] == "completed"


def test_a_run_can_be_cancelled(make_cli):
    cli = make_cli({"main.py": "import time; print('up', flush=True); time.sleep(300)\n"})
    cli.launch("python3", "main.py", options=())

    cli.run("cancel", "1")

    assert cli.json("status", "1", "--wait", status=1)[0]["state"] == "cancelled"


def test_outputs_are_fetched_as_the_run_left_them(make_cli, tmp_path):
    cli = make_cli({"main.py": WRITES})
    cli.launch("python3", "main.py", "a", "b")

    cli.run("fetch", "1", "--to", str(tmp_path / "here"))
    cli.run("fetch", "1", "--to", str(tmp_path / "here"))

    assert (tmp_path / "here" / "result.txt").read_text() == "a b\n"
    (tmp_path / "here" / "result.txt").write_text("mine")
    assert "result.txt" in cli.run("fetch", "1", "--to", str(tmp_path / "here"), status=7).stderr
    assert (tmp_path / "here" / "result.txt").read_text() == "mine"


def test_a_replay_needs_nothing_of_the_work_tree(make_cli):
    cli = make_cli({"main.py": WRITES})
    cli.launch("python3", "main.py", "a")
    subprocess.run(["rm", "-rf", cli.folder], check=True)
    cli.folder.mkdir()

    assert cli.json("replay", "1")["verdicts"][0]["level"] == "R3"


def test_an_image_built_again_from_the_store_is_the_same(make_cli):
    files = {path.name: path.read_text() for path in QUICKSTART.iterdir()}
    cli = make_cli(files)
    launched = cli.launch("python", "-c", "import numpy; print(numpy.__version__)")

    replay = cli.json("replay", "1", "--rebuild")

    assert replay["rebuilt"] == [launched["image"]]
    assert replay["verdicts"][0]["level"] == "R3"


def test_an_image_that_was_deleted_is_built_again_without_being_asked(make_cli):
    cli = make_cli({"main.py": WRITES})
    launched = cli.launch("python3", "main.py", "a")
    shown = cli.json("show", "1")
    [image] = shown["manifest"]["images"]
    for layer in image["layers"]:
        if layer["kind"] == "code":
            (cli.home / "oci" / "blobs" / layer["blob"]["digest"].replace(":", "/")).unlink()

    replay = cli.json("replay", "1")

    assert replay["rebuilt"] == [launched["image"]]
    assert replay["verdicts"][0]["equal"]


def test_everything_is_one_json_document_each(make_cli):
    cli = make_cli({"main.py": WRITES})
    cli.launch("python3", "main.py", "a")

    for words in (["list"], ["status"], ["show"], ["logs"], ["base", "list"], ["clusters", "list"]):
        cli.json(*words)
    assert [fact for fact in cli.json("clusters", "check") if not fact["good"]] == []
    assert cli.json("launch", "--dry-run", "--", "true")["files"] == 1


def test_a_table_lists_what_was_launched(make_cli):
    cli = make_cli({"main.py": WRITES})
    cli.launch("python3", "main.py", "a")
    cli.json("replay", "1")

    lines = cli.run("list").stdout.splitlines()

    assert lines[0].split() == ["id", "launched", "manifest", "runs", "title"]
    assert lines[1].endswith("1 completed  python3 main.py a")
    assert lines[2].endswith("1 completed  replay of 1")


@pytest.mark.parametrize("name", ["file with spaces.txt", "line\nbreak", "é", "sub/below"])
def test_output_files_may_have_any_name(make_cli, name):
    cli = make_cli(
        {
            "main.py": "import os, pathlib, sys\n"
            "path = pathlib.Path(os.environ['XMSLURM_OUTPUTS'], sys.argv[1])\n"
            "path.parent.mkdir(exist_ok=True)\n"
            "path.write_text('x')\n"
        }
    )

    launched = cli.launch("python3", "main.py", name)

    assert [file["path"] for file in launched["status"][0]["outcome"]["outputs"]] == [name]
    assert cli.json("replay", "1")["verdicts"][0]["equal"]


def test_nothing_is_left_running_or_world_readable(make_cli):
    cli = make_cli({"main.py": WRITES})
    cli.launch("python3", "main.py", "a")

    open_to_others = [
        path
        for path in [cli.home, *cli.home.iterdir()]
        if path.stat().st_mode & 0o077 and path == cli.home
    ]
    assert open_to_others == []
    assert os.listdir(cli.folder) != []
