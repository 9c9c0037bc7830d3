"""What a job knows of the experiment and the work unit that it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from xmslurm_repro.errors import NotSupportedError


class _ReadOnly:
    def __getattr__(self, name: str) -> NoReturn:
        """
        Refuse what a job has no way to know or to do.

        Raises:
            NotSupportedError: Unless it is a name of Python's own, which is just not there.
        """
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotSupportedError(
            f"a job does not see the record, so it has no {name} of its {self._noun}",
            hint="Do it in the launch script; a job leaves files in $XMSLURM_OUTPUTS.",
        )

    @property
    def _noun(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class CurrentExperiment(_ReadOnly):
    """
    The experiment that this process is a job of. A replay has the number of what it repeats.

    Attributes:
        experiment_id: The number that people type.
    """

    experiment_id: int

    @property
    def _noun(self) -> str:
        return "experiment"


@dataclass(frozen=True, kw_only=True)
class CurrentWorkUnit(_ReadOnly):
    """
    The work unit that this process is a job of.

    Attributes:
        experiment: The experiment.
        work_unit_id: Its number in the experiment, from 1.
    """

    experiment: CurrentExperiment
    work_unit_id: int

    @property
    def _noun(self) -> str:
        return "work unit"

    @property
    def experiment_id(self) -> int:
        """The experiment's number."""
        return self.experiment.experiment_id

    @property
    def experiment_unit_name(self) -> str:
        """A name that no other unit has."""
        return f"{self.experiment_id}_{self.work_unit_id}"


def experiment_of(environ: Mapping[str, str]) -> CurrentExperiment | None:
    """The experiment that a job with these variables belongs to, if it is a job of ours."""
    number = environ.get("XMSLURM_EXPERIMENT_ID", "")
    return CurrentExperiment(experiment_id=int(number)) if number.isdecimal() else None


def work_unit_of(environ: Mapping[str, str]) -> CurrentWorkUnit | None:
    """The work unit that a job with these variables is, if it is a job of ours."""
    experiment, number = experiment_of(environ), environ.get("XMSLURM_WORK_UNIT_ID", "")
    if experiment is None or not number.isdecimal():
        return None
    return CurrentWorkUnit(experiment=experiment, work_unit_id=int(number))
