"""Submit through submitit, on the login node: ``submit_by_submitit.py COUNT``."""

from __future__ import annotations

import os
import sys

import submitit  # type: ignore[import-not-found] # (in an environment of its own)

count = int(sys.argv[1])
executor = submitit.SlurmExecutor(folder=os.path.expanduser("~/submitit"))
executor.update_parameters(time=10, cpus_per_task=1, array_parallelism=count)
if count == 1:
    print(executor.submit(print, "hello").job_id)
else:
    print(executor.map_array(print, range(count))[0].job_id)
