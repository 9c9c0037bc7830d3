"""Locks that the real Poetry and the real PDM write, read through them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.lock_trees import FilesTree, target
from tests.support.loopback import serve
from tests.support.wheels import Index, make_wheel
from xmslurm_repro.errors import LockMissingError
from xmslurm_repro.lock.project import Choice
from xmslurm_repro.lock.resolve import resolve_lock
from xmslurm_repro.store.memory import MemoryObjectStore

pytestmark = pytest.mark.slow

PROJECT = """\
[project]
name = "lab"
version = "0.1"
requires-python = ">=3.11"
dependencies = ["alpha>=1"]
[project.optional-dependencies]
plot = ["beta"]
[dependency-groups]
dev = ["gamma"]
"""
TOOLS = {
    "poetry": ("poetry>=2.2,<3", "poetry-plugin-export>=1.9"),
    "pdm": ("pdm==2.26.2", "unearth<0.18"),
}
SOURCES = {
    "poetry": '[[tool.poetry.source]]\nname = "here"\nurl = "{}/simple/"\npriority = "primary"\n',
    "pdm": '[[tool.pdm.source]]\nname = "pypi"\nurl = "{}/simple/"\nverify_ssl = false\n',
}


@pytest.fixture(params=TOOLS)
def tool(request, tmp_path, monkeypatch) -> str:
    """The tool's name; it is on PATH as its users have it."""
    source, other = TOOLS[request.param]
    path = tmp_path / "bin" / request.param
    path.parent.mkdir()
    uvx = f"uvx --quiet --from '{source}' --with '{other}' {request.param}"
    path.write_text(f'#!/bin/sh\nexec {uvx} "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PDM_CHECK_UPDATE", "0")
    return request.param


def test_what_is_locked_is_what_is_installed_until_the_project_changes(tool, tmp_path):
    names = ("alpha", "beta", "gamma", "delta")
    wheels = {f"{name}-1.0-py3-none-any.whl": make_wheel(name) for name in names}
    folder = tmp_path / "lab"
    folder.mkdir()
    store = MemoryObjectStore()

    def resolved(pyproject: str, extras=(), groups=()) -> list[str]:
        lock = (folder / f"{tool}.lock").read_bytes()
        found = resolve_lock(
            FilesTree(store, {"pyproject.toml": pyproject, f"{tool}.lock": lock}),
            "",
            lock_path=None,
            target=target(),
            store=store,
            cache_dir=tmp_path / "cache",
            choice=Choice.of(extras, groups),
        )
        return [artifact.name for artifact in found.artifacts]

    with serve(Index(wheels)) as server:
        pyproject = PROJECT + SOURCES[tool].format(server.url)
        (folder / "pyproject.toml").write_text(pyproject)
        words = ["lock", "--group", ":all"] if tool == "pdm" else ["lock"]
        subprocess.run([tool, *words], cwd=folder, check=True, capture_output=True)
        found = resolved(pyproject), resolved(pyproject, ["plot"], ["dev"])
        with pytest.raises(LockMissingError, match="is older than") as caught:
            resolved(pyproject.replace('"alpha>=1"', '"alpha>=1", "delta"'))

    assert (["alpha"], ["alpha", "beta", "gamma"]) == found
    assert f"Run `{tool} lock`" in caught.value.hint
    assert not Path(folder / "pylock.toml").exists()
