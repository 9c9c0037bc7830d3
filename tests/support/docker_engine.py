"""A Docker engine on the nodes of a test bed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testbed.bed import Testbed, inside
from tests.testbed.processes import program


@contextmanager
def engine_for(testbed: Testbed, *, group: str) -> Iterator[str]:
    """
    Start ``dockerd`` where jobs run, with a socket for *group*, as sites do for theirs.

    Yields its URL. It sees the homes that jobs see.
    """
    # A short path: that of a socket has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="xsdocker-"))
    folder.chmod(0o755)
    url = f"unix://{folder}/socket"
    keeper = (testbed.root / "run" / "namespace").read_text().split()[0]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *inside(int(keeper)),
                *(program("dockerd"), "--host", url, "--group", group),
                *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
                *("--pidfile", str(folder / "pid")),
                *("--bridge=none", "--iptables=false", "--ip-forward=false"),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 40
        while subprocess.run(["docker", "--host", url, "info"], capture_output=True).returncode:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        unmount = [*inside(int(keeper)), "umount", "--recursive", "--quiet", str(folder / "exec")]
        subprocess.run(unmount, check=False)
        shutil.rmtree(folder, ignore_errors=True)
