"""The name of content: ``algorithm:hex``."""

from __future__ import annotations

from dataclasses import dataclass

_HEX_LENGTHS = {"blake3": 64, "sha256": 64}
_HEX_DIGITS = "0123456789abcdef"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Digest:
    """
    A digest such as ``blake3:af13…``; BLAKE3 for what is ours, SHA-256 for what is OCI's.

    Attributes:
        algorithm: ``blake3`` or ``sha256``.
        hex: The 64 lower-case hexadecimal digits.
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        """Refuse what is no digest."""
        length = _HEX_LENGTHS.get(self.algorithm)
        if length is None:
            raise ValueError(f"unknown digest algorithm {self.algorithm!r}")
        # strip() leaves nothing exactly where nothing else is in it; thousands are made at once.
        if len(self.hex) != length or self.hex.strip(_HEX_DIGITS):
            raise ValueError(f"{self.hex!r} is not {length} lower-case hexadecimal digits")

    @classmethod
    def parse(cls, text: str) -> Digest:
        """
        Read ``algorithm:hex``; the inverse of ``str``.

        Raises:
            ValueError: If *text* is not of that form.
        """
        algorithm, colon, digits = text.partition(":")
        if not colon:
            raise ValueError(f"{text!r} is not of the form algorithm:hex")
        return cls(algorithm=algorithm, hex=digits)

    @classmethod
    def blake3(cls, digits: str) -> Digest:
        """Name a BLAKE3 digest by its digits."""
        return cls(algorithm="blake3", hex=digits)

    @classmethod
    def sha256(cls, digits: str) -> Digest:
        """Name a SHA-256 digest by its digits."""
        return cls(algorithm="sha256", hex=digits)

    def __str__(self) -> str:
        """Write ``algorithm:hex``."""
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        """The first twelve digits, for people."""
        return self.hex[:12]
