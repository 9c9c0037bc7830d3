"""
What a job waits for, as Slurm knows it (sbatch(1), ``--dependency``).

Units make these: ``unit.after_completed()`` and its like. They are joined by ``&`` (all of them)
or by ``|`` (any of them); Slurm has no way to say both at once.
"""

from __future__ import annotations

import abc
import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from xmslurm_repro.xm.execution import SlurmArrayJob, SlurmHandle
from xmslurm_repro.xm.faults import ArgumentError, ArgumentTypeError


class SlurmDependencyException(ArgumentError):  # noqa: N818 (the reference's name)
    """A dependency that Slurm has no way to say."""


class NoChainingException(SlurmDependencyException):
    """``&`` and ``|`` are mixed."""

    def __init__(self) -> None:
        super().__init__(
            "a dependency mixes `&` and `|`, and Slurm takes one of the two",
            hint="Join all by `&` or all by `|`; a job that does nothing can stand between.",
        )


class SlurmJobDependency(abc.ABC):
    """Something a job waits for."""

    @abc.abstractmethod
    def to_dependency_str(self) -> str:
        """As the value of ``--dependency``, if all of it is still open."""

    def to_directive(self) -> str:
        """As an option of ``sbatch``."""
        return f"--dependency={self.to_dependency_str()}"

    def __and__(self, other_dependency: SlurmJobDependency) -> SlurmJobDependency:
        """Both of them."""
        return SlurmJobDependencyAND(self, other_dependency)

    def __or__(self, other_dependency: SlurmJobDependency) -> SlurmJobDependency:
        """Either of them."""
        return SlurmJobDependencyOR(self, other_dependency)

    def flatten(self) -> tuple[SlurmJobDependencyLeaf, ...]:
        """The single dependencies in it, from left to right."""
        raise NotImplementedError

    @abc.abstractmethod
    def traverse(
        self, mapper: Callable[[SlurmJobDependency], SlurmJobDependency]
    ) -> SlurmJobDependency:
        """The same with *mapper* applied to each part, innermost first."""


@dataclass(frozen=True)
class _Pair(SlurmJobDependency):
    first_dependency: SlurmJobDependency
    second_dependency: SlurmJobDependency

    sign: ClassVar[str]

    def __post_init__(self) -> None:
        """
        Refuse what is not alike.

        Raises:
            ArgumentTypeError: If one is no dependency.
            NoChainingException: If `&` and `|` would be mixed.
        """
        for part in (self.first_dependency, self.second_dependency):
            if not isinstance(part, SlurmJobDependency):
                raise ArgumentTypeError(f"{part!r} is no dependency")
            if isinstance(part, _Pair) and type(part) is not type(self):
                raise NoChainingException

    def to_dependency_str(self) -> str:
        """Both parts with the sign between."""
        parts = (self.first_dependency, self.second_dependency)
        return self.sign.join(part.to_dependency_str() for part in parts)

    def flatten(self) -> tuple[SlurmJobDependencyLeaf, ...]:
        """The single dependencies in it, from left to right."""
        # Not by recursion: thousands may be joined one by one.
        found: list[SlurmJobDependencyLeaf] = []
        todo: list[SlurmJobDependency] = [self]
        while todo:
            part = todo.pop()
            if isinstance(part, _Pair):
                todo += [part.second_dependency, part.first_dependency]
            else:
                found += part.flatten()
        return tuple(found)

    def traverse(
        self, mapper: Callable[[SlurmJobDependency], SlurmJobDependency]
    ) -> SlurmJobDependency:
        """The same with *mapper* applied to each part, innermost first."""
        first = self.first_dependency.traverse(mapper)
        return mapper(type(self)(first, self.second_dependency.traverse(mapper)))


class SlurmJobDependencyAND(_Pair):
    """All of it."""

    sign = ","

    def to_dependency_str(self) -> str:
        """All parts with commas between."""
        return ",".join(part.to_dependency_str() for part in self.flatten())


