"""Keeping what ``snapshot`` printed, for `cli.again` to print where nothing has changed."""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from xmslurm_repro.cli import again, output
from xmslurm_repro.config import Settings, load_settings
from xmslurm_repro.config.folders import looked_at
from xmslurm_repro.errors import StoreError
from xmslurm_repro.model import snapshot as model
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.snapshot import Snapshot
from xmslurm_repro.snapshot.cache import now_ns, save_checked
from xmslurm_repro.snapshot.git_folders import folders_at
from xmslurm_repro.snapshot.memory import asked_for, recall, work_tree_of
from xmslurm_repro.snapshot.witnesses import is_settled, refs_digest, settled_before, witness

_STABLE_FORM = 2
_CODE = (output.__file__, model.__file__, __file__, str(Path(__file__).with_name("snapshot.py")))
"""Who prints. A version under development changes these without changing its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """
    What an answer depends on beside the work tree.

    Attributes:
        files: Stamps of files of configuration, and of ours.
        exists: Places that count only for being there.
        refs: The repository's common folder and the state of its refs, if there is one.
    """

    files: Mapping[str, str | None]
    exists: Mapping[str, bool]
    refs: tuple[bytes | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """
    How things stood when a command began.

    Attributes:
        start: Where the command runs.
        outside: What was there before anything of it was read.
        settings: What was read.
        limit_ns: What is older cannot have changed unseen; 0 where no file can be made.
    """

    start: Path
    outside: Outside
    settings: Settings
    limit_ns: int


def notice(start: Path) -> Before:
    """
    Look at all that an answer depends on.

    Raises:
        ConfigError: If the configuration is wrong.
    """
    outside = _outside(start)
    settings = load_settings(environ=os.environ, start=start)
    limit_ns = 0
    with suppress(StoreError):
        limit_ns = settled_before(now_ns(settings.cache_dir / "snapshots"))
    return Before(start=start, outside=outside, settings=settings, limit_ns=limit_ns)


def _outside(start: Path) -> Outside:
    files, places = looked_at(os.environ, start)
    found = folders_at(work_tree_of(start) or b"")
    return Outside(
        files={path: witness(path) for path in (*map(str, files), *_CODE)},
        exists={str(place): place.exists() for place in places},
        refs=(found[2], refs_digest(found[2])) if found else (None, ""),
    )


def show_and_keep(text: str, taken: Snapshot, before: Before, given: Mapping[str, Any]) -> None:
    """
    Print *text*, and keep it for the next time if all that it depends on has settled.

    Args:
        text: With styles.
        taken: What it says.
        before: How things stood before anything was read.
        given: The command's options.
    """
    click.echo(text)
    environ, context = os.environ, click.get_current_context()
    start, cache_dir = str(before.start), before.settings.cache_dir / "snapshots"
    is_found = Path(again.cache_folder(environ, start)) == cache_dir
    if not is_found or not environ.get("HOME") or not again.is_usual(environ):
        return
    document = _document(taken, before, given)
    if document is None:
        return
    has_styles = sys.stdout.isatty() and context.color is not False
    document["text"] = f"{text if has_styles else click.unstyle(text)}\n"
    words = sys.argv[1:]
    body = marshal.dumps((again.question_of(words, environ, start), document), _STABLE_FORM)
    save_checked(cache_dir / again.file_name(words, start), again.MAGIC, body)


def _document(taken: Snapshot, before: Before, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `again.answer` has to compare, or ``None`` where it must not answer."""
    settings, outside = before.settings, before.outside
    choice = replace(
        settings.choice,
        include=(*settings.choice.include, *given["include"]),
        exclude=(*settings.choice.exclude, *given["exclude"]),
    )
    asked = asked_for(
        settings.git_environment,
        allow_unborn=True,
        allow_no_repository=given["no_git"],
        choice=choice.to_json(),
    )
    cache_dir = settings.cache_dir / "snapshots"
    memory = recall(work_tree_of(before.start), cache_dir=cache_dir, asked=asked)
    origin = canonical_json(
        replace(taken.origin, tree=None, commit_tree=None, on_remote=None, converted=()).to_json()
    )
    if memory is None or (memory.root, memory.origin) != (str(taken.root), origin):
        return None
    is_settled_all = all(is_settled(text, before.limit_ns) for text in outside.files.values())
    if not is_settled_all or _outside(before.start) != outside:
        return None
    return {
        "files": dict(outside.files),
        "exists": dict(outside.exists),
        "refs": outside.refs,
        "objects": str(settings.home / "objects"),
        "asked": asked,
        "snapshot": (memory.root, memory.origin),
    }
