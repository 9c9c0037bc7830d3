"""
enroot on unpacked trees.

Written from enroot's documentation and source (3.4 and later). No test of ours runs it: no package
of it is to be had where they run. The command line is fixed by a golden file.
"""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.cluster.runtime import INNER, ContainerJob, TreeRuntime
from xmslurm_repro.cluster.words import Joined, Var, Word, Words
from xmslurm_repro.model.image import CODE_DIR, OUTPUTS_DIR, PYCACHE_DIR
from xmslurm_repro.model.work import Network

_SETTINGS = (
    "ENROOT_LOGIN_SHELL=n",
    "ENROOT_MOUNT_HOME=n",
    "ENROOT_REMAP_ROOT=n",
    "ENROOT_RESTRICT_DEV=y",
    "ENROOT_ROOTFS_WRITABLE=n",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enroot(TreeRuntime):
    """
    ``enroot start`` of a folder, which it takes for one that ``enroot create`` made.

    Attributes:
        options: Further options of ``start``.
    """

    @property
    def name(self) -> str:
        """Its name."""
        return "enroot"

    @property
    def probe(self) -> str:
        """Needs user namespaces, which are often there and forbidden."""
        return "unshare --user --map-current-user --net true && echo enroot $(enroot version)"

    def command(self, job: ContainerJob) -> tuple[Word, ...]:
        """The command line. It cannot cut the network off by itself before version 4.1."""
        closed = ("unshare", "--user", "--map-current-user", "--net")
        code = (_bind("xm_code", CODE_DIR, "ro"),) if job.has_code else ()
        return (
            *("env", "-i", Joined(("PATH=", Var("xm_path"))), Joined(("HOME=", Var("xm_local")))),
            *_SETTINGS,
            Joined(("ENROOT_DATA_PATH=", Var("xm_state"), "/roots")),
            Joined(("ENROOT_RUNTIME_PATH=", Var("xm_local"), "/enroot")),
            Joined(("ENROOT_TEMP_PATH=", Var("xm_local"))),
            Words("xm_visible"),
            *(() if job.network is Network.HOST else closed),
            "enroot",
            "start",
            *("--rc", Joined((Var("xm_local"), "/rc"))),
            *(word for bind in code for word in ("--mount", bind)),
            *("--mount", _bind("xm_tmp", "/tmp", "rw")),  # noqa: S108 (inside the container)
            *("--mount", _bind("xm_outputs", OUTPUTS_DIR, "rw")),
            *("--mount", _bind("xm_pycache", PYCACHE_DIR, "rw")),
            *("--mount", _bind("xm_private", f"{PYCACHE_DIR}{CODE_DIR}", "rw")),
            Words("xm_more"),
            *self.options,
            Var("xm_root_key"),
            job.workdir,
            *INNER,
        )


def _bind(source: str, target: str, mode: str) -> Word:
    return Joined((Var(source), f":{target}:rbind,{mode}"))
