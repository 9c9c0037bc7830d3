"""The layers of conda packages are promises, as all of an image is: ``conda-layout=1``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "conda"
ROOT = HERE.parents[2]
PROGRAM = """
import json, sys
from pathlib import Path
from xmslurm_repro.image.conda import CondaLayers
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.lock import Artifact, Target
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.memory_blobs import MemoryBlobStore
here, step = Path(sys.argv[1]), int(sys.argv[2])
blobs, artifacts = MemoryBlobStore(), []
for one in json.loads((here / "packages.json").read_text())[::step]:
    channel = "https://conda.example/forge/" + one.pop("subdir")
    blobs.put((here / one["filename"]).read_bytes())
    sha256 = Digest.sha256(one.pop("sha256"))
    artifacts.append(Artifact(**one, sha256=sha256, channel=channel))
target = Target(
    architecture="amd64", libc=("glibc", 2, 36), python="3.12.4",
    python_executable="/xm/venv/bin/python3.12", source="a test",
)
layers = CondaLayers(blobs, None, SilentProgress()).build(artifacts, target, 1, layout=2)
print(json.dumps([layer.to_json() for layer in layers], indent=1))
"""


@pytest.mark.parametrize(
    ("step", "umask", "env"),
    [
        (1, 0o022, {}),
        (-1, 0o077, {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "1"}),
        (1, 0o000, {"PYTHONHASHSEED": "2", "PYTHONUTF8": "0", "SOURCE_DATE_EPOCH": "17"}),
    ],
)
def test_the_digests_of_conda_layers_are_fixed_for_ever(tmp_path, golden, step, umask, env):
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(HERE), str(step)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)} | env,
        cwd=tmp_path,
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    golden("conda/layers.json", done.stdout)
    assert 4 == len(json.loads((HERE / "packages.json").read_text()))
