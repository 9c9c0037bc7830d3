"""Where and how a job runs."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xmanager import xm

from xmslurm_repro.model.work import Network
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError
from xmslurm_repro.xm.resources import JobRequirements

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
        kill_on_invalid_dependencies: Whether a job whose ``dependency`` can never come true is
            cancelled.
        requeue: Whether Slurm may start the job again when a node fails or it is preempted.
        options: Any further options of ``sbatch`` by their long names without dashes; ``True``
            is a flag. They win over the rest.
    """

    requirements: JobRequirements = field(default_factory=JobRequirements)
    time: dt.timedelta | None = None

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
    requeue: bool = True
    max_parallel_tasks: int | None = None
    network: str | None = None
    options: Mapping[str, str | int | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """
        Check every field.

        Raises:
            ArgumentTypeError: If one is of the wrong type.
            ArgumentError: If one is out of range, or two contradict each other.
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
            said["requeue" if self.requeue else "no-requeue"] = ""
        if "dependency" in self.options:
            said["kill-on-invalid-dep"] = "yes" if self.kill_on_invalid_dependencies else "no"
        for name, value in self.options.items():
            said.pop(name, None)
            if value is not False:
                said[name] = "" if value is True else str(value)
        return tuple(sorted(said.items()))


_TEXT_OPTIONS = (
    "account", "partition", "qos", "constraint", "begin", "deadline", "licenses", "wckey",
    "mail_user",
)  # fmt: skip
_NUMBER_OPTIONS = ("priority", "nice")
_FLAG_OPTIONS = ("exclusive", "oversubscribe", "overcommit")
_TEXTS = (*_TEXT_OPTIONS, "network")
_FLAGS = (*_FLAG_OPTIONS, "kill_on_invalid_dependencies", "requeue")
_LISTS = ("reservation", "exclude", "mail_type")
_NUMBERS: tuple[tuple[str, int, int | None], ...] = (
    ("priority", 0, None),
    ("nice", -_NICE_LIMIT, _NICE_LIMIT),
    ("nodes", 1, None),
    ("max_parallel_tasks", 1, None),
)
