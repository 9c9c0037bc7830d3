"""Slurm, by what its commands print on every version from 20.11 to 26.05."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from xmslurm_repro.cluster.options import estimate_directives, sbatch_directives
from xmslurm_repro.cluster.scheduler import Answer, JobStatus
from xmslurm_repro.cluster.states import parse_states
from xmslurm_repro.model.work import Resources
from xmslurm_repro.ports.cluster import Submission

# Texts of slurm_strerror() and sbatch.c, the same from 20.11 to 26.05.
_UNKNOWN = re.compile(
    r"timed out|Zero Bytes were transmitted|Message (send|receive) failure|"
    r"Connection reset|Unexpected message received|Header lengths are longer",
    re.IGNORECASE,
)
_WAIT = re.compile(
    r"Unable to contact slurm controller|Connection refused|temporarily unable|"
    r"Resource temporarily unavailable|MaxSubmit|AssocGrpSubmit|GrpSubmitJobs|"
    r"QOSGrpSubmit|standby mode|not accepting jobs|slurmctld is not running|"
    r"Transport endpoint is not connected",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmScheduler:
    """Slurm. See ``bash/slurm.bash`` for the commands."""

    @property
    def name(self) -> str:
        """Its name."""
        return "slurm"

    def directives(self, submission: Submission, *, folder: str) -> tuple[str, ...]:
        """``#SBATCH`` lines."""
        return sbatch_directives(submission, folder)

    def estimate_directives(
        self, resources: Resources, options: Sequence[tuple[str, str]]
    ) -> tuple[str, ...]:
        """``#SBATCH`` lines."""
        return estimate_directives(resources, options)

    def classify(self, exit_status: int, stderr: str) -> Answer:
        """
        A connection that was never made is a no for now; one that broke off may have carried
        the job over ("Socket timed out" is printed for jobs that run).
        """
        if exit_status == 0:
            return Answer.ACCEPTED
        if exit_status in {124, 137} or _UNKNOWN.search(stderr):
            return Answer.UNKNOWN
        return Answer.WAIT if _WAIT.search(stderr) else Answer.REFUSED

    def parse_states(self, output: str) -> Sequence[JobStatus]:
        """Read lines of ``job id|state|name|reason``."""
        return parse_states(output)
