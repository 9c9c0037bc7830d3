"""Two outcomes compared: what a replay comes to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.run import Outcome, OutputFile, RunId

HARDWARE_FACTS = (
    ("gpu_models", "GPU model"),
    ("gpu_driver", "GPU driver"),
    ("cpu_model", "CPU model"),
    ("cpu_flags_sha256", "CPU flags"),
    ("architecture", "architecture"),
    ("kernel", "kernel"),
)
"""The facts that make a hardware class, and their names for people; likeliest cause of differing
numbers first: another GPU reorders sums, a driver brings other kernels, other CPU flags let a BLAS
pick other code."""

_EVERY_RUN = frozenset(
    {
        *("attempt", "boot_id", "cgroup_memory_peak_mib", "cpus_allowed", "format", "gpu_indexes"),
        *("continues", "hostname", "job_id", "memory_peak_mib", "node", "started_at"),
    }
)
"""Facts that differ from run to run and explain nothing."""


class Level(Enum):
    """How much of a run was reached again. Each level includes the ones before."""

    R0 = "R0"
    """Same inputs: code, lock, command, environment, input data."""
    R1 = "R1"
    """And the same environment: the image's digest as both jobs checked it."""
    R2 = "R2"
    """And the same hardware class."""
    R3 = "R3"
    """Same output bytes on top of R1, whatever the hardware."""


class FileStatus(Enum):
    """What became of one output file."""

    EQUAL = "equal"
    DIFFERS = "differs"
    MISSING = "missing"
    """Only the original wrote it."""
    EXTRA = "extra"
    """Only the replay wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileVerdict:
    """One output file of either run."""

    path: str
    status: FileStatus
    original: OutputFile | None
    replay: OutputFile | None

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON."""
        return {
            "path": self.path,
            "status": self.status.value,
            "original": str(self.original.sha256) if self.original else None,
            "replay": str(self.replay.sha256) if self.replay else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FactDifference:
    """A known difference of environment between two runs."""

    name: str
    original: str | None
    replay: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    Two outcomes compared.

    Attributes:
        original: The run that was replayed.
        replay: The run that repeats it.
        level: What was reached.
        files: Every output file of either, by path.
        facts: Known differences of environment, most likely cause first.
        same_exit: Whether both ended in the same state with the same exit code.
        same_log: Whether both printed the same bytes; ``None`` when a log has no digest. For
            information: a log may hold times.
    """

    original: RunId
    replay: RunId
    level: Level
    files: tuple[FileVerdict, ...]
    facts: tuple[FactDifference, ...]
    same_exit: bool
    same_log: bool | None

    @property
    def is_equal(self) -> bool:
        """Whether every output byte is equal, of which there must be some, or equal logs."""
        return self.level is Level.R3

    @property
    def differing(self) -> tuple[FileVerdict, ...]:
        """The output files that are not equal."""
        return tuple(file for file in self.files if file.status is not FileStatus.EQUAL)

    @property
    def hardware(self) -> tuple[str, ...]:
        """What differs in the hardware class, for people."""
        known = dict(HARDWARE_FACTS)
        return tuple(known[fact.name] for fact in self.facts if fact.name in known)

    @property
    def headline(self) -> str:
        """One line, such as ``R3, on other hardware (CPU model)``."""
        if self.level is Level.R0:
            return "R0: the two runs did not run in the same image"
        if not self.same_exit:
            return f"{self.level.value}: the two runs did not end alike"
        if self.is_equal:
            where = f"other hardware ({', '.join(self.hardware)})" if self.hardware else None
            count = len(self.files)
            what = f"{count} of {count} outputs equal" if count else "no outputs, equal logs"
            return f"R3: {what}, on {where or 'the same hardware class'}"
        if not self.files:
            return f"{self.level.value}: no outputs to compare, and the logs differ"
        return f"{self.level.value}: {len(self.differing)} of {len(self.files)} outputs differ"

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON."""
        return {
            "original": str(self.original),
            "replay": str(self.replay),
            "level": self.level.value,
            "equal": self.is_equal,
            "headline": self.headline,
            "same_exit": self.same_exit,
            "same_log": self.same_log,
            "files": [file.to_json() for file in self.files],
            "facts": [
                {"name": fact.name, "original": fact.original, "replay": fact.replay}
                for fact in self.facts
            ],
        }


def judge(original: Outcome, replay: Outcome) -> Verdict:
    """
    Compare two outcomes of one work unit.

    Outputs are equal when both runs wrote the same files with the same bytes. Two runs without
    any output file are equal when they printed the same bytes.
    """
    files = _compare_files(original.outputs, replay.outputs)
    facts = compare_facts(original, replay)
    same_exit = (original.state, original.exit_code) == (replay.state, replay.exit_code)
    both_logs = original.log is not None and replay.log is not None
    same_log = original.log == replay.log if both_logs else None
    same_files = all(file.status is FileStatus.EQUAL for file in files)
    if original.image is None or original.image != replay.image:
        level = Level.R0
    elif same_exit and same_files and (files or same_log):
        level = Level.R3
    elif any(fact.name in dict(HARDWARE_FACTS) for fact in facts):
        level = Level.R1
    else:
        level = Level.R2
    return Verdict(
        original=original.run_id,
        replay=replay.run_id,
        level=level,
        files=files,
        facts=facts,
        same_exit=same_exit,
        same_log=same_log,
    )


def _compare_files(
    original: tuple[OutputFile, ...], replay: tuple[OutputFile, ...]
) -> tuple[FileVerdict, ...]:
    left = {file.path: file for file in original}
    right = {file.path: file for file in replay}
    verdicts = []
    for path in sorted(left.keys() | right.keys()):
        before, after = left.get(path), right.get(path)
        if before is None:
            status = FileStatus.EXTRA
        elif after is None:
            status = FileStatus.MISSING
        elif before.sha256 == after.sha256:
            status = FileStatus.EQUAL
        else:
            status = FileStatus.DIFFERS
        verdicts.append(FileVerdict(path=path, status=status, original=before, replay=after))
    return tuple(verdicts)


def compare_facts(original: Outcome, replay: Outcome) -> tuple[FactDifference, ...]:
    """Facts that differ and could explain something, most likely cause first."""
    left, right = _facts(original), _facts(replay)
    order = {name: rank for rank, (name, _) in enumerate(HARDWARE_FACTS)}
    names = sorted(left.keys() | right.keys(), key=lambda name: (order.get(name, 99), name))
    return tuple(
        FactDifference(name=name, original=left.get(name), replay=right.get(name))
        for name in names
        if left.get(name) != right.get(name) and not _differs_always(name)
    )


def _differs_always(name: str) -> bool:
    # ``replica_3_node`` is to a replica what ``node`` is to its job.
    return re.sub(r"^replica_[0-9]+_", "", name) in _EVERY_RUN


def _facts(outcome: Outcome) -> dict[str, str]:
    """
    The facts of an outcome, with the models of its GPUs, which a job writes as ``gpu_0``,
    ``gpu_1``, …: the name, then what is each card's own (nvidia-smi(1), ``--query-gpu``).
    """
    facts = dict(outcome.facts)
    cards = [name for name in facts if name.removeprefix("gpu_").isdigit()]
    if cards:
        facts["gpu_models"] = ", ".join(sorted(facts[name].partition(",")[0] for name in cards))
    return facts
