"""
Capture a work tree once, as a process of its own.

    python capture.py WORK_TREE HOME ROOT_FILE

The snapshot's name goes to ROOT_FILE; the last line printed is the seconds of each step.
"""

import sys
import time

begin = time.perf_counter()

import json  # noqa: E402 (what is imported is part of what is measured)
from pathlib import Path  # noqa: E402

from xmslurm_repro.snapshot import capture  # noqa: E402
from xmslurm_repro.store.objects import DiskObjectStore  # noqa: E402


def main(work_tree: Path, home: Path, root_file: Path) -> None:
    imported = time.perf_counter()
    snapshot = capture(
        work_tree,
        store=DiskObjectStore(home / "objects"),
        cache_dir=home / "cache" / "snapshots",
        allow_unborn=False,
        allow_no_repository=False,
    )
    captured = time.perf_counter()
    root_file.write_text(f"{snapshot.root} {snapshot.file_count} {snapshot.size_bytes}\n")
    print(json.dumps({"import": imported - begin, "capture": captured - imported}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
