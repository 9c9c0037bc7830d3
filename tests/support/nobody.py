"""A user whom permissions bind, also where tests run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Be a user whom permissions bind, also where tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@contextmanager
def open_to_all() -> Iterator[Path]:
    """A folder that any user may reach; those of pytest are root's only."""
    folder = Path(tempfile.mkdtemp(prefix="xmslurm-snapshot-"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwx", folder], check=True)
    shutil.rmtree(folder)