class SlurmJobDependencyOR(_Pair):
    """Any of it."""

    sign = "?"

    def __post_init__(self) -> None:
        """
        Refuse several jobs in one part: Slurm would take any of those as well.

        Raises:
            NoChainingException: If one part waits for several jobs, or has an `&`.
        """
        super().__post_init__()
        for part in (self.first_dependency, self.second_dependency):
            if isinstance(part, SlurmJobDependencyLeaf) and len(part.handles) > 1:
                raise NoChainingException

    def to_dependency_str(self) -> str:
        """All parts with question marks between."""
        return "?".join(part.to_dependency_str() for part in self.flatten())


@dataclass(frozen=True)
class SlurmJobDependencyLeaf(SlurmJobDependency):
    """
    A dependency on jobs; on several means on all of them.

    Attributes:
        handles: Of the jobs.
    """

    handles: Sequence[SlurmHandle]

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        """
        Check the jobs.

        Raises:
            SlurmDependencyException: If there are none.
            ArgumentTypeError: If one is no handle.
        """
        object.__setattr__(self, "handles", tuple(self.handles))
        if not self.handles:
            raise SlurmDependencyException("a dependency needs a job to wait for")
        for handle in self.handles:
            if not isinstance(handle, SlurmHandle):
                raise ArgumentTypeError(f"{handle!r} is no handle of a job")

    @property
    def suffix(self) -> str:
        """What follows each job's id."""
        return ""

    def to_dependency_str(self) -> str:
        """The kind, and the ids of the jobs."""
        return ":".join((self.kind, *(handle.job_id + self.suffix for handle in self.handles)))

    def flatten(self) -> tuple[SlurmJobDependencyLeaf, ...]:
        """Itself."""
        return (self,)

    def traverse(
        self, mapper: Callable[[SlurmJobDependency], SlurmJobDependency]
    ) -> SlurmJobDependency:
        """What *mapper* makes of it."""
        return mapper(self)


@dataclass(frozen=True)
class SlurmJobDependencyAfter(SlurmJobDependencyLeaf):
    """
    The jobs have started, or were cancelled.

    Attributes:
        time: How long ago; Slurm counts in minutes, so it is rounded up.
    """

    time: dt.timedelta | None = None

    kind = "after"

    def __post_init__(self) -> None:
        """
        Check the jobs and the time.

        Raises:
            ArgumentTypeError: If the time is no timedelta.
            SlurmDependencyException: If it is negative.
        """
        super().__post_init__()
        if self.time is not None and not isinstance(self.time, dt.timedelta):
            raise ArgumentTypeError(f"the time after a start is a timedelta, not {self.time!r}")
        if self.time is not None and self.time < dt.timedelta():
            raise SlurmDependencyException(f"the time after a start is negative: {self.time}")

    @property
    def minutes(self) -> int:
        """The time in minutes."""
        return math.ceil(self.time.total_seconds() / 60) if self.time is not None else 0

    @property
    def suffix(self) -> str:
        """The minutes, where there are any."""
        return f"+{self.minutes}" if self.minutes else ""


class SlurmJobDependencyAfterAny(SlurmJobDependencyLeaf):
    """The jobs have ended, in whatever way."""

    kind = "afterany"


class SlurmJobDependencyAfterNotOK(SlurmJobDependencyLeaf):
    """The jobs have ended badly."""

    kind = "afternotok"


class SlurmJobDependencyAfterOK(SlurmJobDependencyLeaf):
    """The jobs have ended well."""

    kind = "afterok"


class SlurmJobArrayDependencyAfterOK(SlurmJobDependencyLeaf):
    """Each task of an array waits for the task of the same number of another, to end well."""

    kind = "aftercorr"

    def __post_init__(self) -> None:
        """
        Check the jobs.

        Raises:
            SlurmDependencyException: If they are not tasks of one array.
        """
        super().__post_init__()
        arrays = {
            handle.slurm_job.array_job_id if isinstance(handle.slurm_job, SlurmArrayJob) else None
            for handle in self.handles
        }
        if len(arrays) != 1 or None in arrays:
            raise SlurmDependencyException("only tasks of one array correspond to those of another")

    def to_dependency_str(self) -> str:
        """The array's id."""
        return f"{self.kind}:{self.handles[0].job_id.partition('_')[0]}"
