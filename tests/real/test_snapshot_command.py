"""What a launch would capture, asked from the command line."""

from tests.support.cli import Cli, git, make_project, tree_state


def test_a_clean_tree_is_provably_the_commit_and_an_edit_shows(tmp_path):
    folder = make_project(tmp_path / "p", {"main.py": "print(1)\n", ".gitignore": "*.log\n"})
    cli = Cli(folder=folder, home=tmp_path / "home")
    (folder / "x.log").write_text("")
    before = tree_state(folder)

    clean = cli.json("snapshot")
    shown = cli.run("snapshot").stdout

    assert git(folder, "rev-parse", "HEAD^{tree}").strip() == clean["origin"]["tree"]
    assert "it is clean" in shown
    assert "on no remote" in shown
    assert 2 == clean["files"]
    assert before == tree_state(folder)

    (folder / "main.py").write_text("print(2)\n")
    (folder / "new.py").write_text("")
    changed = cli.json("snapshot")

    assert {"main.py": "modified", "new.py": "untracked"} == changed["origin"]["changed"]
    assert changed["snapshot"] != clean["snapshot"]
    assert changed["origin"]["tree"] != changed["origin"]["commit_tree"]


def test_every_path_can_be_asked_about(tmp_path):
    folder = make_project(tmp_path / "p", {"main.py": "", ".gitignore": "#\n*.log\n"})
    (folder / "x.log").write_text("")
    cli = Cli(folder=folder, home=tmp_path / "home")

    done = cli.run("snapshot", "--explain", "x.log", "--explain", "main.py")
    [answer] = cli.json("snapshot", "--explain", "x.log", "--include", "*.log")

    assert "out  x.log: git ignores it (*.log in .gitignore:2)\nin   main.py: git tracks it\n" == (
        done.stdout
    )
    assert answer["is_captured"] is True
    assert not (tmp_path / "home" / "objects").exists()
