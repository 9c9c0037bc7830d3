"""Debian's control files: paragraphs, versions and relations between packages.

deb-version(7), deb822(5), deb-control(5); policy 5.6.12 and 7.1.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

_PART = re.compile(r"(\D*)(\d*)")
_RELATION = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.+-]*)(?::(?P<qualifier>[a-z0-9-]+))?"
    r"(?:\s*\(\s*(?P<how><<|<=|=|>=|>>|<|>)\s*(?P<version>[^\s()]+)\s*\))?"
)
_ORDERS = {
    "<<": lambda sign: sign < 0,
    "<=": lambda sign: sign <= 0,
    "<": lambda sign: sign <= 0,  # deb-control(5): obsolete, and means <=
    "=": lambda sign: sign == 0,
    ">": lambda sign: sign >= 0,
    ">=": lambda sign: sign >= 0,
    ">>": lambda sign: sign > 0,
}


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Each paragraph's fields; continuation lines are joined by line ends."""
    fields: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if last:
                fields[last] += f"\n{line.strip()}"
        elif not line.startswith("#"):
            name, colon, value = line.partition(":")
            if colon:
                last = name
                fields[name] = value.strip()
    if fields:
        yield fields


def compare_versions(left: str, right: str) -> int:
    """Negative, 0 or positive, as *left* is older than, equal to or newer than *right*."""
    left_epoch, left_rest = _epoch(left)
    right_epoch, right_rest = _epoch(right)
    if left_epoch != right_epoch:
        return left_epoch - right_epoch
    left_upstream, left_revision = _revision(left_rest)
    right_upstream, right_revision = _revision(right_rest)
    return _compare(left_upstream, right_upstream) or _compare(left_revision, right_revision)


def _revision(version: str) -> tuple[str, str]:
    upstream, hyphen, revision = version.rpartition("-")
    return (upstream, revision) if hyphen else (version, "")


version_key = functools.cmp_to_key(compare_versions)


def _epoch(version: str) -> tuple[int, str]:
    epoch, colon, rest = version.partition(":")
    return (int(epoch), rest) if colon and epoch.isdecimal() else (0, version)


def _compare(left: str, right: str) -> int:
    while left or right:
        left_match, right_match = _PART.match(left), _PART.match(right)
        assert left_match is not None  # noqa: S101 (it matches nothing, too)
        assert right_match is not None  # noqa: S101 (likewise)
        sign = _compare_text(left_match[1], right_match[1])
        sign = sign or int(left_match[2] or 0) - int(right_match[2] or 0)
        if sign:
            return sign
        left, right = left[left_match.end() :], right[right_match.end() :]
    return 0


def _compare_text(left: str, right: str) -> int:
    for one, other in zip(_weights(left), _weights(right), strict=False):
        if one != other:
            return one - other
    return 0


def _weights(text: str) -> Iterator[int]:
    for character in text:
        if character == "~":
            yield -1
        else:
            yield ord(character) + (0 if character.isalpha() else 256)
    # The end counts more than a tilde, and less than all else.
    yield 0
    yield 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One package that would do: ``name``, ``name (>= 1)``."""

    name: str
    how: str = ""
    version: str = ""

    def allows(self, version: str | None) -> bool:
        """Whether that version will do; ``None`` for a virtual package without one."""
        if not self.how:
            return True
        return version is not None and _ORDERS[self.how](compare_versions(version, self.version))

    def __str__(self) -> str:
        """As a control file has it."""
        return f"{self.name} ({self.how} {self.version})" if self.how else self.name


def parse_relations(text: str) -> tuple[tuple[Relation, ...], ...]:
    """
    Read a field such as ``Depends``: all of these, each one of alternatives.

    Raises:
        ValueError: If it is none.
    """
    groups = (group.split("|") for group in text.replace("\n", " ").split(",") if group.strip())
    return tuple(tuple(_relation(part.strip()) for part in group) for group in groups)


def _relation(text: str) -> Relation:
    match = _RELATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no relation to a package")
    return Relation(name=match["name"], how=match["how"] or "", version=match["version"] or "")
