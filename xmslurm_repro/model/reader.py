"""Read a decoded JSON document by hand, so that an error names the place inside the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xmslurm_repro.errors import FormatError
from xmslurm_repro.model.digest import Digest


@dataclass(frozen=True, slots=True)
class Reader:
    """
    A value somewhere inside a document.

    Every method raises `FormatError` with the file's name and the path inside it, such as
    ``manifest blake3:…: units[3]: expected text, found 4``.
    """

    value: Any
    where: str
    path: str = ""

    @classmethod
    def of_json(cls, data: bytes, where: str) -> Reader:
        """Start reading the JSON document *data*, called *where* in errors."""
        import json  # noqa: PLC0415 (costs 3 ms)

        try:
            return cls(json.loads(data), where)
        except ValueError as error:
            raise FormatError(f"{where}: not JSON: {error}") from error

    def fail(self, expected: str) -> FormatError:
        """Make the error for a value that is not *expected*."""
        shown = repr(self.value)
        shown = shown if len(shown) <= 60 else shown[:57] + "…"
        at = f" {self.path}:" if self.path else ""
        return FormatError(f"{self.where}:{at} expected {expected}, found {shown}")

    def field(self, name: str) -> Reader:
        """The member *name* of an object; it must be there."""
        found = self.maybe(name)
        if found is None:
            raise self.fail(f"an object with the member {name!r}")
        return found

    def maybe(self, name: str) -> Reader | None:
        """The member *name* of an object, or ``None`` where it is absent or null."""
        if not isinstance(self.value, dict):
            raise self.fail("an object")
        if self.value.get(name) is None:
            return None
        return Reader(self.value[name], self.where, f"{self.path}.{name}".lstrip("."))

    def items(self) -> Iterator[Reader]:
        """The elements of an array."""
        if not isinstance(self.value, list):
            raise self.fail("an array")
        for index, item in enumerate(self.value):
            yield Reader(item, self.where, f"{self.path}[{index}]")

    def members(self) -> Iterator[tuple[str, Reader]]:
        """The members of an object, by name."""
        if not isinstance(self.value, dict):
            raise self.fail("an object")
        for name in sorted(self.value):
            yield name, Reader(self.value[name], self.where, f"{self.path}.{name}".lstrip("."))

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self.fail("text")
        return self.value

    def integer(self) -> int:
        """A whole number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.fail("a whole number")
        return self.value

    def boolean(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.fail("true or false")
        return self.value

    def digest(self) -> Digest:
        """A digest, ``algorithm:hex``."""
        try:
            return Digest.parse(self.text())
        except ValueError as error:
            raise self.fail("a digest") from error

    def texts(self) -> tuple[str, ...]:
        """An array of strings."""
        return tuple(item.text() for item in self.items())

    def text_map(self) -> dict[str, str]:
        """An object whose values are strings, sorted by name."""
        return {name: item.text() for name, item in self.members()}

    def format_version(self, name: str, newest: int) -> int:
        """
        Check the document's ``format`` member, ``<name>/<version>``.

        Returns:
            The version, from 1 to *newest*.
        """
        field = self.field("format")
        stem, _, version = field.text().partition("/")
        if stem != name or not version.isdecimal() or not 1 <= int(version) <= newest:
            raise field.fail(f"the format {name}/1 to {name}/{newest} (a newer tool may read it)")
        return int(version)
