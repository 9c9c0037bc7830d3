"""charliecloud on unpacked trees."""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.cluster.runtime import INNER, ContainerJob, TreeRuntime
from xmslurm_repro.cluster.words import Joined, Var, Word, Words
from xmslurm_repro.model.image import CODE_DIR, OUTPUTS_DIR, PYCACHE_DIR
from xmslurm_repro.model.work import Network

_NAMESPACES = ("user", "mount", "pid", "uts", "ipc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Charliecloud(TreeRuntime):
    """
    ``ch-run`` of a folder, as of charliecloud 0.21, below ``unshare`` of util-linux 2.34.

    Attributes:
        options: Further options of ``ch-run``.
    """

    @property
    def name(self) -> str:
        """Its name."""
        return "charliecloud"

    @property
    def probe(self) -> str:
        """Really makes the namespaces: they are often there and forbidden."""
        unshare = " ".join(("unshare", *_unshared(Network.NONE)))
        version = "USER=x ch-run --version 2>&1 | sed 's/^/charliecloud /'"
        return f"{unshare} mount -t proc proc /proc && command -v ch-run >/dev/null && {version}"

    def command(self, job: ContainerJob) -> tuple[Word, ...]:
        """The command line: a shell that closes what charliecloud leaves open, then ch-run."""
        code: Word = Var("xm_code") if job.has_code else ""
        binds = (_bind("xm_code", CODE_DIR),) if job.has_code else ()
        return (
            *("env", "-i", Joined(("PATH=", Var("xm_path"), ":/usr/sbin:/sbin")), "USER=x"),
            "unshare",
            *_unshared(job.network),
            *("bash", "--norc", "--noprofile", "-c", Var("xm_inside"), "xmslurm"),
            *(Var("xm_local"), Var("xm_root"), code, job.network.value),
            "ch-run",
            *("--uid", Var("xm_uid"), "--gid", Var("xm_gid")),
            "--no-passwd",
            *binds,
            _bind("xm_tmp", "/tmp"),  # noqa: S108 (the path inside the container)
            _bind("xm_outputs", OUTPUTS_DIR),
            _bind("xm_pycache", PYCACHE_DIR),
            _bind("xm_private", f"{PYCACHE_DIR}{CODE_DIR}"),
            Words("xm_more"),
            f"--cd={job.workdir}",
            *self.options,
            Var("xm_root"),
            "--",
            *INNER,
        )


def _unshared(network: Network) -> tuple[str, ...]:
    names = (*_NAMESPACES, *(() if network is Network.HOST else ("net",)))
    return (*(f"--{name}" for name in names), "--map-root-user", "--fork", "--kill-child")


def _bind(source: str, target: str) -> Word:
    return Joined(("--bind=", Var(source), f":{target}"))
