"""Answering ``snapshot`` where nothing at all has changed since the same was asked before.

All that decides the answer is compared: the words, the environment, the configuration, git's
files and every file of the work tree. What was printed then is printed again. This imports next
to nothing, neither click nor us: starting these takes longer than looking at thousands of files.
`cli.answers` writes what is read here, and only what came of the long way.
"""

from __future__ import annotations

import marshal
import os
import sys

from xmslurm_repro import __version__
from xmslurm_repro.snapshot.memory import unchanged
from xmslurm_repro.snapshot.witnesses import load_checked, memory_name, refs_digest, witness

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Known to type checkers by its name; `typing` itself takes 2 ms.
    from collections.abc import Mapping, Sequence
    from typing import Any

MAGIC = b"xmslurm-answer/1\n"
KIND = "answer"
_PREFIXES = ("XMSLURM_REPRO_", "GIT_", "XDG_")
_NAMES = ("HOME", "NO_COLOR")
_UNUSUAL = ("_XMSLURM_REPRO_COMPLETE", "FORCE_COLOR")
"""With one of these set, only click knows what to print."""


def print_again() -> None:
    """Print what was printed before, and end the process; return if there may be other news."""
    # Without a home of its own, the system has to be asked for one.
    if sys.stdout is None or not os.environ.get("HOME") or not is_usual(os.environ):
        return
    try:
        text = answer(sys.argv[1:], os.environ, os.path.abspath(os.curdir))  # noqa: PTH100 (no time for pathlib)
        if text is None:
            return
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads us has seen enough. click ends like this, too.
        os._exit(1)
    except (OSError, ValueError):
        return
    # Nothing is left to be done, and to take Python apart takes 2 ms.
    os._exit(0)


def answer(words: Sequence[str], environ: Mapping[str, str], start: str) -> str | None:
    """What was printed for *words* in the folder *start*, if it would be printed now."""
    cache_dir = cache_folder(environ, start)
    body = load_checked(f"{cache_dir}/{file_name(words, start)}", MAGIC)
    if body is None:
        return None
    try:
        question, known = marshal.loads(body)  # noqa: S302 (a digest says it is ours)
        if question != question_of(words, environ, start):
            return None
        if not all(witness(path) == text for path, text in known["files"].items()):
            return None
        if any(os.path.exists(place) != is_there for place, is_there in known["exists"].items()):
            return None
        memory = unchanged(
            start, objects=known["objects"], cache_dir=cache_dir, asked=known["asked"]
        )
        if memory is None or (memory.root, memory.origin) != known["snapshot"]:
            return None
        common_dir, refs = known["refs"]
        is_same = common_dir is None or refs_digest(common_dir) == refs
        return str(known["text"]) if is_same else None
    except (ValueError, TypeError, EOFError, KeyError):
        return None


def is_usual(environ: Mapping[str, str]) -> bool:
    """Whether click prints plainly here."""
    encoding = (sys.stdout.encoding or "").lower()
    return encoding == "utf-8" and not any(environ.get(name) for name in _UNUSUAL)


def question_of(words: Sequence[str], environ: Mapping[str, str], start: str) -> tuple[Any, ...]:
    """All that was said, in so many words; compared as a whole."""
    said = [
        (name, environ[name])
        for name in sorted(environ)
        if name in _NAMES or name.startswith(_PREFIXES)
    ]
    return (__version__, [*words], said, start, sys.stdout.isatty())


def file_name(words: Sequence[str], start: str) -> str:
    """What the file is called that holds the answer."""
    said = "\0".join((start, *words, str(sys.stdout.isatty())))
    return memory_name(os.fsencode(said), KIND)


def cache_folder(environ: Mapping[str, str], start: str) -> str:
    """
    Where answers are, if no configuration file says otherwise.

    `cli.answers` writes none where the settings have it elsewhere.
    """
    told = environ.get("XMSLURM_REPRO_CACHE_DIR")
    if told:
        return os.path.join(start, told, "snapshots")
    home, told = environ.get("HOME", ""), environ.get("XMSLURM_REPRO_HOME")
    if told:
        is_in_home = told == "~" or told.startswith("~/")
        told = home + told[1:] if is_in_home else os.path.join(start, told)
    else:
        data = environ.get("XDG_DATA_HOME", "")
        data = data if data.startswith("/") else f"{home}/.local/share"
        told = f"{data}/xmslurm-repro"
    return f"{told}/cache/snapshots"
