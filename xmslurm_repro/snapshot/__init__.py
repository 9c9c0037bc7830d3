"""Capturing a work tree, and reading, comparing and restoring what was captured."""

from __future__ import annotations

from xmslurm_repro.snapshot.capture import capture
from xmslurm_repro.snapshot.repository import find_work_tree
from xmslurm_repro.snapshot.restore import restore, write_archive
from xmslurm_repro.snapshot.tree import PathChange, StoredTree, compare_trees

__all__ = [
    "PathChange",
    "StoredTree",
    "capture",
    "compare_trees",
    "find_work_tree",
    "restore",
    "write_archive",
]
