"""Conditions of ``includeIf`` in git's configuration, by git-config(1), "Conditional includes"."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from xmslurm_repro.snapshot.repository import Repository, read_head
from xmslurm_repro.snapshot.wildmatch import translate


def conditions(
    repository: Repository, home: str | None, config_file: str
) -> Mapping[str, Callable[[str], bool]]:
    """
    What decides each kind of condition, by what it begins with.

    Args:
        repository: The one that is asked about.
        home: What ``~`` stands for.
        config_file: The file that has the condition, for patterns that begin with ``./``.
    """

    def gitdir(pattern: str, *, ignore_case: bool = False) -> bool:
        return _is_at(repository, pattern, home, config_file, ignore_case=ignore_case)

    return {
        "gitdir:": gitdir,
        "gitdir/i:": lambda pattern: gitdir(pattern, ignore_case=True),
        "onbranch:": lambda pattern: _is_on(repository, pattern),
    }


def _is_at(
    repository: Repository,
    pattern: str,
    home: str | None,
    config_file: str,
    *,
    ignore_case: bool,
) -> bool:
    if pattern.startswith("~/") and home:
        pattern = os.path.join(home, pattern[2:])
    elif pattern.startswith("./"):
        pattern = os.path.join(os.path.dirname(os.path.realpath(config_file)), pattern[2:])
    elif not pattern.startswith("/"):
        pattern = "**/" + pattern
    wanted = _compiled(pattern, ignore_case=ignore_case)
    places = {repository.git_dir, os.path.realpath(repository.git_dir)}
    return any(wanted.fullmatch(place) for place in places)


def _is_on(repository: Repository, pattern: str) -> bool:
    branch = read_head(repository).branch
    if branch is None:
        return False
    return _compiled(pattern).fullmatch(os.fsencode(branch)) is not None


def _compiled(pattern: str, *, ignore_case: bool = False) -> re.Pattern[bytes]:
    text = os.fsencode(pattern + ("**" if pattern.endswith("/") else ""))
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return re.compile(translate(text, is_path=True), flags)
