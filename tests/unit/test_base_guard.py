"""Making and naming base images keeps out whoever clears up, as launches do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.git_box import GitBox
from xmslurm_repro.store.guard import FileGuard


@pytest.mark.parametrize(
    "words",
    [
        ("create", "--mirror", "http://127.0.0.1:1/debian"),
        ("add", "oci:nowhere"),
        ("build", "--no-git"),
    ],
    ids=lambda words: words[0],
)
def test_a_base_is_not_begun_while_somebody_clears_up(tmp_path: Path, words: tuple[str, ...]):
    box = GitBox(tmp_path)
    box.write("Dockerfile", "FROM scratch\n")
    home = tmp_path / "data"
    environment = {
        **os.environ,
        "HOME": str(tmp_path / "home"),
        "XMSLURM_REPRO_HOME": str(home),
        "DOCKER_HOST": "unix:///nowhere/docker.sock",
    }

    with FileGuard(home / "in-use.lock").alone() as is_alone:
        assert is_alone
        process = subprocess.Popen(
            [sys.executable, "-m", "xmslurm_repro", "base", *words],
            cwd=box.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
    _, said = process.communicate(timeout=60)

    # There is no mirror, no such image and no engine; that is found out afterwards.
    assert process.returncode != 0
    assert b"error: " in said
