"""
When a job is started again, and how it learns that its time is nearly up.

Both are asked for by options of ours beside the scheduler's: ``requeue-on-exit-code``,
``requeue-on-timeout``, ``requeue-max-attempts``, ``timeout-signal`` and ``timeout-grace``.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xmslurm_repro.errors import SubmitRefusedError

NAMES = frozenset(
    {
        "requeue-on-exit-code", "requeue-on-timeout", "requeue-max-attempts", "timeout-signal",
        "timeout-grace",
    }
)  # fmt: skip
"""The options."""

DEFAULT_GRACE_SECONDS = 120
_LONGEST_GRACE_SECONDS = 65535
"""sbatch(1), ``--signal``."""
_UNCATCHABLE = frozenset({signal.SIGKILL, signal.SIGSTOP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """
    What a submission's options say of it.

    Attributes:
        exit_codes: Of the command, after which the job is started again.
        on_timeout: Whether it is when its time limit is near.
        most: How many times in all, whatever the cause; ``None`` for any number.
        signal_name: What the command is sent before the time limit, without ``SIG``.
        grace_seconds: How long before; ``None`` if it is sent nothing.
    """

    exit_codes: tuple[int, ...] = ()
    on_timeout: bool = False
    most: int | None = None
    signal_name: str = "TERM"
    grace_seconds: int | None = None

    @property
    def is_asked_for(self) -> bool:
        """Whether the job itself is to see to it that it is started again."""
        return bool(self.exit_codes or self.on_timeout)

    def values(self) -> Iterator[tuple[str, str]]:
        """Variables of the job, as far as they differ from nothing asked."""
        if self.exit_codes:
            yield "xm_again_codes", " ".join(map(str, self.exit_codes))
        if self.on_timeout:
            yield "xm_again_on_timeout", "1"
        if self.most is not None:
            yield "xm_again_most", str(self.most)
        if self.grace_seconds is not None:
            yield "xm_timeout_signal", self.signal_name
            yield "xm_timeout_grace", str(self.grace_seconds)


def read_restarts(
    options: Sequence[tuple[str, str]],
) -> tuple[Restarts, tuple[tuple[str, str], ...]]:
    """
    Part what is ours from what is the scheduler's.

    Returns:
        Ours, and the other options as they are.

    Raises:
        SubmitRefusedError: If one makes no sense, or two contradict each other.
    """
    ours = {name: value for name, value in options if name in NAMES}
    rest = tuple(option for option in options if option[0] not in NAMES)
    codes = tuple(
        _number("requeue-on-exit-code", code, 1, 255)
        for code in ours.get("requeue-on-exit-code", "").split(",")
        if "requeue-on-exit-code" in ours
    )
    on_timeout = _flag("requeue-on-timeout", ours.get("requeue-on-timeout", "no"))
    most = ours.get("requeue-max-attempts")
    grace = ours.get("timeout-grace")
    if grace is None and (on_timeout or "timeout-signal" in ours):
        grace = str(DEFAULT_GRACE_SECONDS)
    found = Restarts(
        exit_codes=codes,
        on_timeout=on_timeout,
        most=None if most is None else _number("requeue-max-attempts", most, 0, 10**6),
        signal_name=_signal(ours.get("timeout-signal", "TERM")),
        grace_seconds=None
        if grace is None
        else _number("timeout-grace", grace, 1, _LONGEST_GRACE_SECONDS),
    )
    if found.is_asked_for and "no-requeue" in dict(rest):
        raise SubmitRefusedError(
            "a job that must not be requeued cannot be requeued by itself",
            hint="Leave out `no-requeue`, or `requeue-on-exit-code` and `requeue-on-timeout`.",
        )
    return found, rest


def _number(name: str, text: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise SubmitRefusedError(f"{name} must be a number from {low} to {high}, not {text!r}")
    return int(text)


def _flag(name: str, text: str) -> bool:
    if text not in {"", "yes", "no"}:
        raise SubmitRefusedError(f"{name} is yes or no, not {text!r}")
    return text != "no"


def _signal(text: str) -> str:
    name = text.upper().removeprefix("SIG")
    known = signal.Signals.__members__.get(f"SIG{name}")
    if known is None or known in _UNCATCHABLE:
        raise SubmitRefusedError(f"timeout-signal: there is no signal {text!r} to be caught")
    return name
