"""A project is importable and its commands run in a job, as after ``uv sync``."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.unit.image_parts import wheel as make_wheel

pytestmark = pytest.mark.slow

PYPROJECT = """
[project]
name = "{name}"
version = "{version}"
requires-python = ">=3.11"
{more}
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
CLI = """
import importlib.metadata, json, sys
def main():
    found = importlib.metadata.distribution({name!r})
    print(json.dumps([sys.argv[1:], found.version, __file__, len(sys.path)]))
    return 3
"""


def test_commands_of_a_project_without_dependencies_run(make_cli):
    scripts = '[project.scripts]\ngreet = "my_lab.cli:main"\n'
    cli = make_cli(
        {
            "sub/pyproject.toml": PYPROJECT.format(name="my-lab", version="1.2", more=scripts),
            "sub/src/my_lab/__init__.py": "",
            "sub/src/my_lab/cli.py": CLI.format(name="my-lab"),
        }
    )
    cli.folder = cli.folder / "sub"
    launched = cli.launch("greet", "a b", status=1)
    printed, version, file, _ = json.loads(cli.run("logs").stdout)

    assert 3 == launched["status"][0]["outcome"]["exit_code"]
    assert (["a b"], "1.2") == (printed, version)
    assert "/xm/code/sub/src/my_lab/cli.py" == file
    assert cli.json("replay", "1", "--rebuild", status=None)["verdicts"][0]["equal"]


def test_commands_of_workspace_members_run_and_uv_agrees_on_what_is_installed(make_cli, tmp_path):
    more = """dependencies = ["tool"]
[project.scripts]
greet = "lab:main"
[project.entry-points."lab.plugins"]
one = "lab:main"
[tool.uv.workspace]
members = ["packages/*"]
[tool.uv.sources]
tool = { workspace = true }
"""
    files = {
        "pyproject.toml": PYPROJECT.format(name="lab", version="0.1", more=more),
        "lab.py": CLI.format(name="lab"),
        "packages/tool/pyproject.toml": PYPROJECT.format(
            name="tool", version="2", more='[project.scripts]\nhammer = "tool:main"\n'
        ),
        "packages/tool/src/tool/__init__.py": CLI.format(name="tool"),
        "packages/unused/pyproject.toml": PYPROJECT.format(
            name="unused", version="3", more='[project.scripts]\nunused = "unused:main"\n'
        ),
        "packages/unused/src/unused/__init__.py": "",
    }
    cli = make_cli(files)
    subprocess.run(["uv", "lock", "--quiet", "--offline"], cwd=cli.folder, check=True)
    listing = (
        "import importlib.metadata as m, json\n"
        "print(json.dumps(sorted([d.name, d.version, sorted(map(str, d.entry_points))]"
        " for d in m.distributions(path=__import__('sys').path)"
        " if d.name in {'lab', 'tool', 'unused'})))\n"
    )
    cli.launch("sh", "-c", 'hammer nail; greet; python -c "$1"; true', "sh", listing)
    hammered, greeted, found = map(json.loads, cli.run("logs").stdout.splitlines())
    subprocess.run(
        ["uv", "sync", "--quiet", "--frozen", "--no-dev"],
        cwd=cli.folder,
        env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(tmp_path / "venv")},
        check=True,
    )
    oracle = subprocess.check_output([tmp_path / "venv/bin/python", "-c", listing], text=True)

    assert [["nail"], "2", "/xm/code/packages/tool/src/tool/__init__.py"] == hammered[:3]
    assert [[], "0.1", "/xm/code/lab.py"] == greeted[:3]
    assert ["lab", "tool"] == [name for name, *_ in found]
    assert json.loads(oracle) == found


def test_extras_and_groups_are_installed_when_they_are_asked_for(make_cli):
    wheel = make_wheel("tinytool", files={"tinytool.py": b"VERSION = '1.0'\n"})
    project = (
        '[project]\nname = "p"\nversion = "0"\nrequires-python = ">=3.11"\n'
        '[project.optional-dependencies]\ntool = ["tinytool"]\n'
        '[dependency-groups]\nmore = ["tinytool"]\n'
        '[tool.uv.sources]\ntinytool = { path = "wheels/tinytool-1.0-py3-none-any.whl" }\n'
    )
    cli = make_cli({"pyproject.toml": project})
    (cli.folder / "wheels").mkdir()
    (cli.folder / "wheels/tinytool-1.0-py3-none-any.whl").write_bytes(wheel)
    subprocess.run(["uv", "lock", "--quiet", "--offline"], cwd=cli.folder, check=True)
    command = ["python", "-c", "import tinytool; print(tinytool.VERSION)"]

    cli.launch(*command, status=1)
    cli.launch(*command, options=("--wait", "--extra", "tool"))
    cli.launch(*command, options=("--wait", "--group", "more"))
    cli.env["XMSLURM_REPRO_EXTRAS"] = "tool"
    cli.launch(*command)

    assert "1.0\n" == cli.run("logs").stdout
    [lock] = cli.json("show", "2")["manifest"]["locks"]
    assert ["tool"] == lock["extras"]
    assert "groups" not in lock
