"""
pyxis, enroot's plugin for srun, on a squashfs file of base and packages.

Written from its documentation and source (0.15 and later). No test of ours runs it: no package of
it is to be had where they run. The command line is fixed by a golden file; the file that it takes
is really made in tests.
"""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.cluster.runtime import INNER, ContainerJob, TreeRuntime
from xmslurm_repro.cluster.words import Joined, Var, Word, Words
from xmslurm_repro.errors import SubmitRefusedError
from xmslurm_repro.model.work import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Pyxis(TreeRuntime):
    """
    ``srun --container-image`` inside the job. It pulls nothing: enroot before 4.0 takes no digests.

    Attributes:
        options: Further options of ``srun``.
    """

    @property
    def name(self) -> str:
        """Its name."""
        return "pyxis"

    @property
    def probe(self) -> str:
        """Srun knows its options where the plugin is loaded."""
        return "srun --help 2>&1 | grep -q -e --container-image && srun --version"

    def command(self, job: ContainerJob) -> tuple[Word, ...]:
        """
        The command line.

        Raises:
            SubmitRefusedError: If the job must not reach the network, which pyxis leaves open.
        """
        if job.network is not Network.HOST:
            raise SubmitRefusedError(
                "pyxis cannot keep a command from the network",
                hint="Launch with `--network host`, or choose another runtime.",
            )
        return (
            "srun",
            *("--ntasks=1", "--nodes=1", "--mpi=none", "--cpu-bind=none", "--export=NONE"),
            *("--unbuffered", "--kill-on-bad-exit=0", "--input=all"),
            Joined(("--container-image=", Var("xm_squash"))),
            Joined(("--container-mounts=", Var("xm_mounts"))),
            f"--container-workdir={job.workdir}",
            "--no-container-mount-home",
            "--no-container-remap-root",
            "--no-container-entrypoint",
            "--container-readonly",
            Words("xm_more"),
            *self.options,
            *INNER,
        )
