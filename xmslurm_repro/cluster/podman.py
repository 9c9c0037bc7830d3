"""podman, with root and without, on images that go by digest."""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.cluster.runtime import INNER, ContainerJob
from xmslurm_repro.cluster.words import Joined, Var, Word, Words
from xmslurm_repro.model.image import CODE_DIR, OUTPUTS_DIR, PYCACHE_DIR
from xmslurm_repro.model.work import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Podman:
    """
    ``podman run``, as of podman 3.0 (Debian 11).

    Attributes:
        options: Further options before ``run``, such as ``("--runtime", "crun")``.
        run_options: Further options of ``run``, such as ``("--device", "nvidia.com/gpu=all")``.
    """

    options: tuple[str, ...] = ()
    run_options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name."""
        return "podman"

    @property
    def bash_files(self) -> tuple[str, ...]:
        """What it shares with docker, and its own."""
        return ("engine", "podman")

    @property
    def can_pull(self) -> bool:
        """Yes, by digest."""
        return True

    @property
    def arrays(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Its options, which the job needs for more than ``run``."""
        return (("xm_podman_options", self.options),)

    @property
    def probe(self) -> str:
        """Without root it needs ranges of user ids, which is what most often fails."""
        return "{ [[ $UID == 0 ]] || podman unshare true; } && podman --version"

    def command(self, job: ContainerJob) -> tuple[Word, ...]:
        """The command line. The code is in the image; ``--read-only`` keeps it as it is."""
        network = "host" if job.network is Network.HOST else "none"
        return (
            Words("xm_podman"),
            "run",
            "--rm",
            "--pull=never",
            *("--name", Var("xm_name")),
            f"--network={network}",
            "--hostname=xm",
            "--read-only",
            Words("xm_stdin"),
            "--read-only-tmpfs=false",
            "--http-proxy=false",
            "--log-driver=none",
            "--umask=0022",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
            "--security-opt=label=disable",
            Words("xm_user"),
            Words("xm_limits"),
            *_bind("xm_tmp", "/tmp"),  # noqa: S108 (the path inside the container)
            *_bind("xm_outputs", OUTPUTS_DIR),
            *_bind("xm_pycache", PYCACHE_DIR),
            *_bind("xm_private", f"{PYCACHE_DIR}{CODE_DIR}"),
            Words("xm_more"),
            f"--workdir={job.workdir}",
            *("--entrypoint", "[]"),
            *self.run_options,
            Var("xm_image_id"),
            *INNER,
        )


def _bind(source: str, target: str) -> tuple[Word, ...]:
    return ("--mount", Joined(("type=bind,src=", Var(source), f",dst={target}")))
