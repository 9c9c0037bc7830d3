"""Extras and dependency groups that a launch asks for; conda files that nobody locked."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.lock_trees import FilesTree, target
from xmslurm_repro.errors import FormatError, LockMissingError, UsageError
from xmslurm_repro.lock.project import Choice, standard_dependencies
from xmslurm_repro.lock.resolve import resolve_lock
from xmslurm_repro.model.lock import Lock
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.store.memory import MemoryObjectStore

GOLDEN = Path(__file__).parent.parent / "golden" / "lock" / "project"
UV_PROJECT = {name: (GOLDEN / name).read_bytes() for name in ("pyproject.toml", "uv.lock")}
DEFAULT = {"bcrypt", "markupsafe", "six", "typing-extensions"}


@pytest.fixture
def resolve(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    store = MemoryObjectStore()

    def resolve(files, extras=(), groups=()) -> Lock | None:
        return resolve_lock(
            FilesTree(store, files),
            "",
            lock_path=None,
            target=target(),
            store=store,
            cache_dir=tmp_path / "cache",
            choice=Choice.of(extras, groups),
        )

    return resolve


def names(lock: Lock) -> set[str]:
    return {artifact.name for artifact in lock.artifacts}


@pytest.fixture(scope="module")
def pylock(tmp_path_factory) -> bytes:
    """With an extra: uv writes only what was chosen, so the tables are put there by hand."""
    folder = tmp_path_factory.mktemp("pylock")
    shutil.copytree(GOLDEN, folder, dirs_exist_ok=True)
    words = ["export", "--frozen", "--offline", "--no-cache", "--format", "pylock.toml", "--no-dev"]
    text = subprocess.check_output(["uv", *words, "--extra", "plot"], cwd=folder, text=True)
    text = re.sub("(?m)^(extras|dependency-groups|default-groups) = .*\n", "", text)
    text = text.replace('created-by = "uv"\n', 'created-by = "uv"\nextras = ["plot"]\n', 1)
    head, name, tail = text.partition('name = "cycler"\n')
    tail = re.sub('marker = ".*"\n', "marker = \"'plot' in extras\"\n", tail, count=1)
    return f"{head}{name}{tail}".encode()


def test_a_uv_lock_gives_its_extras_and_groups(resolve):
    assert names(resolve(UV_PROJECT)) == DEFAULT
    assert names(resolve(UV_PROJECT, ["plot"])) == DEFAULT | {"cycler"}
    assert names(resolve(UV_PROJECT, [], ["dev"])) == DEFAULT | {"iniconfig"}
    assert names(resolve(UV_PROJECT, ["plot"], ["dev"])) == DEFAULT | {"cycler", "iniconfig"}
    assert names(resolve(UV_PROJECT)) == DEFAULT


def test_a_pylock_gives_its_extras(resolve, pylock):
    assert names(resolve({"pylock.toml": pylock})) == DEFAULT
    assert names(resolve({"pylock.toml": pylock}, ["Plot"])) == DEFAULT | {"cycler"}


def test_what_was_asked_for_is_recorded_only_where_something_was(resolve):
    plain, asked = resolve(UV_PROJECT), resolve(UV_PROJECT, ["PLOT", "plot"], ["dev"])

    assert {"artifacts", "digest", "kind", "path", "sources"} == set(plain.to_json())
    assert (("plot",), ("dev",)) == (asked.extras, asked.groups)
    again = Lock.from_json(Reader(asked.to_json(), "lock"))
    assert (asked.extras, asked.groups) == (again.extras, again.groups)


def test_a_lock_that_was_recorded_is_the_lock_that_was_resolved(resolve):
    # A manifest holds the set of its experiment's locks: units added later must not double one.
    lock = resolve(UV_PROJECT)

    assert any(artifact.url for artifact in lock.artifacts)
    assert {lock} == {lock, Lock.from_json(Reader(lock.to_json(), "lock"))}


def test_an_unknown_extra_or_group_is_refused_with_those_that_there_are(resolve, pylock):
    for extras, groups in (["nope"], []), ([], ["nope"]):
        with pytest.raises(UsageError, match="uv.lock does not have all") as caught:
            resolve(UV_PROJECT, extras, groups)
        assert any("nope" in line for line in caught.value.details)
    with pytest.raises(UsageError, match=r"pylock\.toml does not have all .*: extra no") as caught:
        resolve({"pylock.toml": pylock}, ["no"])
    assert ("there are: extra plot",) == caught.value.details


def test_requirements_and_projects_without_a_lock_have_no_extras(resolve):
    with pytest.raises(UsageError, match=r"requirements\.txt knows no extras"):
        resolve({"requirements.txt": ""}, ["plot"])
    with pytest.raises(UsageError, match="there is no lock that group dev could be taken from"):
        resolve({"main.py": ""}, [], ["dev"])


def test_an_extra_that_changed_after_locking_is_refused(resolve, pylock):
    project = UV_PROJECT["pyproject.toml"].decode()
    files = {
        "pylock.toml": pylock,
        "pyproject.toml": project.replace('plot = ["cycler"]', 'plot = ["cycler>=99", "new"]'),
    }
    resolve(files)

    with pytest.raises(LockMissingError) as caught:
        resolve(files, ["plot"])
    assert ("cycler>=99: the lock has 0.12.1", "new: not in the lock") == caught.value.details


def test_groups_include_each_other_and_extras_name_extras_of_their_project():
    text = (
        '[project]\nname = "My-Lab"\nversion = "1"\ndependencies = ["a"]\n'
        '[project.optional-dependencies]\nB = ["b"]\nall = ["my.lab[b]", "c"]\n'
        '[dependency-groups]\nd = ["d"]\ne = ["e", { include-group = "d" }]\n'
        'x = [{ include-group = "x" }]\n'
    )
    tree = FilesTree(MemoryObjectStore(), {"pyproject.toml": text})

    def asked(extras, groups):
        found = standard_dependencies(tree, "pyproject.toml", Choice.of(extras, groups))
        return [each.name for each in found]

    assert ["a"] == asked([], [])
    assert ["a", "b", "c", "e", "d"] == asked(["all", "b"], ["e"])
    with pytest.raises(FormatError, match="dependency-groups"):
        asked([], ["x"])


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("environment.yml", "conda-lock lock --file environment.yml --lockfile conda-lock.yml"),
        ("pixi.toml", "pixi lock --manifest-path pixi.toml"),
    ],
)
def test_conda_files_that_nobody_locked_are_refused_with_a_command(resolve, name, command):
    with pytest.raises(LockMissingError, match=f"{name} asks for conda packages") as caught:
        resolve({name: "dependencies: [numpy]\n", "main.py": ""})

    assert command in caught.value.hint
    assert resolve({name: "", "requirements.txt": ""}).artifacts == ()
