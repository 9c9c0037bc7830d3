"""What a target means to packaging: environment markers and wheel tags.

Everything is computed from the `Target`. Nothing may be left for `packaging` to fill in: it would
ask the interpreter that we happen to run on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from packaging.markers import (
    Environment,
    Marker,
    UndefinedComparison,
    UndefinedEnvironmentName,
)
from packaging.tags import Tag, compatible_tags, cpython_tags

from xmslurm_repro.errors import FormatError, ImageError
from xmslurm_repro.model.lock import Target

_MACHINES = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}

# PEP 513, 571, 599: the names that came before manylinux_<glibc>.
_LEGACY_MANYLINUX = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
_OLDEST_MINOR_GLIBC = {"x86_64": 5}
_OLDEST_MINOR_GLIBC_ELSEWHERE = 17


def marker_environment(target: Target) -> Environment:
    """
    The eleven markers of PEP 508 for *target*, which is CPython on Linux.

    The kernel (``platform_release``, ``platform_version``) is the empty text: no image has one.
    """
    return {
        "implementation_name": "cpython",
        "implementation_version": target.python,
        "os_name": "posix",
        "platform_machine": machine(target),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": target.python,
        "python_version": target.python_minor,
        "sys_platform": "linux",
    }


def holds(marker: Marker | None, target: Target, where: str) -> bool:
    """
    Whether a requirement with *marker* (PEP 508) applies to *target*; no extra is chosen.

    Raises:
        FormatError: If the marker compares what cannot be compared; *where* names it.
    """
    if marker is None:
        return True
    environment = cast("dict[str, str]", {**marker_environment(target), "extra": ""})
    with told_apart(where):
        return marker.evaluate(environment)


@contextmanager
def told_apart(where: str) -> Iterator[None]:
    """Turn the library's errors of evaluation, which are no `ValueError`, into `FormatError`."""
    try:
        yield
    except (UndefinedComparison, UndefinedEnvironmentName) as error:
        raise FormatError(f"{where}: a marker cannot be evaluated: {error}") from error


def wheel_tags(target: Target) -> tuple[Tag, ...]:
    """The tags of the wheels that *target* can use, best first."""
    major, minor = (int(part) for part in target.python_minor.split("."))
    platforms = list(_platforms(target))
    interpreter = f"cp{major}{minor}"
    # Until 3.7 the ABI tag told of pymalloc (PEP 425 and the docs of sys.abiflags).
    abi = interpreter + ("m" if (major, minor) < (3, 8) else "")
    return (
        *cpython_tags((major, minor), abis=[abi], platforms=platforms),
        *compatible_tags((major, minor), interpreter=interpreter, platforms=platforms),
    )


def machine(target: Target) -> str:
    """
    The target's machine as ``uname -m`` and wheels say it.

    Raises:
        ImageError: If we do not know the architecture.
    """
    found = _MACHINES.get(target.architecture)
    if found is None:
        raise ImageError(
            f"packages cannot be chosen for the architecture {target.architecture!r}",
            hint=f"Use a base image for one of {', '.join(_MACHINES)}.",
            details=(f"target: {target.source}",),
        )
    return found


def _platforms(target: Target) -> Iterator[str]:
    libc, major, minor = target.libc
    arch = machine(target)
    # First, as in packaging 26: a wheel that was built for no other platform was built here.
    yield f"linux_{arch}"
    if libc == "glibc":
        oldest = _OLDEST_MINOR_GLIBC.get(arch, _OLDEST_MINOR_GLIBC_ELSEWHERE)
        for step in range(minor, oldest - 1, -1):
            yield f"manylinux_{major}_{step}_{arch}"
            legacy = _LEGACY_MANYLINUX.get((major, step))
            if legacy:
                yield f"{legacy}_{arch}"
    elif libc == "musl":
        for step in range(minor, -1, -1):
            yield f"musllinux_{major}_{step}_{arch}"
