"""The task table."""

from __future__ import annotations

import hashlib

import pytest

from xmslurm_repro.cluster.tasks import INDEX_LINE_BYTES, TaskTable, encode_tasks
from xmslurm_repro.model.run import RunId
from xmslurm_repro.ports.cluster import Task


def task(number: int, *argv: str, **variables: str) -> Task:
    run_id = RunId(token="abcdefgh", task=number)
    return Task(run_id=run_id, argv=argv, env=tuple(sorted(variables.items())))


def read(table: TaskTable, number: int) -> list[str]:
    """A record the way a job reads it: by its line in the index."""
    line = table.index[number * INDEX_LINE_BYTES : (number + 1) * INDEX_LINE_BYTES]
    offset, size, digest = line.decode().split()
    record = table.records[int(offset) : int(offset) + int(size)]
    assert digest == hashlib.sha256(record).hexdigest()
    return record.decode().split("\0")


def test_every_task_is_found_by_its_line():
    table = encode_tasks([task(0, "echo", "a b", ""), task(1, "größe\n", A="x=y", B="")])

    assert read(table, 0) == ["3", "echo", "a b", "", ""]
    assert read(table, 1) == ["1", "größe\n", "A=x=y", "B=", ""]
    assert table.index_sha256 == hashlib.sha256(table.index).hexdigest()


def test_what_differs_from_run_to_run_stands_beside_the_rest():
    run_id = RunId(token="abcdefgh", task=0)
    one = Task(
        run_id=run_id, argv=("x",), env=(("B", "1"),), run_env=(("A", "2"), ("XMSLURM_X", "3"))
    )

    assert read(encode_tasks([one]), 0) == ["1", "x", "A=2", "B=1", "XMSLURM_X=3", ""]


def test_tasks_have_to_be_numbered_from_nought():
    with pytest.raises(ValueError, match=r"task 0 of the submission is called abcdefgh\.1"):
        encode_tasks([task(1, "x")])


def test_a_nul_cannot_be_given_to_a_process():
    with pytest.raises(ValueError, match="NUL"):
        encode_tasks([task(0, "a\0b")])


def test_each_task_has_a_line_of_one_length():
    table = encode_tasks([task(n, "python", "train.py", f"--seed={n}") for n in range(1000)])

    assert len(table.index) == 1000 * INDEX_LINE_BYTES
