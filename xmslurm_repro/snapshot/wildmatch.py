"""git's wildcards as regular expressions, by gitignore(5) and git's own tests (t3070)."""

from __future__ import annotations

import re

_SPECIAL = re.compile(rb"[*?\[\\]")
_NEVER = b"(?!)"

_LOWER = frozenset(range(ord("a"), ord("z") + 1))
_UPPER = frozenset(range(ord("A"), ord("Z") + 1))
_DIGIT = frozenset(range(ord("0"), ord("9") + 1))
_PRINTABLE = frozenset(range(32, 127))
_GRAPHIC = _PRINTABLE - {32}
_ALNUM = _LOWER | _UPPER | _DIGIT
_CLASSES = {
    b"alnum": _ALNUM,
    b"alpha": _LOWER | _UPPER,
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset(range(32)) | {127},
    b"digit": _DIGIT,
    b"graph": _GRAPHIC,
    b"lower": _LOWER,
    b"print": _PRINTABLE,
    b"punct": _GRAPHIC - _ALNUM,
    b"space": frozenset(b" \t\n\v\f\r"),
    b"upper": _UPPER,
    b"xdigit": _DIGIT | frozenset(b"abcdefABCDEF"),
}


def has_wildcard(pattern: bytes) -> bool:
    """Whether *pattern* is more than a literal text."""
    return _SPECIAL.search(pattern) is not None


def literal_length(pattern: bytes) -> int:
    """How many bytes stand before the first that has a meaning."""
    found = _SPECIAL.search(pattern)
    return found.start() if found else len(pattern)


def translate(pattern: bytes, *, is_path: bool) -> bytes:
    """
    Write *pattern* as a regular expression for ``fullmatch`` with ``re.DOTALL``.

    Args:
        pattern: Bytes of a gitignore pattern.
        is_path: Whether ``/`` is special: matched by ``**`` only.
    """
    parts: list[bytes] = []
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        if byte == b"*":
            part, at = _stars(pattern, at, is_path=is_path)
        elif byte == b"?":
            part, at = (b"[^/]" if is_path else b"."), at + 1
        elif byte == b"[":
            part, at = _bracket(pattern, at, is_path=is_path)
        elif byte == b"\\":
            # A lone backslash at the end matches nothing.
            follower = pattern[at + 1 : at + 2]
            part, at = (re.escape(follower) if follower else _NEVER), at + 2
        else:
            part, at = re.escape(byte), at + 1
        parts.append(part)
    return b"".join(parts)


def _stars(pattern: bytes, at: int, *, is_path: bool) -> tuple[bytes, int]:
    end = at
    while pattern[end : end + 1] == b"*":
        end += 1
    if not is_path:
        return b".*", end
    rest = pattern[end:]
    is_leading = at == 0 or pattern[at - 1 : at] == b"/"
    if end - at == 1 or not is_leading or not (rest == b"" or rest.startswith((b"/", b"\\/"))):
        return b"[^/]*", end
    if rest.startswith(b"/"):
        return b"(?:.*/)?", end + 1
    return b".*", end


def _bracket(pattern: bytes, start: int, *, is_path: bool) -> tuple[bytes, int]:
    """What a bracket expression matches, and where it ends."""
    at = start + 1
    is_negated = pattern[at : at + 1] in {b"!", b"^"}
    at += is_negated
    matched: set[int] = set()
    previous: int | None = None
    is_first = True
    while is_first or pattern[at : at + 1] != b"]":
        is_first = False
        found = _member(pattern, at, previous)
        if found is None:
            # An expression without an end matches nothing, and nor does the pattern.
            return _NEVER, len(pattern)
        members, previous, at = found
        matched |= members
    if is_negated:
        matched = set(range(256)) - matched
    if is_path:
        matched.discard(ord("/"))
    if not matched:
        return _NEVER, at + 1
    return b"[" + b"".join(b"\\x%02x" % value for value in sorted(matched)) + b"]", at + 1


def _member(
    pattern: bytes, at: int, previous: int | None
) -> tuple[frozenset[int], int | None, int] | None:
    """One member of a bracket expression: its bytes, what a range may begin with, the next."""
    byte = pattern[at : at + 1]
    if byte == b"[" and pattern[at + 1 : at + 2] == b":":
        return _named_class(pattern, at)
    follower = pattern[at + 1 : at + 2]
    if byte == b"-" and previous is not None and follower not in {b"", b"]"}:
        end = _literal(pattern, at + 1)
        if end is None:
            return None
        return frozenset(range(previous, end[0] + 1)), None, end[1]
    single = _literal(pattern, at)
    return None if single is None else (frozenset([single[0]]), single[0], single[1])


def _literal(pattern: bytes, at: int) -> tuple[int, int] | None:
    at += pattern[at : at + 1] == b"\\"
    return (pattern[at], at + 1) if at < len(pattern) else None


def _named_class(pattern: bytes, at: int) -> tuple[frozenset[int], int | None, int] | None:
    end = pattern.find(b"]", at + 2)
    if end < 0:
        return None
    if end == at + 2 or pattern[end - 1 : end] != b":":
        # Not "[:name:]" after all: a bracket like any other byte, and the colon is next.
        return frozenset(b"["), ord("["), at + 1
    members = _CLASSES.get(pattern[at + 2 : end - 1])
    return None if members is None else (members, None, end + 1)
