"""Local projects that a lock, or no lock, shows as installed."""

from __future__ import annotations

import pytest

from tests.support.lock_trees import FilesTree
from xmslurm_repro.errors import FormatError
from xmslurm_repro.lock.installed import installed_projects, is_package
from xmslurm_repro.lock.resolve import projects_without_lock
from xmslurm_repro.model.project import EntryPoint
from xmslurm_repro.store.memory import MemoryObjectStore

BUILD = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
NAMED = '[project]\nname = "My.Lab"\nversion = "1.0-beta"\n'


def tree(files) -> FilesTree:
    return FilesTree(MemoryObjectStore(), files)


def one(text: str, more=(), place=""):
    prefix = f"{place}/" if place else ""
    files = {f"{prefix}pyproject.toml": text} | {f"{prefix}{path}": "" for path in more}
    [found] = installed_projects(tree(files), [place])
    return found


def test_a_project_says_its_name_and_a_normal_version():
    found = one(NAMED)

    assert ("My.Lab", "1.0b0", (), ("",)) == (
        found.name,
        found.version,
        found.entry_points,
        found.sources,
    )


def test_a_version_that_only_a_build_backend_knows_is_unknown():
    assert "0+unknown" == one('[project]\nname = "a"\ndynamic = ["version"]\n').version


def test_entry_points_are_read_by_group_then_name():
    found = one(
        NAMED
        + '[project.scripts]\nb = "lab:main"\na = "lab.cli:App.run"\n'
        + '[project.gui-scripts]\nw = "lab:window"\n'
        + '[project.entry-points."lab.plugins"]\nx = "lab.x"\n'
    )

    assert (
        EntryPoint(group="console_scripts", name="a", value="lab.cli:App.run"),
        EntryPoint(group="console_scripts", name="b", value="lab:main"),
        EntryPoint(group="gui_scripts", name="w", value="lab:window"),
        EntryPoint(group="lab.plugins", name="x", value="lab.x"),
    ) == found.entry_points


def test_poetrys_own_tables_are_read():
    found = one(
        '[tool.poetry]\nname = "p"\nversion = "2"\npackages = [{ include = "p", from = "lib" }]\n'
        '[tool.poetry.scripts]\nrun = "p:main"\nold = { reference = "p:old", type = "console" }\n'
    )

    assert ("p", "2", ("lib",)) == (found.name, found.version, found.sources)
    assert ["old", "run"] == [point.name for point in found.entry_points]


@pytest.mark.parametrize(
    ("told", "sources"),
    [
        ('[tool.uv.build-backend]\nmodule-root = "lib"\n', ("libs/a/lib",)),
        ('[tool.uv.build-backend]\nmodule-root = ""\n', ("libs/a",)),
        ('[tool.setuptools.package-dir]\n"" = "py"\n', ("libs/a/py",)),
        ('[tool.setuptools.packages.find]\nwhere = ["x", "y"]\n', ("libs/a/x", "libs/a/y")),
        ('[tool.hatch.build.targets.wheel]\npackages = ["py/a"]\n', ("libs/a/py",)),
        ('[tool.pdm.build]\npackage-dir = "py"\n', ("libs/a/py",)),
        ('[tool.maturin]\npython-source = "../../../elsewhere"\n', ("libs/a/src",)),
        ("", ("libs/a/src",)),
    ],
)
def test_modules_are_where_the_build_backend_was_told(told, sources):
    assert sources == one(NAMED + told, more=["src/a.py"], place="libs/a").sources


def test_a_project_is_installed_where_there_is_a_build_system():
    files = {
        "plain/pyproject.toml": NAMED,
        "built/pyproject.toml": NAMED + BUILD,
        "denied/pyproject.toml": NAMED + BUILD + "[tool.uv]\npackage = false\n",
        "forced/pyproject.toml": NAMED + "[tool.uv]\npackage = true\n",
        "old/setup.py": "",
    }
    found = {
        path.partition("/")[0]: is_package(tree(files), path)
        for path in [*files, "nowhere/pyproject.toml"]
    }

    assert {
        "plain": False,
        "built": True,
        "denied": False,
        "forced": True,
        "old": False,
        "nowhere": False,
    } == found
    assert ["My.Lab"] == [each.name for each in projects_without_lock(tree(files), "built")]
    assert () == projects_without_lock(tree(files), "plain")
    assert () == installed_projects(tree(files), ["denied", "old"])


@pytest.mark.parametrize(
    "text",
    [
        '[project]\nname = "a"\nversion = "one"\n',
        '[project]\nname = "a"\nversion = 1\n',
        NAMED + 'scripts = ["a"]\n',
        NAMED + "[project.scripts]\na = 1\n",
        NAMED + '[project.scripts]\na = "b:c\\n[other]"\n',
        NAMED + '[project.scripts]\n"" = "b:c"\n',
    ],
)
def test_what_is_no_version_or_entry_point_is_refused_by_its_place(text):
    with pytest.raises(FormatError, match=r"^pyproject\.toml: "):
        one(text)
