"""Versions that build backends take from the tags of a repository."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRule:
    """
    How a project's version follows from a tag.

    Attributes:
        pattern: A regular expression for the tag; its group ``version``, or else the first one,
            or else the whole match, is the version.
        guesses_next: Whether commits behind a tag are ``.devN`` of the next version, as
            setuptools-scm has it; else they are ``.postN.dev0`` of that one.
        fallback: The version where there is no repository.
    """

    pattern: str
    guesses_next: bool = True
    fallback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TagDistance:
    """
    The nearest tags that HEAD has behind it.

    Attributes:
        tags: Names of all tags of that commit, annotated ones first; none if there is none at all.
        commits: How many commits HEAD has that it has not.
        has_changes: Whether the work tree differs from HEAD.
    """

    tags: tuple[str, ...]
    commits: int
    has_changes: bool
