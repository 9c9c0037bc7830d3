"""Capturing a work tree, and reading, comparing and restoring what was captured.

What is named here is imported when it is asked for: an unchanged tree is recognized with less.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from xmslurm_repro.snapshot.repository import find_work_tree
    from xmslurm_repro.snapshot.restoring import restore, write_archive
    from xmslurm_repro.snapshot.taking import capture
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

_MODULES = {
    "capture": "taking",
    "find_work_tree": "repository",
    "restore": "restoring",
    "write_archive": "restoring",
    "PathChange": "tree",
    "StoredTree": "tree",
    "compare_trees": "tree",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 (only here)

    found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
