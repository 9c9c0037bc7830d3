"""An experiment's code, restored from the command line."""

import os

from tests.support.cli import git, tree_state


def test_the_code_of_an_experiment_comes_back_as_it_was_launched(make_cli, tmp_path):
    cli = make_cli({"main.py": "print('one')\n", "lib/a.py": "A = 1\n"})
    (cli.folder / "main.py").write_text("print('two')\n")
    (cli.folder / "new.sh").write_text("#!/bin/sh\n")
    (cli.folder / "new.sh").chmod(0o755)
    launched = cli.launch("python3", "main.py")
    number = str(launched["experiment"])
    (cli.folder / "main.py").write_text("print('three')\n")
    before = tree_state(cli.folder)

    done = cli.json("checkout", number, str(tmp_path / "out"))
    again = cli.run("checkout", number, str(tmp_path / "out"))

    assert launched["snapshot"] == done["snapshot"]
    assert git(cli.folder, "rev-parse", "HEAD").strip() == done["base_commit"]
    assert "already" in again.stdout
    assert "print('two')\n" == (tmp_path / "out/main.py").read_text()
    assert os.access(tmp_path / "out/new.sh", os.X_OK)
    assert before == tree_state(cli.folder)

    (tmp_path / "out/main.py").write_text("mine\n")
    refused = cli.run("checkout", number, str(tmp_path / "out"), status=2)

    assert "main.py: other bytes" in refused.stderr
    assert "mine\n" == (tmp_path / "out/main.py").read_text()

    made = cli.json("checkout", number, "--branch", "experiment")
    cli.run("checkout", number, "--branch", "experiment", status=2)

    assert made["commit"] == git(cli.folder, "rev-parse", "experiment").strip()
    assert made["base_commit"] == git(cli.folder, "rev-parse", "experiment~").strip()
    assert "print('two')\n" == git(cli.folder, "show", "experiment:main.py")
    assert "print('three')\n" == (cli.folder / "main.py").read_text()
