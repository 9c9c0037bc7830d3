"""apptainer and singularity, on unpacked trees."""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.cluster.runtime import INNER, ContainerJob, TreeRuntime
from xmslurm_repro.cluster.words import Joined, Var, Word, Words
from xmslurm_repro.model.image import CODE_DIR, OUTPUTS_DIR, PYCACHE_DIR
from xmslurm_repro.model.work import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Apptainer(TreeRuntime):
    """
    ``apptainer exec`` of a folder, as of apptainer 1.1 and singularity 3.9.

    It pulls nothing: what it would make of the image, a SIF file, is never twice the same.

    Attributes:
        options: Further options of ``exec``.
        program: ``apptainer`` or ``singularity``; empty for whichever there is.
    """

    program: str = ""

    @property
    def name(self) -> str:
        """Its name."""
        return self.program or "apptainer"

    @property
    def bash_files(self) -> tuple[str, ...]:
        """Its own."""
        return ("apptainer",)

    @property
    def arrays(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The programs that will do, the best one first."""
        return (("xm_programs", self._programs),)

    @property
    def _programs(self) -> tuple[str, ...]:
        return (self.program,) if self.program else ("apptainer", "singularity")

    @property
    def probe(self) -> str:
        """Without a container there is no more to try than that it is there."""
        tries = (*(f"command -v {program}" for program in self._programs), f"echo {self.name}")
        choice = f"$({' || '.join(tries)})"
        return f'"{choice}" --version'

    def command(self, job: ContainerJob) -> tuple[Word, ...]:
        """The command line. Site-wide and personal binds and variables are kept out."""
        network = () if job.network is Network.HOST else ("--net", "--network", "none")
        code = _bind("xm_code", CODE_DIR, read_only=True) if job.has_code else ()
        return (
            *("env", "-i", Joined(("PATH=", Var("xm_path"))), Joined(("HOME=", Var("xm_local")))),
            Var("xm_apptainer"),
            "--silent",
            "exec",
            "--containall",
            "--cleanenv",
            "--no-home",
            *("--no-mount", "bind-paths"),
            *("--hostname", "xm"),
            *network,
            *code,
            *_bind("xm_tmp", "/tmp"),  # noqa: S108 (the path inside the container)
            *_bind("xm_outputs", OUTPUTS_DIR),
            *_bind("xm_pycache", PYCACHE_DIR),
            *_bind("xm_private", f"{PYCACHE_DIR}{CODE_DIR}"),
            *("--pwd", job.workdir),
            Words("xm_more"),
            *self.options,
            Var("xm_root"),
            *INNER,
        )


def _bind(source: str, target: str, *, read_only: bool = False) -> tuple[Word, ...]:
    end = f",destination={target}" + (",ro" if read_only else "")
    return ("--mount", Joined(("type=bind,source=", Var(source), end)))
