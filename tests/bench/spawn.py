"""
Run one command and say how long it took, how much memory it held, and its time on CPUs.

    python -I -S spawn.py REPORT PROGRAM [ARGUMENT]...

It is a program of its own, and small, because of how Linux counts memory: a process's peak
includes what its parent held when it forked (fs/exec.c, `setmax_mm_hiwater_rss`), so that
children of a big process all look big. It imports as little as it can, for the same reason.
"""

import os
import sys
import time


def main(report: str, words: list[str]) -> None:
    begin = time.perf_counter()
    pid = os.posix_spawnp(words[0], words, os.environ)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - begin
    with open(report, "w") as target:
        # ru_maxrss: KiB of the largest process among the child and those that it waited for.
        code = os.waitstatus_to_exitcode(status)
        cpu_seconds = usage.ru_utime + usage.ru_stime
        target.write(f"{seconds!r} {usage.ru_maxrss} {code} {cpu_seconds!r}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
