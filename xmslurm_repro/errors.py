"""Every error a user can meet: what happened, what to do, a stable code, an exit status.

Exit statuses are part of the interface (``docs/reference/errors.md``). 0 is success, 1 is a
difference or a failed run, 2 is a wrong command line; what is defined here starts at 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ReproError(Exception):
    """
    The root of our errors.

    Attributes:
        message: What happened. Lower case at the start, no full stop.
        hint: A sentence that says what the reader can do now, or ``None``.
        details: Lines that explain it, such as ``command: sbatch --parsable``.
        code: A stable name for programs.
        exit_status: What the process ends with.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 3

    def __init__(
        self, message: str, *, hint: str | None = None, details: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)


class UsageError(ReproError):
    """What was asked for makes no sense."""

    code = "usage"
    exit_status = 2


class ConfigError(ReproError):
    """A configuration file or variable is wrong."""

    code = "config"
    exit_status = 4


class FormatError(ReproError):
    """A file of ours, or one we read, is not in its format. The message names the path inside."""

    code = "format"
    exit_status = 5


class IntegrityError(ReproError):
    """Bytes are not what their name says, or are missing."""

    code = "integrity"
    exit_status = 6


class DigestMismatchError(IntegrityError):
    """A blob's bytes hash to something other than its name."""

    code = "digest-mismatch"

    def __init__(self, where: str, *, want: str, got: str, size_bytes: int) -> None:
        super().__init__(
            f"{where} is damaged: expected {want}, read {size_bytes} bytes that hash to {got}",
            hint="Restore it from a copy of the store, or launch again from the original tree.",
        )
        self.where, self.want, self.got, self.size_bytes = where, want, got, size_bytes


class MissingObjectError(IntegrityError):
    """The store does not hold an object that was asked for."""

    code = "missing-object"

    def __init__(self, name: str, *, needed_by: str | None = None) -> None:
        by = f", which {needed_by} needs," if needed_by else ""
        super().__init__(
            f"the store has no object {name}{by or ''}".rstrip(","),
            hint="Copy it from another machine's store that launched the same experiment.",
        )
        self.name, self.needed_by = name, needed_by


class StoreError(ReproError):
    """The store cannot be written or read: full disk, permissions, a lock."""

    code = "store"
    exit_status = 7


class NotFoundError(ReproError):
    """No experiment, work unit or run goes by that name."""

    code = "not-found"
    exit_status = 8


class NoRepositoryError(ReproError):
    """The folder is in no git repository."""

    code = "no-repository"
    exit_status = 10


class UnbornHeadError(ReproError):
    """The repository has no commit yet."""

    code = "unborn-head"
    exit_status = 11


class LockMissingError(ReproError):
    """The project declares dependencies and has no lock file."""

    code = "lock-missing"
    exit_status = 12


class LockUnpinnedError(ReproError):
    """A lock names packages without hashes, or is none at all."""

    code = "lock-unpinned"
    exit_status = 13


class NoWheelError(ReproError):
    """Packages have no wheel for the image's platform."""

    code = "no-wheel"
    exit_status = 14


class NoBaseImageError(ReproError):
    """No base image is configured."""

    code = "no-base-image"
    exit_status = 15


class BaseUnreachableError(ReproError):
    """A base image cannot be read from where it is said to be."""

    code = "base-unreachable"
    exit_status = 16


class NoRuntimeError(ReproError):
    """The cluster has no usable container runtime."""

    code = "no-runtime"
    exit_status = 17


class UnknownClusterError(ReproError):
    """No cluster of that name is configured."""

    code = "unknown-cluster"
    exit_status = 18


class SubmitRefusedError(ReproError):
    """The scheduler said no, definitely: nothing was submitted."""

    code = "submit-refused"
    exit_status = 19


class ChangingFileError(ReproError):
    """Files changed while they were read."""

    code = "file-changing"
    exit_status = 20


class UnreadableError(ReproError):
    """Files or folders of the work tree cannot be captured."""

    code = "unreadable"
    exit_status = 21


class ImageError(ReproError):
    """An image cannot be assembled or is not what it should be."""

    code = "image"
    exit_status = 22


class RegistryError(ReproError):
    """A registry refused or failed."""

    code = "registry"
    exit_status = 23


class FetchError(ReproError):
    """Packages could not be fetched."""

    code = "fetch"
    exit_status = 24


class ConnectionLostError(ReproError):
    """
    The connection to a host was lost, or never made.

    Attributes:
        may_have_run: Whether the command may have taken effect all the same. Whoever sends a
            command that must not run twice has to look before sending it again.
    """

    code = "connection"
    exit_status = 25

    def __init__(
        self,
        message: str,
        *,
        may_have_run: bool,
        hint: str | None = None,
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(message, hint=hint, details=details)
        self.may_have_run = may_have_run


class HostKeyError(ReproError):
    """A host's key is unknown or not the pinned one."""

    code = "host-key"
    exit_status = 26


class SubmitUnknownError(ReproError):
    """It is not known whether a submission was accepted; a later command will find out."""

    code = "submit-unknown"
    exit_status = 27


class ClusterError(ReproError):
    """A command on the cluster failed in a way that we did not expect."""

    code = "cluster"
    exit_status = 28


class DoubtfulFilesError(ReproError):
    """Untracked files are large or look like secrets, and nobody said what to do with them."""

    code = "doubtful-files"
    exit_status = 30


class InputError(ReproError):
    """An input on the cluster cannot be read, or is not what was recorded."""

    code = "input"
    exit_status = 33


class MissingSecretError(ReproError):
    """The value of a secret cannot be had."""

    code = "missing-secret"
    exit_status = 32

    def __init__(self, names: Sequence[str], *, details: Sequence[str] = ()) -> None:
        shown = ", ".join(names)
        super().__init__(
            f"no value is known for the secret{'s' if len(names) > 1 else ''} {shown}",
            hint=f"Set {names[0]} in the environment of this command, or configure a command that "
            "prints it in `[secret_commands]` of your own configuration file.",
            details=details,
        )
        self.names = tuple(names)


class RunFailedError(ReproError):
    """A run that was waited for did not end well."""

    code = "run-failed"
    exit_status = 1


class NotSupportedError(ReproError):
    """What is asked for has a name here, and cannot be done: not yet, or on purpose."""

    code = "not-supported"
    exit_status = 29


class SystemPackagesError(ReproError):
    """System packages are not locked for the base image, or cannot be installed on it."""

    code = "system-packages"
    exit_status = 34
