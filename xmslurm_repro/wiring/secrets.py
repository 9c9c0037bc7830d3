"""The values of secrets: from a configured command, else from the environment."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from xmslurm_repro.config import Settings
from xmslurm_repro.errors import MissingSecretError

_PATIENCE_SECONDS = 120
"""A password manager may ask its person for a passphrase."""


class ConfiguredSecrets:
    """Asks once for each, and forgets them all when this process ends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[str, str] = {}

    def reveal(self, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """The value of each of *names*, in their order."""
        missing: list[str] = []
        details: list[str] = []
        for name in names:
            if name in self._known:
                continue
            command = self._settings.secret_commands.get(name)
            value, fault = self._ask(name, command) if command else self._look_up(name)
            if value is None:
                missing.append(name)
                details += [fault] if fault else []
            else:
                self._known[name] = value
        if missing:
            raise MissingSecretError(missing, details=details)
        return tuple((name, self._known[name]) for name in names)

    def _look_up(self, name: str) -> tuple[str | None, str]:
        value = self._settings.environ.get(name)
        # An empty one is nearly always one that was not set.
        return (value, "") if value else (None, f"{name} is not set in the environment")

    def _ask(self, name: str, command: Sequence[str]) -> tuple[str | None, str]:
        said = f"the command for {name}, `{command[0]}`,"
        try:
            done = subprocess.run(
                list(command),
                env=dict(self._settings.environ),
                stdout=subprocess.PIPE,
                check=False,
                timeout=_PATIENCE_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            # Not the error itself: it shows the command's words, and may show what it printed.
            return None, f"{said} could not be run ({type(error).__name__})"
        if done.returncode != 0:
            return None, f"{said} ended with {done.returncode}"
        try:
            value = done.stdout.decode("utf-8").removesuffix("\n")
        except UnicodeDecodeError:
            return None, f"{said} printed what is not UTF-8"
        if not value or "\0" in value:
            return None, f"{said} printed {'a NUL' if value else 'nothing'}"
        return value, ""
