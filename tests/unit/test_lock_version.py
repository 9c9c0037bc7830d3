"""Versions that a project leaves to its build backend, read where that would read them."""

from __future__ import annotations

import pytest

from tests.support.lock_trees import FilesTree
from xmslurm_repro.lock.installed import installed_projects
from xmslurm_repro.lock.version import version_of_tag
from xmslurm_repro.model.tags import TagDistance, TagRule
from xmslurm_repro.store.memory import MemoryObjectStore

DYNAMIC = '[project]\nname = "lab"\ndynamic = ["version"]\n'
VCS = f'{DYNAMIC}[tool.hatch.version]\nsource = "vcs"\n'
SCM = r"^(?:[\w-]+-)?(?P<version>[vV]?\d+(?:\.\d+){0,2}[^\+]*)(?:\+.*)?$"


def one(files):
    [project] = installed_projects(FilesTree(MemoryObjectStore(), files), [""])
    return project


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"pyproject.toml": DYNAMIC}, "0+unknown"),
        ({"pyproject.toml": DYNAMIC, "PKG-INFO": "Name: lab\nVersion: 1.5\n"}, "1.5"),
        (
            {
                "pyproject.toml": DYNAMIC + '[build-system]\nbuild-backend = "maturin"\n',
                "Cargo.toml": '[package]\nversion = "1.2.0-alpha.3"\n',
            },
            "1.2.0a3",
        ),
        (
            {
                "pyproject.toml": DYNAMIC + "[tool.scikit-build.metadata.version]\n"
                'provider = "scikit_build_core.metadata.regex"\ninput = "lab/v.py"\n',
                "lab/v.py": "__version__ = '3.1'\n",
            },
            "3.1",
        ),
        (
            {
                "pyproject.toml": DYNAMIC + "[tool.setuptools.dynamic]\n"
                'version = { attr = "lab.VERSION" }\n',
                "lab/__init__.py": "VERSION = compute()\n",
            },
            "0+unknown",
        ),
        (
            {
                "pyproject.toml": DYNAMIC + "[tool.setuptools.dynamic]\n"
                'version = { attr = "lab.a.V" }\n',
                "lab/a.py": "from .b import V\n",
                "lab/b.py": "from lab.a import V\n",
            },
            "0+unknown",
        ),
        ({"pyproject.toml": DYNAMIC + "[tool.hatch.version]\npath = 3\n"}, "0+unknown"),
        (
            {"pyproject.toml": DYNAMIC + '[tool.hatch.version]\npath = "a"\npattern = "("\n'},
            "0+unknown",
        ),
        (
            {
                "pyproject.toml": VCS + '[tool.hatch.build.hooks.vcs]\nversion-file = "v.py"\n',
                "v.py": "# made\n__version__ = version = '8.0.1.dev3+gabc'\n",
            },
            "8.0.1.dev3+gabc",
        ),
    ],
)
def test_a_version_is_read_or_unknown(files, version):
    assert version == one(files).version


def test_a_file_that_the_backend_would_write_is_named_while_it_is_not_there():
    text = VCS + '[tool.hatch.build.hooks.vcs]\nversion-file = "src/lab/v.py"\n'

    assert "src/lab/v.py" == one({"pyproject.toml": text}).generated
    assert one({"pyproject.toml": VCS}).generated is None


@pytest.mark.parametrize(
    ("tag", "commits", "changed", "version"),
    [
        ("v1.2.3", 0, False, "1.2.3"),
        ("v1.2.3", 0, True, "1.2.4.dev0"),
        ("v1.2.3", 5, False, "1.2.4.dev5"),
        ("lab-2.0rc1", 1, False, "2.0rc2.dev1"),
        ("1.0.dev3", 2, False, "1.0.dev2"),
        ("1.0.post1", 2, False, "1.0.post2.dev2"),
        ("2024.05+local", 0, False, "2024.5"),
        ("no-version-1x!", 3, False, None),
    ],
)
def test_tags_lead_to_versions_as_setuptools_scm_has_it(tag, commits, changed, version):
    rule = TagRule(pattern=SCM)
    distance = TagDistance(tags=(tag,), commits=commits, has_changes=changed)

    assert version == version_of_tag(rule, distance)


def test_without_tags_versions_count_from_nothing():
    nothing = TagDistance(tags=(), commits=7, has_changes=True)

    assert "0.1.dev7" == version_of_tag(TagRule(pattern=SCM), nothing)


def test_dunamai_counts_behind_the_tag():
    rule = TagRule(pattern=r"^v?(?P<version>\d.*)$", guesses_next=False)
    behind = TagDistance(tags=("v1.4",), commits=3, has_changes=False)

    assert "1.4.post3.dev0" == version_of_tag(rule, behind)
    assert version_of_tag(TagRule(pattern="("), behind) is None
