"""A project's version is the one that its build backend finds, although none runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from tests.support.cli import git, make_project
from tests.support.lock_trees import FilesTree
from xmslurm_repro.lock.installed import installed_projects
from xmslurm_repro.lock.version import version_of_tag
from xmslurm_repro.snapshot.tags import nearest_tags
from xmslurm_repro.store.memory import MemoryObjectStore

pytestmark = pytest.mark.slow

HEAD = '[project]\nname = "lab"\ndynamic = ["version"]\n[build-system]\n'
SETUPTOOLS = f'{HEAD}requires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
SCM = f'{HEAD}requires = ["setuptools>=77", "setuptools-scm>=8"]\n'
SCM += 'build-backend = "setuptools.build_meta"\n[tool.setuptools_scm]\n'
HATCH = f'{HEAD}requires = ["hatchling", "hatch-vcs"]\nbuild-backend = "hatchling.build"\n'
FLIT = f'{HEAD}requires = ["flit-core"]\nbuild-backend = "flit_core.buildapi"\n'
FLIT = FLIT.replace('["version"]', '["version", "description"]')
PDM = f'{HEAD}requires = ["pdm-backend"]\nbuild-backend = "pdm.backend"\n'
MODULE = "src/lab/__init__.py"
MODULES = "[tool.setuptools.packages.find]\nwhere = ['src']\n"

CASES = {
    "setuptools attr": {
        "pyproject.toml": f"{SETUPTOOLS}{MODULES}[tool.setuptools.dynamic]\n"
        'version = { attr = "lab.__version__" }\n',
        MODULE: "from ._version import version as __version__\n",
        "src/lab/_version.py": '"""V."""\nversion: str = "1.2rc1"\n',
    },
    "setuptools file": {
        "pyproject.toml": f"{SETUPTOOLS}{MODULES}[tool.setuptools.dynamic]\n"
        'version = { file = ["VERSION"] }\n',
        "VERSION": "3.4.0-beta.2\n",
        MODULE: "",
    },
    "setup.cfg": {
        "pyproject.toml": SETUPTOOLS + MODULES,
        "setup.cfg": "[metadata]\nversion = attr: lab.__version__\n",
        MODULE: "__version__ = '5.6'\n",
    },
    "hatch path": {
        "pyproject.toml": f'{HATCH}[tool.hatch.version]\npath = "{MODULE}"\n',
        MODULE: "import sys\n__version__ = 'v7.8.9'\n",
    },
    "hatch pattern": {
        "pyproject.toml": f'{HATCH}[tool.hatch.version]\npath = "{MODULE}"\n'
        'pattern = \'MINE = "(?P<version>[^"]+)"\'\n',
        MODULE: 'MINE = "0.1.2"\n',
    },
    "flit": {"pyproject.toml": FLIT, MODULE: '"""A lab."""\n__version__ = "4.0.1"\n'},
    "pdm file": {
        "pyproject.toml": f'{PDM}[tool.pdm.version]\nsource = "file"\npath = "{MODULE}"\n',
        MODULE: "__version__ = '9.9'\n",
    },
    "scm": {"pyproject.toml": SCM, MODULE: ""},
    "hatch vcs": {
        "pyproject.toml": f'{HATCH}[tool.hatch.version]\nsource = "vcs"\n',
        MODULE: "",
    },
    "pdm scm": {"pyproject.toml": f'{PDM}[tool.pdm.version]\nsource = "scm"\n', MODULE: ""},
}


def ours(folder: Path, files: dict[str, str], *, has_changes: bool = False) -> str:
    tree = FilesTree(MemoryObjectStore(), files)
    [project] = installed_projects(tree, [""])
    if project.rule is None:
        return project.version
    distance = nearest_tags(folder, has_changes=has_changes)
    return version_of_tag(project.rule, distance)


def theirs(folder: Path, out: Path) -> str:
    """What a build of the project says, without the local part that tells commit and day."""
    subprocess.run(
        ["uv", "build", "--wheel", "--quiet", "--no-config", "--out-dir", str(out), str(folder)],
        check=True,
    )
    [wheel] = out.glob("*.whl")
    return parse_wheel_filename(wheel.name)[1].public


@pytest.mark.parametrize("case", CASES)
def test_it_is_what_the_backend_says(tmp_path, case):
    files = CASES[case]
    (tmp_path / "lab").mkdir()
    folder = make_project(tmp_path / "lab", files)
    git(folder, "tag", "v1.2.3")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "more")
    git(folder, "tag", "-a", "-m", "x", "v2.0.0rc1" if "pdm" in case else "v2.0.4")
    for number in range(2):
        git(folder, "commit", "--quiet", "--allow-empty", "--message", str(number))

    assert theirs(folder, tmp_path / "out") == ours(folder, files)


def test_a_tag_counts_as_it_is_on_its_commit_and_not_where_something_changed(tmp_path):
    files = CASES["scm"]
    (tmp_path / "lab").mkdir()
    folder = make_project(tmp_path / "lab", files)
    git(folder, "tag", "lab-4.5")
    at_tag = theirs(folder, tmp_path / "a"), ours(folder, files)
    (folder / MODULE).write_text("x = 1\n")
    changed = theirs(folder, tmp_path / "b"), ours(folder, files, has_changes=True)

    assert ("4.5", "4.5") == at_tag
    assert ("4.6.dev0", "4.6.dev0") == changed


def test_a_launch_knows_the_version_of_the_tag_and_says_what_is_missing(make_cli):
    files = {
        "pyproject.toml": f'{SCM}version_file = "src/lab/_version.py"\n',
        MODULE: "",
        ".gitignore": "_version.py\n",
    }
    cli = make_cli(files)
    git(cli.folder, "tag", "v0.9")
    code = "import importlib.metadata as m; print(m.version('lab'))"
    cli.launch("python", "-c", code)
    said = cli.run("launch", "--wait", "--", "true")

    assert "0.9\n" == cli.run("logs", "1").stdout
    assert "src/lab/_version.py, which the build backend of lab writes" in said.stderr
    assert cli.json("replay", "1", "--rebuild", status=None)["verdicts"][0]["equal"]
