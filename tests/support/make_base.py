"""Make a base image and print its digest: ``make_base.py FOLDER [USER]``.

A program of its own, so that a test can run it under another user, umask and so on.
"""

from __future__ import annotations

import json  # noqa: F401 (used later, when this user may no longer look for modules)
import os
import pwd
import sys
from pathlib import Path

from xmslurm_repro.image.create import create_base
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.layout import DiskBlobStore

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        # Not before this program has started: its interpreter may lie in a home of root's.
        user = pwd.getpwnam(sys.argv[2])
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        os.environ.update(HOME=user.pw_dir, USER=user.pw_name)
    made = create_base(
        name="default",
        blobs=DiskBlobStore(folder / "oci"),
        work_dir=folder / "work",
        progress=SilentProgress(),
    )
    print(made.digest)
