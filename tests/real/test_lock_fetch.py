"""Locks made by uv against the real package index, read from a snapshot, and their wheels."""

from __future__ import annotations

import os
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import uv

from tests.support.lock_trees import FilesTree, target
from xmslurm_repro.lock.fetch import fetch_artifacts
from xmslurm_repro.lock.resolve import resolve_lock
from xmslurm_repro.store.layout import DiskBlobStore
from xmslurm_repro.store.memory import MemoryObjectStore
from xmslurm_repro.transport.http import Http

PROJECT = """\
[project]
name = "small"
version = "0"
requires-python = ">=3.11"
dependencies = ["six==1.17.0", "markupsafe>=3"]
"""


def run_uv(folder: Path, *words: str) -> str:
    words = (uv.find_uv_bin(), "--no-progress", *words)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "pyproject.toml").write_text(PROJECT)
    run_uv(folder, "lock", "--no-config")
    return folder


def test_a_fresh_uv_lock_leads_to_wheels(project: Path, tmp_path: Path) -> None:
    store = MemoryObjectStore()
    names = ("pyproject.toml", "uv.lock")
    tree = FilesTree(store, {name: (project / name).read_bytes() for name in names})
    lock = resolve_lock(
        tree, "", lock_path=None, target=target(), store=store, cache_dir=tmp_path / "cache"
    )
    assert lock is not None
    blobs = DiskBlobStore(tmp_path / "blobs")
    fetch_artifacts(lock.artifacts, blobs=blobs, http=door())

    assert ["markupsafe", "six"] == [artifact.name for artifact in lock.artifacts]
    six = lock.artifacts[1]
    assert six.size_bytes == blobs.size_bytes(six.sha256)
    with zipfile.ZipFile(BytesIO(blobs.get(six.sha256))) as wheel:
        assert "six.py" in wheel.namelist()


def test_a_fresh_requirements_file_leads_to_the_same_wheels(project: Path, tmp_path: Path) -> None:
    store = MemoryObjectStore()
    found = []
    text = run_uv(project, "export", "--frozen", "--no-emit-project", "--quiet", "--no-config")
    uv_files = {name: (project / name).read_bytes() for name in ("pyproject.toml", "uv.lock")}
    for files in (uv_files, {"requirements.txt": text}):
        lock = resolve_lock(
            FilesTree(store, files),
            "",
            lock_path=None,
            target=target(architecture="arm64"),
            store=store,
            cache_dir=tmp_path / "cache",
        )
        assert lock is not None
        found.append([(artifact.filename, artifact.sha256) for artifact in lock.artifacts])

    assert found[0] == found[1]


def door() -> Http:
    proxies = {
        scheme: os.environ[name]
        for scheme in ("http", "https")
        for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
        if os.environ.get(name)
    }
    no_proxy = os.environ.get("no_proxy", "") or os.environ.get("NO_PROXY", "")
    return Http(proxies=proxies, no_proxy=no_proxy, user_agent="xmslurm-repro tests")
