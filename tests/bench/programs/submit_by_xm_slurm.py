"""Submit through xm_slurm 0.5.0: a given image, nothing built.

python submit_by_xm_slurm.py COUNT HOST PORT ALGORITHM KEY
"""

from __future__ import annotations

import datetime as dt
import sys

import xm_slurm  # type: ignore[import-not-found] # (in an environment of its own)
from xm_slurm import config, executables  # type: ignore[import-not-found]
from xmanager import xm

count = int(sys.argv[1])
# User and identity stand in the file that XM_SLURM_SSH_CONFIG names.
host, port, algorithm, key = sys.argv[2:]
login = config.SSHConfig(
    endpoints=(config.Endpoint(host, int(port)),), public_key=config.PublicKey(algorithm, key)
)
cluster = config.SlurmClusterConfig(name="bed", ssh=login, runtime=config.ContainerRuntime.PODMAN)
image = executables.RemoteImage(
    image="docker://registry.invalid/hello:latest",
    workdir="/",
    entrypoint=xm.SequentialArgs.from_collection(["echo"]),
)
executor = xm_slurm.Slurm(
    requirements=xm_slurm.JobRequirements(CPU=1, cluster=cluster), time=dt.timedelta(minutes=10)
)
with xm_slurm.create_experiment("bench") as experiment:
    job = xm.Job(image, executor)
    if count == 1:
        experiment.add(job)
    else:
        experiment.add(job, args=[{"args": {"unit": number}} for number in range(count)])
