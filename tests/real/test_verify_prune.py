"""Checking and clearing up a store from the command line."""

import sys
import threading
from dataclasses import replace

import pytest


def blob_of(cli, digest):
    return cli.home / "oci/blobs/sha256" / digest.partition(":")[2]


def object_files(home):
    return sorted((home / "objects").rglob("*.zst")) + sorted((home / "objects").rglob("*.pack"))


def test_a_whole_store_is_whole_and_damage_is_named_with_who_needs_it(make_cli):
    cli = make_cli({"main.py": "print('one')\n"})
    first = cli.launch("python3", "main.py")["experiment"]
    (cli.folder / "main.py").write_text("print('two')\n")
    second = cli.launch("python3", "main.py")["experiment"]

    assert [] == cli.json("verify")["findings"]
    assert [] == cli.json("verify", str(first))["findings"]

    manifest = cli.json("show", str(second))["manifest"]
    code = manifest["images"][0]["layers"][-1]["blob"]["digest"]
    place = blob_of(cli, code)
    data = place.read_bytes()
    place.chmod(0o644)
    place.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    lost = next(path for path in object_files(cli.home) if manifest["units"][0][7:] in path.name)
    lost.unlink()

    found = cli.json("verify", status=6)["findings"]

    assert {code, manifest["units"][0]} == {finding["digest"] for finding in found}
    assert all(second in finding["experiments"] for finding in found)
    text = cli.run("verify", status=6).stdout
    assert f"experiment {second}" in text
    cli.json("verify", str(second), status=6)
    assert [] == [
        finding
        for finding in cli.json("verify", str(first), status=None)["findings"]
        if finding["digest"] == manifest["units"][0]
    ]


def test_prune_shows_first_and_removes_only_what_nobody_needs(make_cli):
    cli = make_cli({"main.py": "print('kept')\n"})
    kept = cli.launch("python3", "main.py")["experiment"]
    (cli.folder / "main.py").write_text("print('only looked at')\n")
    cli.run("snapshot")
    before = object_files(cli.home)

    young = cli.json("prune")
    shown = cli.json("prune", "--grace", "0")
    assert before == object_files(cli.home)
    done = cli.json("prune", "--grace", "0", "--yes")

    assert [] == [item for item in young["items"] if item["kind"] == "object"]
    assert shown["items"] == done["items"]
    assert any(item["kind"] == "object" for item in done["items"])
    assert [] == cli.json("prune", "--grace", "0")["items"]
    assert [] == cli.json("verify")["findings"]
    cli.run("checkout", str(kept), "out")
    assert "print('kept')\n" == (cli.folder / "out/main.py").read_text()
    assert cli.json("replay", "--rebuild", str(kept))["verdicts"][0]


def test_nothing_is_removed_while_it_is_not_known_what_is_needed(make_cli):
    cli = make_cli({"main.py": ""})
    launched = cli.launch("python3", "main.py")
    cli.run("snapshot")
    digits = launched["manifest"].partition(":")[2]
    [path] = [path for path in object_files(cli.home) if digits in path.name]
    path.unlink()
    before = object_files(cli.home)

    refused = cli.run("prune", "--grace", "0", "--yes", status=6)

    assert f"experiment {launched['experiment']}: manifest" in refused.stderr
    assert before == object_files(cli.home)


def test_prune_beside_launches_takes_nothing_that_they_use(make_cli):
    cli = make_cli({"main.py": "print(0)\n"})
    # The same trees are captured without being recorded, so that each launch meets objects that
    # nobody needs yet and that prune is about to remove.
    for number in range(4):
        (cli.folder / "main.py").write_text(f"print({number})\n")
        cli.run("launch", "--dry-run", "--", "python3", "main.py")
    is_over = threading.Event()
    pruned = []

    def prune():
        while not is_over.is_set():
            pruned.append(cli.run("prune", "--grace", "0", "--yes", status=None).returncode)

    thread = threading.Thread(target=prune)
    thread.start()
    try:
        for number in range(4):
            (cli.folder / "main.py").write_text(f"print({number})\n")
            cli.launch("python3", "main.py", options=())
    finally:
        is_over.set()
        thread.join()

    assert {0} == set(pruned)
    assert len(pruned) > 1
    assert [] == cli.json("verify")["findings"]
    assert {"completed"} == {
        state["state"]
        for number in range(1, 5)
        for state in cli.json("status", "--wait", str(number))
    }


@pytest.mark.parametrize("delay", [0.3, 0.6, 0.9])
def test_a_killed_prune_leaves_everything_that_is_needed(make_cli, delay):
    cli = make_cli({f"file{number}.py": "x\n" * 2000 + str(number) for number in range(40)})
    cli.launch("true", options=())
    for number in range(40):
        (cli.folder / f"file{number}.py").write_text("y\n" * 2000 + str(number))
    cli.run("snapshot")
    killing = replace(
        cli,
        program=("timeout", "--signal=KILL", str(delay), sys.executable, "-m", "xmslurm_repro"),
    )

    killing.run("prune", "--grace", "0", "--yes", status=None)

    assert [] == cli.json("verify")["findings"]
    cli.run("prune", "--grace", "0", "--yes")
    assert [] == cli.json("verify")["findings"]
    assert [] == cli.json("prune", "--grace", "0")["items"]


def test_a_record_that_was_lost_comes_back_from_the_store_after_a_prune_too(make_cli):
    cli = make_cli({"main.py": "print('one')\n"})
    first = cli.launch("python3", "main.py")["experiment"]
    replayed = cli.json("replay", str(first))["experiment"]
    cli.json("prune", "--grace", "0", "--yes")
    before = [cli.json("show", str(number)) for number in (first, replayed)]
    listed = cli.json("list")

    (cli.home / "record.db").write_bytes(b"")
    lost = cli.run("list", status=7).stderr
    rebuilt = cli.json("verify", "--rebuild-record")

    assert "verify --rebuild-record" in lost
    assert (2, 2, 2, []) == tuple(
        rebuilt[name] for name in ("experiments", "runs", "outcomes", "faults")
    )
    assert listed == cli.json("list")
    assert before == [cli.json("show", str(number)) for number in (first, replayed)]
    assert [] == cli.json("verify")["findings"]
    assert cli.launch("python3", "main.py")["experiment"] == replayed + 1
    name = (cli.home / "record.pieces").read_text().split("\n")[0]
    [piece] = [path for path in object_files(cli.home) if name[7:] in path.name]
    piece.unlink()
    mended = cli.json("verify")
    assert ([], 3) == (mended["findings"], mended["kept_again"])
    assert 0 == cli.json("verify")["kept_again"]
