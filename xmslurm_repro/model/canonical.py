"""The one way in which values become bytes that are hashed or kept."""

from __future__ import annotations

from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def canonical_json(value: Json) -> bytes:
    """
    Write *value* as RFC 8785 canonical JSON: one value, one text, for ever.

    Raises:
        ValueError: If *value* holds something JSON cannot say exactly: an integer beyond
            2**53, a NaN, or text that is not valid Unicode.
    """
    import rfc8785  # noqa: PLC0415 (with json 5 ms)

    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise ValueError(f"not canonical JSON: {error}") from error


def readable_json(value: Json) -> str:
    """Write *value* for people and programs to read; never for hashing."""
    import json  # noqa: PLC0415

    return json.dumps(value, indent=2, ensure_ascii=False)  # noqa: TID251 (the one place)
