"""Container runtimes as pure functions: a job in, a command line out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from xmslurm_repro.cluster.words import Joined, Var, Word, Words
from xmslurm_repro.model.image import CODE_DIR, OUTPUTS_DIR, PYCACHE_DIR
from xmslurm_repro.model.work import Network

INNER: tuple[Word, ...] = ("env", "-i", Words("xm_env"), Words("xm_argv"))
"""How every command line ends, so that all runtimes give one environment."""

_INNER_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where ``env`` is looked for in the image."""

_TOPOLOGY = "/sys/devices/system"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerJob:
    """
    What a runtime has to know beyond the variables that the job sets on its node.

    Attributes:
        workdir: Absolute path in the image.
        network: What the command may reach.
        has_code: Whether the code is a tree of its own, beside the one with base and packages.
        image: Hexadecimal digits of the image manifest's SHA-256.
        config: Likewise of the image config's.
    """

    workdir: str
    network: Network
    has_code: bool
    image: str
    config: str


class Runtime(Protocol):
    """
    A container runtime on a cluster.

    The command may use these variables of the job: ``xm_root`` and ``xm_code`` (trees),
    ``xm_outputs``, ``xm_tmp``, ``xm_pycache`` and ``xm_private`` (folders to write to),
    ``xm_env`` and ``xm_argv`` (arrays), ``xm_local`` (a private folder on the node).
    """

    @property
    def name(self) -> str:
        """As people and the configuration call it."""
        ...

    @property
    def bash_files(self) -> tuple[str, ...]:
        """The bash files that make it one of the job's."""
        ...

    @property
    def can_pull(self) -> bool:
        """Whether jobs can get the image from a registry themselves."""
        ...

    @property
    def arrays(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Arrays that its bash file needs, by name."""
        ...

    @property
    def probe(self) -> str:
        """
        Bash commands, run on the cluster, that print the version and end with 0 if a container
        could be started there, or else say why not.
        """
        ...

    def command(self, job: ContainerJob) -> tuple[Word, ...]:
        """The command line that runs *job* hermetically."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeRuntime(ABC):
    """
    What runtimes of unpacked trees have in common: one bash file, and nothing that they pull.

    Attributes:
        options: Further options of its command.
    """

    options: tuple[str, ...] = ()

    @property
    @abstractmethod
    def name(self) -> str:
        """See `Runtime`."""

    @property
    def bash_files(self) -> tuple[str, ...]:
        """The one that bears its name."""
        return (self.name,)

    @property
    def can_pull(self) -> bool:
        """No."""
        return False

    @property
    def arrays(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """None."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubblewrap(TreeRuntime):
    """
    ``bwrap`` on unpacked trees: no daemon, no root, about 35 ms.

    Flags as of bubblewrap 0.4 (Debian 11); no newer one is used, so no ``--clearenv``.
    """

    @property
    def name(self) -> str:
        """Its name."""
        return "bubblewrap"

    @property
    def probe(self) -> str:
        """Really starts something: user namespaces are often there and forbidden."""
        return "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev true && bwrap --version"

    def command(self, job: ContainerJob) -> tuple[Word, ...]:
        """
        The command line. Everything that can be unshared is; only the outputs, ``/tmp`` and the
        bytecode cache can be written to.
        """
        network = ("--share-net",) if job.network is Network.HOST else ()
        code: tuple[Word, ...] = ("--ro-bind", Var("xm_code"), CODE_DIR) if job.has_code else ()
        return (
            *("env", "-i", Joined((f"PATH={_INNER_PATH}:", Var("xm_path")))),
            "bwrap",
            "--unshare-all",
            *network,
            *("--hostname", "xm"),
            "--die-with-parent",
            "--new-session",
            *("--cap-drop", "ALL"),
            *("--ro-bind", Var("xm_root"), "/"),
            *code,
            *("--dev", "/dev"),
            *("--proc", "/proc"),
            # How many processors there are and how memory is near them; no more of the host.
            *("--tmpfs", "/sys"),
            *("--ro-bind", _TOPOLOGY, _TOPOLOGY),
            *("--remount-ro", "/sys"),
            *("--bind", Var("xm_tmp"), "/tmp"),  # noqa: S108 (the path inside the container)
            *("--bind", Var("xm_outputs"), OUTPUTS_DIR),
            *("--bind", Var("xm_pycache"), PYCACHE_DIR),
            *("--bind", Var("xm_private"), f"{PYCACHE_DIR}{CODE_DIR}"),
            Words("xm_more"),
            *("--json-status-fd", "3"),
            *("--chdir", job.workdir),
            *self.options,
            *INNER,
        )
