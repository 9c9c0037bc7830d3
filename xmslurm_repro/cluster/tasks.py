"""The task table: argv and environment of every task of a submission, exact to the byte."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from xmslurm_repro.ports.cluster import Task

INDEX_LINE_BYTES = 91
"""Twelve digits of offset, twelve of length, 64 of SHA-256, two blanks and a line end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTable:
    """
    What a submission's jobs read their commands from.

    Attributes:
        records: One after the other: the number of words of the command, the words, then
            ``NAME=value`` for each variable, every item ended by NUL.
        index: A line of `INDEX_LINE_BYTES` for each record: where it begins, its length and its
            SHA-256.
        index_sha256: Hexadecimal; stands in the batch script.
    """

    records: bytes
    index: bytes
    index_sha256: str


def encode_tasks(tasks: Sequence[Task]) -> TaskTable:
    """
    Write the table of *tasks*.

    Raises:
        ValueError: If tasks are not numbered from 0 without gaps, or a word holds a NUL.
    """
    records, lines, offset = [], [], 0
    for number, task in enumerate(tasks):
        if task.run_id.task != number:
            raise ValueError(f"task {number} of the submission is called {task.run_id}")
        record = _encode(task)
        digest = hashlib.sha256(record).hexdigest()
        lines.append(b"%012d %012d %s\n" % (offset, len(record), digest.encode()))
        records.append(record)
        offset += len(record)
    index = b"".join(lines)
    return TaskTable(
        records=b"".join(records), index=index, index_sha256=hashlib.sha256(index).hexdigest()
    )


def _encode(task: Task) -> bytes:
    variables = dict((*task.env, *task.run_env))
    items = [
        str(len(task.argv)),
        *task.argv,
        *(f"{name}={value}" for name, value in sorted(variables.items())),
    ]
    for item in items:
        if "\0" in item:
            raise ValueError(f"{item!r} holds a NUL, which no process can be given")
    return b"".join(item.encode("utf-8") + b"\0" for item in items)
