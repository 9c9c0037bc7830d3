"""
Capture a work tree once, as a process of its own.

    python capture.py WORK_TREE HOME ROOT_FILE

The snapshot's name goes to ROOT_FILE; the last line printed is the seconds of each step.
It first looks whether anything has changed at all, with as little of us as that takes, looks for no
cycles among what is imported, and does not wait for Python to be taken apart; so does the command
line.
"""

import gc
import os
import sys
import time

begin = time.perf_counter()
gc.set_threshold(50_000)

from xmslurm_repro.snapshot.memory import asked_for, look  # noqa: E402 (is measured, too)


def main(work_tree: str, home: str, root_file: str) -> None:
    imported = time.perf_counter()
    asked = asked_for(os.environ, allow_unborn=False, allow_no_repository=False)
    objects, caches = f"{home}/objects", f"{home}/cache/snapshots"
    looked = look(work_tree, objects=objects, cache_dir=caches, asked=asked)
    if looked is not None and looked.changed == []:
        snapshot = looked.memory
    else:
        snapshot = captured(work_tree, objects, caches, looked)
    done = time.perf_counter()
    with open(root_file, "w") as file:
        file.write(f"{snapshot.root} {snapshot.file_count} {snapshot.size_bytes}\n")
    print(f'{{"import": {imported - begin}, "capture": {done - imported}}}', flush=True)
    os._exit(0)


def captured(work_tree, objects, caches, looked):
    from pathlib import Path

    from xmslurm_repro.snapshot import capture
    from xmslurm_repro.store.objects import DiskObjectStore

    store = DiskObjectStore(Path(objects))
    return capture(Path(work_tree), store=store, cache_dir=Path(caches), looked=looked)


if __name__ == "__main__":
    main(*sys.argv[1:])
