"""What is packaged, and what comes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmanager import xm

from xmslurm_repro.services.prepare import Prepared


@dataclass(frozen=True, kw_only=True)
class PythonProject(xm.ExecutableSpec):  # type: ignore[misc]
    """
    A folder of Python code with a lock file.

    Attributes:
        context: The folder in which the command starts.
        entrypoint: The words of the command before its arguments.
        lock: The lock file's path from the folder; ``None`` to look for one.
        base_image: ``None`` for the configured one.
        allow_no_repository: Whether the folder may be outside any git repository.
    """

    context: Path
    entrypoint: tuple[str, ...]
    lock: str | None = None
    base_image: str | None = None
    allow_no_repository: bool = False

    @property
    def name(self) -> str:
        """The folder's name, as a word."""
        return as_name(self.context.name)


@dataclass(frozen=True, kw_only=True)
class DockerImage(xm.ExecutableSpec):  # type: ignore[misc]
    """
    An image that somebody else built, with all of its code in it.

    Attributes:
        image: Its reference; a tag is resolved to a digest when it is packaged.
    """

    image: str

    @property
    def name(self) -> str:
        """The last part of the reference, as a word."""
        return as_name(re.sub(r"[@:].*", "", self.image.rsplit("/", 1)[-1]))


class PackagedImage(xm.Executable):  # type: ignore[misc]
    """
    An image with a command.

    Attributes:
        prepared: The image and what it was built from.
        entrypoint: The words of the command before its arguments.
        default_arguments: Words that follow where a job gives no arguments of its own.
        args: Arguments of every job; a job's own come after them or take their place.
        env_vars: Variables of every job.
    """

    def __init__(
        self,
        *,
        name: str,
        prepared: Prepared,
        entrypoint: tuple[str, ...],
        default_arguments: tuple[str, ...] = (),
        args: xm.SequentialArgs,
        env_vars: Mapping[str, Any],
    ) -> None:
        """Put them together."""
        super().__init__(name=name)
        self.prepared = prepared
        self.entrypoint = entrypoint
        self.default_arguments = default_arguments
        self.args = args
        self.env_vars = dict(env_vars)


def as_name(text: str) -> str:
    """*text* as a word that jobs and files can be called by."""
    return re.sub(r"\W+", "_", text).strip("_") or "job"
