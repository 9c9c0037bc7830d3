"""docker, for whoever may use its engine, on images that go by digest."""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.cluster.runtime import INNER, ContainerJob
from xmslurm_repro.cluster.words import Joined, Var, Word, Words
from xmslurm_repro.model.image import CODE_DIR, OUTPUTS_DIR, PYCACHE_DIR
from xmslurm_repro.model.work import Network

_SHELL = ("sh", "-c", 'exec 2>&1; cd -- "$1" || exit 125; shift; exec "$@"', "sh")
"""
The engine makes a work folder that is not there, and carries the two outputs of a command apart, so
that their order is lost.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Docker:
    """
    ``docker run``, as of docker 20.10. The image needs ``sh``.

    The engine is no part of a job: it has to run on the node, and gives its users all the rights
    of root. Containers are held to the processors and the memory of their job, and end with it.

    Attributes:
        options: Further options before ``run``, such as ``("--host", "unix:///run/docker.sock")``.
        run_options: Further options of ``run``.
    """

    options: tuple[str, ...] = ()
    run_options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name."""
        return "docker"

    @property
    def bash_files(self) -> tuple[str, ...]:
        """What it shares with podman, and its own."""
        return ("engine", "docker")

    @property
    def can_pull(self) -> bool:
        """No: credentials for a registry are the user's, and the blobs are there anyway."""
        return False

    @property
    def arrays(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Its options, which the job needs for more than ``run``."""
        return (("xm_docker_options", self.options),)

    @property
    def probe(self) -> str:
        """That the engine answers to this user is most of it."""
        host = " ".join(f"'{word}'" for word in self.options)
        return f"docker {host} version --format 'docker {{{{.Server.Version}}}}'"

    def command(self, job: ContainerJob) -> tuple[Word, ...]:
        """The command line. The code is in the image; ``--read-only`` keeps it as it is."""
        network = "host" if job.network is Network.HOST else "none"
        # With the host's network goes the host's name.
        hostname = () if job.network is Network.HOST else ("--hostname=xm",)
        return (
            Words("xm_engine"),
            "run",
            "--pull=never",
            *("--name", Var("xm_name")),
            f"--network={network}",
            *hostname,
            "--read-only",
            Words("xm_stdin"),
            "--ipc=private",
            "--log-driver=none",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            *("--ulimit", "core=0:0"),
            Words("xm_user"),
            *_bind("xm_tmp", "/tmp"),  # noqa: S108 (the path inside the container)
            *_bind("xm_outputs", OUTPUTS_DIR),
            *_bind("xm_pycache", PYCACHE_DIR),
            *_bind("xm_private", f"{PYCACHE_DIR}{CODE_DIR}"),
            Words("xm_more"),
            *("--workdir", "/"),
            *("--entrypoint", ""),
            *self.run_options,
            Var("xm_image_id"),
            *_SHELL,
            job.workdir,
            *INNER,
        )


def _bind(source: str, target: str) -> tuple[Word, ...]:
    return ("--mount", Joined(("type=bind,src=", Var(source), f",dst={target}")))
