"""Where and how a job runs."""

from __future__ import annotations

import datetime as dt
import math
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from xmanager import xm

from xmslurm_repro.model.work import Network
from xmslurm_repro.xm.accelerators import ResourceType
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError
from xmslurm_repro.xm.resources import JobRequirements

ResourceBindType: TypeAlias = ResourceType
"""What can be bound besides resources by their own name: GPUs and memory."""

_NICE_LIMIT = 2147483645
"""sbatch(1), ``--nice``."""


@dataclass(frozen=True, kw_only=True)
class SlurmSpec(xm.ExecutorSpec):  # type: ignore[misc] # (xmanager says nothing of its types)
    """
    Where images are for.

    Attributes:
        tag: Accepted so that scripts run; images go to the registry of the cluster, by digest.
    """

    tag: str | None = None


@dataclass(frozen=True, kw_only=True)
class Slurm(xm.Executor):  # type: ignore[misc]
    """
    A Slurm cluster, or this machine where the cluster's scheduler is ``local``.

    Attributes:
        requirements: What the job asks for, and of which cluster.
        time: Wall clock; ``None`` for the default.
        nodes: Over how many nodes.
        network: ``"none"`` or ``"host"``; ``None`` for the default.
        max_parallel_tasks: How many tasks of an array may run at once.
        bind: How tasks are bound to resources: ``--gpu-bind``, ``--mem-bind`` and
            ``--tres-bind``; ``None`` for none.
        bind_flag: ``--gres-flags``.
        kill_on_invalid_dependencies: Whether a job whose dependency can never come true is
            cancelled.
        timeout_signal: What the command is sent before the time limit.
        timeout_signal_grace_period: How long before its time limit the job is ended, so that the
            command may save what it has; ``None`` for the time that Slurm gives at the limit
            (slurm.conf(5), ``KillWait``), or two minutes where it is requeued or gets another
            signal than ``SIGTERM``.
        requeue: Whether the job may be started again at all: when a node fails, when it is
            preempted, and as the next two say.
        requeue_on_exit_code: An exit code of the command after which it is started again.
        requeue_on_timeout: Whether it is started again when its time limit is near.
        requeue_max_attempts: How many times in all; 0 is the same as no requeue.
        options: Any further options of ``sbatch`` by their long names without dashes; ``True``
            is a flag. They win over the rest.
    """

    requirements: JobRequirements = field(default_factory=JobRequirements)
    time: dt.timedelta | None = None
    bind: Mapping[ResourceBindType | str, str | None] | None = None
    bind_flag: str | None = None

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    priority: int | None = None
    reservation: str | Iterable[str] | None = None
    constraint: str | None = None
    exclude: str | Iterable[str] | None = None
    nodes: int | None = None
    exclusive: bool = False
    oversubscribe: bool = False
    overcommit: bool = False
    nice: int | None = None
    begin: str | None = None
    deadline: str | None = None
    licenses: str | None = None
    wckey: str | None = None
    mail_type: str | Iterable[str] | None = None
    mail_user: str | None = None

    kill_on_invalid_dependencies: bool = True
    timeout_signal: signal.Signals = signal.SIGTERM
    timeout_signal_grace_period: dt.timedelta | None = None
    requeue: bool = True
    requeue_on_exit_code: int | None = None
    requeue_on_timeout: bool = False
    requeue_max_attempts: int | None = None
    max_parallel_tasks: int | None = None
    network: str | None = None
    options: Mapping[str, str | int | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """
        Check every field.

        Raises:
            ArgumentTypeError: If one is of the wrong type.
            ArgumentError: If one is out of range, or two contradict each other.
            NotSupportedError: If one asks for what jobs cannot do.
        """
        if not isinstance(self.requirements, JobRequirements):
            raise ArgumentTypeError(
                f"requirements must be our own JobRequirements, not {self.requirements!r}",
                hint="Write `xm_slurm.JobRequirements(…)`, not `xm.JobRequirements(…)`.",
            )
        if self.time is not None and not isinstance(self.time, dt.timedelta):
            raise ArgumentTypeError(f"time must be a timedelta, not {self.time!r}")
        if self.time is not None and self.time <= dt.timedelta():
            raise ArgumentError(f"time must be more than zero, not {self.time}")
        for name in _TEXTS:
            self._check(name, str)
        for name in _FLAGS:
            self._check(name, bool)
        for name, low, high in _NUMBERS:
            self._check_range(name, low, high)
        for name in _LISTS:
            self._check_list(name)
        if self.exclusive and self.oversubscribe:
            raise ArgumentError("exclusive and oversubscribe contradict each other")
        if self.network is not None and self.network not in {known.value for known in Network}:
            raise ArgumentError(f'network must be "none" or "host", not {self.network!r}')
        self._check_options()
        self._check_binding()
        self._check_timeout()
        self._check_requeue()

    def _check(self, name: str, kind: type) -> None:
        value = getattr(self, name)
        if not isinstance(value, kind) and not (value is None and kind is str):
            raise ArgumentTypeError(f"{name} must be a {kind.__name__}, not {value!r}")

    def _check_range(self, name: str, low: int, high: int | None) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise ArgumentTypeError(f"{name} must be a whole number, not {value!r}")
        if value < low or (high is not None and value > high):
            span = f"from {low} to {high}" if high is not None else f"at least {low}"
            raise ArgumentError(f"{name} must be {span}, not {value}")

    def _check_list(self, name: str) -> None:
        value = getattr(self, name)
        if value is None or isinstance(value, str):
            return
        if not isinstance(value, Iterable):
            raise ArgumentTypeError(f"{name} must be text or several texts, not {value!r}")
        items = tuple(value)
        if not all(isinstance(item, str) for item in items):
            raise ArgumentTypeError(f"{name} must be text or several texts, not {value!r}")
        # Kept as a tuple: an iterator could be read only once.
        object.__setattr__(self, name, items)

    def _check_options(self) -> None:
        for name, value in self.options.items():
            if not isinstance(name, str) or name.startswith("-") or not name:
                raise ArgumentError(
                    f"{name!r} is no option's long name", hint="Leave out the dashes before it."
                )
            if not isinstance(value, str | int):
                raise ArgumentTypeError(
                    f"option {name} must be text, number or flag, not {value!r}"
                )

    def _check_binding(self) -> None:
        for resource, value in (self.bind or {}).items():
            known = resource in {ResourceType.GPU, ResourceType.MEMORY}
            if not known and not isinstance(resource, str):
                raise ArgumentTypeError(
                    f"bind takes ResourceType.GPU, ResourceType.MEMORY or a name, not {resource!r}"
                )
            if value is not None and not isinstance(value, str):
                raise ArgumentTypeError(f"bind takes text or None for {resource}, not {value!r}")

    def _check_timeout(self) -> None:
        grace = self.timeout_signal_grace_period
        if not isinstance(self.timeout_signal, signal.Signals):
            raise ArgumentTypeError(
                f"timeout_signal must be a signal.Signals, not {self.timeout_signal!r}"
            )
        if grace is not None and not isinstance(grace, dt.timedelta):
            raise ArgumentTypeError(
                f"timeout_signal_grace_period must be a timedelta, not {grace!r}"
            )
        if self.timeout_signal in {signal.SIGKILL, signal.SIGSTOP}:
            raise ArgumentError(f"no program can catch {self.timeout_signal.name}")
        # sbatch(1), ``--signal``: from 0 to 65535 seconds.
        if grace is not None and not 0 < grace.total_seconds() <= 65535:
            raise ArgumentError(
                f"timeout_signal_grace_period must be from 1 to 65535 seconds, not {grace}"
            )
        if grace is not None and self.time is not None and grace >= self.time:
            raise ArgumentError(
                f"timeout_signal_grace_period {grace} leaves nothing of {self.time}"
            )

    def _check_requeue(self) -> None:
        code = self.requeue_on_exit_code
        if code is not None and (isinstance(code, bool) or not isinstance(code, int)):
            raise ArgumentTypeError(f"requeue_on_exit_code must be a whole number, not {code!r}")
        if code == 0:
            raise ArgumentError("requeue_on_exit_code must not be 0, which means success")
        if code is not None and not 0 < code < 256:
            raise ArgumentError(f"requeue_on_exit_code must be from 1 to 255, not {code}")

    @property
    def is_requeued(self) -> bool:
        """Whether Slurm may start the job again."""
        return self.requeue and self.requeue_max_attempts != 0

    @property
    def requeue_timeout(self) -> dt.timedelta | None:
        """How long the job runs before it is told to end; ``None`` without a time limit."""
        if self.time is None:
            return None
        return self.time - (self.timeout_signal_grace_period or dt.timedelta())

    @classmethod
    def Spec(cls, tag: str | None = None) -> SlurmSpec:  # noqa: N802 (XManager's name)
        """Where images for this executor go."""
        return SlurmSpec(tag=tag)

    @property
    def time_limit_minutes(self) -> int | None:
        """The wall clock limit; Slurm counts in minutes, so it is rounded up."""
        return None if self.time is None else math.ceil(self.time.total_seconds() / 60)

    def submit_options(self, *, scheduler: str = "slurm") -> tuple[tuple[str, str], ...]:
        """
        What the cluster is told beyond the resources, by ``sbatch``'s long names, sorted.

        What nobody asked for is left out where *scheduler* is none that would know it.
        """
        said: dict[str, str] = dict(self.requirements.options())
        for name in (*_TEXT_OPTIONS, *_NUMBER_OPTIONS):
            if getattr(self, name) is not None:
                said[name.replace("_", "-")] = str(getattr(self, name))
        for name in _LISTS:
            value = getattr(self, name)
            if value is not None:
                said[name.replace("_", "-")] = value if isinstance(value, str) else ",".join(value)
        for name in _FLAG_OPTIONS:
            if getattr(self, name):
                said[name] = ""
        if scheduler == "slurm":
            said["requeue" if self.is_requeued else "no-requeue"] = ""
        said.update(self._binding())
        said.update(self._restarts())
        if "dependency" in self.options:
            said["kill-on-invalid-dep"] = "yes" if self.kill_on_invalid_dependencies else "no"
        for name, value in self.options.items():
            said.pop(name, None)
            if value is not False:
                said[name] = "" if value is True else str(value)
        return tuple(sorted(said.items()))

    def _restarts(self) -> Mapping[str, str]:
        said = {}
        grace = self.timeout_signal_grace_period
        if self.is_requeued:
            if self.requeue_on_exit_code is not None:
                said["requeue-on-exit-code"] = str(self.requeue_on_exit_code)
            if self.requeue_on_timeout:
                said["requeue-on-timeout"] = ""
            if self.requeue_max_attempts is not None:
                said["requeue-max-attempts"] = str(self.requeue_max_attempts)
        if self.timeout_signal is not signal.SIGTERM:
            said["timeout-signal"] = self.timeout_signal.name.removeprefix("SIG")
        if grace is not None:
            said["timeout-grace"] = str(math.ceil(grace.total_seconds()))
        return said

    def _binding(self) -> Mapping[str, str]:
        said = {} if self.bind_flag is None else {"gres-flags": self.bind_flag}
        named = []
        for resource, value in (self.bind or {}).items():
            if isinstance(resource, str):
                named.append(f"gres/{resource}:{value or 'none'}")
            else:
                option = "gpu-bind" if resource is ResourceType.GPU else "mem-bind"
                said[option] = value or "none"
        if named:
            said["tres-bind"] = "+".join(named)
        return said

    def batch_directives(self) -> list[str]:
        """What ``sbatch`` is told beyond the resources, as its options."""
        said = self.submit_options()
        return [f"--{name}={value}" if value else f"--{name}" for name, value in said]

    def step_directives(self) -> list[str]:
        """Nothing: the command is no job step."""
        return []


_TEXT_OPTIONS = (
    "account", "partition", "qos", "constraint", "begin", "deadline", "licenses", "wckey",
    "mail_user",
)  # fmt: skip
_NUMBER_OPTIONS = ("priority", "nice")
_FLAG_OPTIONS = ("exclusive", "oversubscribe", "overcommit")
_TEXTS = (*_TEXT_OPTIONS, "network", "bind_flag")
_FLAGS = (*_FLAG_OPTIONS, "kill_on_invalid_dependencies", "requeue", "requeue_on_timeout")
_LISTS = ("reservation", "exclude", "mail_type")
_NUMBERS: tuple[tuple[str, int, int | None], ...] = (
    ("priority", 0, None),
    ("nice", -_NICE_LIMIT, _NICE_LIMIT),
    ("nodes", 1, None),
    ("max_parallel_tasks", 1, None),
    ("requeue_max_attempts", 0, None),
)
