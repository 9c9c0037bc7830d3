"""What jobs leave: the files of an attempt's folder, read by hand."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from xmslurm_repro.errors import FormatError, IntegrityError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import Outcome, OutputFile, RunId, RunState

_FOLDER = re.compile(r"([a-z0-9]{8,40})/(\d+)/((\d+)(?:[_+]\d+)?\.(\d+))\Z")
_OUTPUT = re.compile(rb"([0-9a-f]{64}) (\d+) ([fl]) (.+)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """
    An attempt's folder.

    Attributes:
        name: ``<job id>.<restart count>``.
        outcome: What it left, or ``None`` while it has not ended, or if it was killed.
    """

    name: str
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRecord:
    """
    One line of an attempt's list of outputs.

    Attributes:
        raw_path: Below the outputs folder, as the file system has it.
        kind: ``f`` for a file, ``l`` for a link, whose content is its target.
    """

    raw_path: bytes
    kind: str
    sha256: Digest
    size_bytes: int

    @property
    def path(self) -> str:
        r"""The path as text; bytes that are not UTF-8 as ``\xNN``."""
        return self.raw_path.decode("utf-8", "backslashreplace")


def read_attempts(archive: bytes) -> Mapping[RunId, tuple[Attempt, ...]]:
    """
    Read the tar of records of many runs: each run's attempts, oldest first.

    Raises:
        IntegrityError: If a list of outputs is not the one that the end record names.
        FormatError: If a record is not in its format.
    """
    files: dict[tuple[RunId, str], dict[str, bytes]] = {}
    with tarfile.TarFile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        for member in tar:
            folder, _, name = member.name.rpartition("/")
            found = _FOLDER.match(member.name if member.isdir() else folder)
            if not found:
                continue
            key = RunId(token=found[1], task=int(found[2])), found[3]
            held = files.setdefault(key, {})
            source = tar.extractfile(member) if member.isfile() else None
            if source is not None:
                held[name] = source.read()
    ordered = sorted(files.items(), key=lambda item: (item[0][0], _attempt_order(item[0][1])))
    runs: dict[RunId, list[Attempt]] = {}
    for (run_id, attempt), held in ordered:
        outcome = read_outcome(run_id, attempt, held) if "end" in held else None
        runs.setdefault(run_id, []).append(Attempt(name=attempt, outcome=outcome))
    return {run_id: tuple(attempts) for run_id, attempts in runs.items()}


def _attempt_order(name: str) -> tuple[int, int]:
    job, _, restart = name.partition(".")
    return int(job.partition("_")[0].partition("+")[0]), int(restart)


def read_outcome(run_id: RunId, attempt: str, files: Mapping[str, bytes]) -> Outcome | None:
    """
    Read an attempt's ``end``, ``facts`` and ``outputs.sha256``.

    Returns:
        The outcome; ``None`` if the list of outputs is not here yet, although it is older than
        ``end``: a shared file system may show them in either order.

    Raises:
        IntegrityError: If the list of outputs is not the one that ``end`` names.
        FormatError: If a record is not in its format.
    """
    where = f"record {run_id}/{attempt}"
    end = _read_pairs(files["end"])
    listed = files.get("outputs.sha256")
    if listed is None:
        return None
    if hashlib.sha256(listed).hexdigest() != end.get("outputs_sha256"):
        raise IntegrityError(
            f"{where}: the list of outputs was changed after the run ended",
            hint="Replay the run: what it left cannot be trusted any more.",
        )
    try:
        return Outcome(
            run_id=run_id,
            attempt=attempt,
            state=RunState(end["state"]),
            exit_code=int(end["exit_code"]) if end.get("exit_code") else None,
            reason=end.get("reason") or None,
            started_at=end.get("started_at") or None,
            ended_at=end.get("ended_at") or None,
            image=Digest.parse(end["image"]) if end.get("image") else None,
            facts=tuple(sorted(_read_pairs(files.get("facts", b"")).items())),
            outputs=tuple(
                OutputFile(path=o.path, sha256=o.sha256, size_bytes=o.size_bytes)
                for o in sorted(read_outputs(listed, where), key=lambda o: o.path)
            ),
            log=Digest.sha256(end["log_sha256"]),
        )
    except (KeyError, ValueError) as error:
        raise FormatError(f"{where}: the end record is not in its format: {error}") from error


def read_outputs(listed: bytes, where: str) -> tuple[OutputRecord, ...]:
    """
    Read a list of outputs: ``<sha256> <size> <f or l> <path>``, each ended by NUL.

    Raises:
        FormatError: If it is not of that form.
    """
    records = listed.split(b"\0")
    if records.pop() != b"":
        raise FormatError(f"{where}: the list of outputs has no end")
    outputs = []
    for number, record in enumerate(records):
        found = _OUTPUT.match(record)
        if not found:
            raise FormatError(f"{where}: line {number} of the list of outputs: {record!r}")
        outputs.append(
            OutputRecord(
                raw_path=found[4],
                kind=found[3].decode(),
                sha256=Digest.sha256(found[1].decode()),
                size_bytes=int(found[2]),
            )
        )
    return tuple(outputs)


def _read_pairs(data: bytes) -> dict[str, str]:
    lines = data.decode("utf-8", "replace").splitlines()
    return {
        name: value for name, equals, value in (line.partition("=") for line in lines) if equals
    }
