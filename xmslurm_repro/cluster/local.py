"""A machine without a scheduler: a supervisor process for each submission."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xmslurm_repro.cluster.restarts import read_restarts
from xmslurm_repro.cluster.scheduler import Answer, JobStatus
from xmslurm_repro.cluster.states import parse_states
from xmslurm_repro.errors import SubmitRefusedError
from xmslurm_repro.model.work import Resources
from xmslurm_repro.ports.cluster import Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalScheduler:
    """
    Runs jobs on the machine itself; see ``bash/local.bash``. Jobs outlive whoever started them.

    Resources are not enforced but the time limit, and submissions do not wait for each other.
    """

    @property
    def name(self) -> str:
        """Its name."""
        return "local"

    def directives(self, submission: Submission, *, folder: str) -> tuple[str, ...]:
        """Comments that the supervisor reads. There are no options here to give."""
        del folder
        names = {n for m in submission.members for n, _ in read_restarts(m.options)[1]}
        if names:
            said = ", ".join(sorted(names))
            raise SubmitRefusedError(
                f"there is no scheduler on this machine that would know the options: {said}",
                hint="Leave them out, or choose a cluster that has Slurm.",
            )
        limits = [member.resources.time_limit_minutes for member in submission.members]
        known = [limit for limit in limits if limit is not None]
        return (f"#LOCAL time={max(known)}",) if known else ()

    def estimate_directives(
        self, resources: Resources, options: Sequence[tuple[str, str]]
    ) -> tuple[str, ...]:
        """Nothing: jobs start at once."""
        del resources, options
        return ()

    def classify(self, exit_status: int, stderr: str) -> Answer:
        """Nothing can get lost on the way to oneself."""
        del stderr
        return Answer.ACCEPTED if exit_status == 0 else Answer.REFUSED

    def parse_states(self, output: str) -> Sequence[JobStatus]:
        """Read lines of ``job id|state|name|reason``."""
        return parse_states(output)
