"""The nearest tag behind HEAD, as ``git describe --tags`` finds it; nothing is run."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmslurm_repro.errors import FormatError, NoRepositoryError
from xmslurm_repro.model.tags import TagDistance
from xmslurm_repro.snapshot.git_storage import hash_name_of, open_objects, open_refs
from xmslurm_repro.snapshot.repository import find_repository, read_head

if TYPE_CHECKING:
    from dulwich.object_store import DiskObjectStore

_TAGS = b"refs/tags/"
_CANDIDATES = 10
"""How many of the newest tags are compared, as git does (``--candidates``)."""


def nearest_tags(start: Path, *, has_changes: bool) -> TagDistance | None:
    """
    What tag HEAD of the repository at *start* comes after, of those that have a digit.

    Of the ten newest the one with the fewest commits between counts.

    Args:
        start: A folder in it.
        has_changes: What is known of the work tree; goes into the answer.

    Returns:
        The tag; ``None`` where there is no repository or no commit.

    Raises:
        FormatError: If the repository's objects cannot be read.
    """
    try:
        repository = find_repository(start)
    except NoRepositoryError:
        return None
    head = read_head(repository).commit
    if head is None:
        return None
    try:
        with open_objects(repository, hash_name_of(head)) as objects:
            refs = open_refs(repository)
            history = _History(objects)
            named = _tagged(objects, refs)
            best, count = _nearest(history, head.encode(), named)
            return TagDistance(tags=named.get(best, ()), commits=count, has_changes=has_changes)
    except Exception as error:
        # The library raises a dozen unrelated types for damaged objects.
        raise FormatError(
            f"the history of {start} cannot be read: {error!r}",
            hint="Run `git fsck` in the repository; a partial clone may need `git fetch` first.",
        ) from error


class _History:
    """Commits, each read once. What a shallow clone lacks ends the history there."""

    def __init__(self, objects: DiskObjectStore) -> None:
        self._objects = objects
        self._known: dict[bytes, tuple[int, tuple[bytes, ...]]] = {}

    def commit(self, name: bytes) -> tuple[int, tuple[bytes, ...]]:
        """Its time and its parents."""
        if name not in self._known:
            found: Any = self._objects[name]  # type: ignore[index]
            parents = tuple(one for one in found.parents if one in self._objects)
            self._known[name] = (found.commit_time, parents)
        return self._known[name]


def _tagged(objects: DiskObjectStore, refs: Any) -> dict[bytes, tuple[str, ...]]:
    """By commit, the names of its tags: annotated ones first, otherwise by name."""
    from dulwich.objects import Tag  # noqa: PLC0415 (costs 40 ms)

    found: dict[bytes, list[tuple[bool, str]]] = {}
    for ref in sorted(refs.allkeys()):
        name = ref.removeprefix(_TAGS).decode("utf-8", "backslashreplace")
        if not ref.startswith(_TAGS) or not any(map(str.isdigit, name)):
            continue
        target = refs[ref]
        is_light = True
        while target in objects and isinstance(found_tag := objects[target], Tag):
            target, is_light = found_tag.object[1], False
        found.setdefault(target, []).append((is_light, name))
    return {commit: tuple(name for _, name in sorted(names)) for commit, names in found.items()}


def _nearest(
    history: _History, head: bytes, named: dict[bytes, tuple[str, ...]]
) -> tuple[bytes, int]:
    """
    The tagged commit that *head* has the fewest commits more than, and how many these are.

    One walk, newest first: whoever lies behind a tag is marked as such, and the walk ends where
    everybody lies behind every tag. A tag behind another one is further away and does not count.
    """
    marks: dict[bytes, int] = {head: 0}
    tags: list[bytes] = []
    ahead: list[int] = []
    queue, seen = [(-history.commit(head)[0], head)], 0
    while queue:
        everywhere = (1 << len(tags)) - 1
        if tags and all(marks[name] == everywhere for _, name in queue):
            break
        _, name = heapq.heappop(queue)
        if name in named and not marks[name] and len(tags) < _CANDIDATES:
            marks[name] = 1 << len(tags)
            tags.append(name)
            ahead.append(seen)
        seen += 1
        for number in range(len(tags)):
            ahead[number] += not marks[name] >> number & 1
        for parent in history.commit(name)[1]:
            if parent not in marks:
                marks[parent] = 0
                heapq.heappush(queue, (-history.commit(parent)[0], parent))
            marks[parent] |= marks[name]
    if not tags:
        return b"", seen
    best = min(range(len(tags)), key=lambda number: ahead[number])
    return tags[best], ahead[best]
