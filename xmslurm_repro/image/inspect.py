"""Which platform a base image offers to packages, found by looking into it, not by running it.

Running would need an engine, and for another architecture an emulator; the facts are in files
that distributions keep up to date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from xmslurm_repro.errors import FormatError, ImageError
from xmslurm_repro.image.cache import DocumentCache
from xmslurm_repro.image.rootfs import RootView, read_root
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import Layer
from xmslurm_repro.model.lock import Target
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PYTHON = re.compile(r"python3\.(\d+)")
_WANTED = re.compile(
    r"""
    (?:usr/)?lib/apk/db/installed            # Alpine's packages
    | var/lib/dpkg/status(?:\.d/[^/]+)?      # Debian's, and distroless images'
    | (?:.*/)?libc\.so\.6
    | (?:.*/)?libc-\d+\.\d+\.so              # where libc.so.6 led before glibc 2.34
    | (?:.*/)?ld-musl-[^/]+\.so\.1
    | (?:.*/)?bin/python(?:3(?:\.\d+)?)?
    | (?:.*/)?libpython3\.\d+\.so\.1\.0
    | (?:.*/)?include/python3\.\d+/patchlevel\.h
    """,
    re.VERBOSE,
)
_BARE_KIND = "bare-target-1"
_KIND = "target-1"
"""The part of the cache for what this version finds; a better way of looking needs a new one."""


def inspect_target(
    blobs: BlobStore,
    *,
    manifest: Digest,
    layers: Sequence[Layer],
    architecture: str,
    env: Sequence[tuple[str, str]],
    cache_dir: Path | None,
    progress: Progress,
) -> Target | None:
    """
    Find the platform of an image; every layer is read, and checked, once per *cache_dir*.

    Args:
        blobs: Where the layers are.
        manifest: Names the image in the cache.
        layers: Lowest first.
        architecture: As the image's config says it.
        env: What the config sets; its ``PATH`` says which Python counts.
        cache_dir: Where to remember the answer.
        progress: Where to report.

    Returns:
        The platform, or ``None`` if there is no Python on the image's ``PATH``.

    Raises:
        ImageError: If there is a Python whose version, or whose C library, cannot be found.
        DigestMismatchError: If a layer is not what the config says.
    """
    cache = DocumentCache(cache_dir) if cache_dir else None
    known = cache.get(_KIND, manifest.hex) if cache else None
    if known is not None:
        try:
            target = known.maybe("target")
            return Target.from_json(target) if target else None
        except (FormatError, ValueError):
            pass
    task = progress.start(
        "Reading base image", total=sum(layer.blob.size_bytes for layer in layers)
    )
    try:
        view = read_root(blobs, layers, lambda path: bool(_WANTED.fullmatch(path)), task)
    finally:
        task.finish()
    found = target_of(view, architecture, dict(env))
    if cache:
        cache.put(_KIND, manifest.hex, {"target": found.to_json() if found else None})
    return found


def inspect_bare(
    blobs: BlobStore,
    *,
    manifest: Digest,
    layers: Sequence[Layer],
    architecture: str,
    cache_dir: Path | None,
    progress: Progress,
) -> Target:
    """
    What an image without a Python offers to packages that bring theirs: machine and C library.

    The arguments are those of `inspect_target`; the Python of the answer is the empty text.

    Raises:
        ImageError: If its C library cannot be found.
        DigestMismatchError: If a layer is not what the config says.
    """
    cache = DocumentCache(cache_dir) if cache_dir else None
    known = cache.get(_BARE_KIND, manifest.hex) if cache else None
    if known is not None:
        with suppress(FormatError, ValueError):
            return Target.from_json(known.field("target"))
    task = progress.start("Reading base image", total=None)
    try:
        view = read_root(blobs, layers, lambda path: bool(_WANTED.fullmatch(path)), task)
    finally:
        task.finish()
    libc, source = _libc(view, _packages(view))
    found = Target(
        architecture=architecture, libc=libc, python="", python_executable="", source=source
    )
    if cache:
        cache.put(_BARE_KIND, manifest.hex, {"target": found.to_json()})
    return found


def target_of(view: RootView, architecture: str, env: dict[str, str]) -> Target | None:
    """
    Read the platform off *view*.

    Raises:
        ImageError: If it has a Python and lacks something else that must be known.
    """
    executable = _find_python(view, env.get("PATH") or _DEFAULT_PATH)
    if executable is None:
        return None
    packages = _packages(view)
    minor = _minor(view, executable)
    python, source = _python_version(view, executable, minor, packages, env)
    libc, libc_source = _libc(view, packages)
    return Target(
        architecture=architecture,
        libc=libc,
        python=python,
        python_executable=executable,
        source=f"{source}; {libc_source}",
    )


def _find_python(view: RootView, path: str) -> str | None:
    """The real file of the first Python 3 on *path*, as a shell would find it."""
    for folder in path.split(":"):
        if not folder.startswith("/"):
            continue
        for name in ("python3", "python"):
            found = view.resolve(f"{folder}/{name}")
            if found:
                return found
        versions = (
            int(match[1])
            for name in (*view.files, *view.links)
            if (match := _PYTHON.fullmatch(name.rpartition("/")[2]))
            and f"/{name.rpartition('/')[0]}" == folder.rstrip("/")
        )
        for minor in sorted(set(versions), reverse=True):
            found = view.resolve(f"{folder}/python3.{minor}")
            if found:
                return found
    return None


def _minor(view: RootView, executable: str) -> str:
    match = _PYTHON.fullmatch(executable.rpartition("/")[2])
    if match:
        return f"3.{match[1]}"
    content = view.content(executable) or b""
    found = sorted({m[1].decode() for m in re.finditer(rb"\0(3\.\d+)\.\d+\0", content)})
    if len(found) != 1:
        raise ImageError(
            f"the base image's {executable} does not tell which Python it is",
            hint="Use a base image whose interpreter is called python3.X.",
        )
    return found[0]


def _python_version(
    view: RootView,
    executable: str,
    minor: str,
    packages: dict[str, str],
    env: dict[str, str],
) -> tuple[str, str]:
    """The full version and where it stood; every source has to agree with *minor*."""
    full = re.compile(re.escape(minor) + r"\.\d+(?:(?:a|b|rc)\d+)?")
    prefix = executable.rpartition("/bin/")[0]
    for version, source in _version_claims(view, prefix, executable, minor, packages, env):
        match = full.match(version)
        if match:
            return match[0], f"{executable}: {source}"
    raise ImageError(
        f"the full version of {executable} is nowhere to be found in the base image",
        details=["looked for: package database, PYTHON_VERSION, patchlevel.h, text in the program"],
    )


def _version_claims(
    view: RootView,
    prefix: str,
    executable: str,
    minor: str,
    packages: dict[str, str],
    env: dict[str, str],
) -> Iterator[tuple[str, str]]:
    if prefix in {"", "/usr"}:
        for name in (f"python{minor}-minimal", f"libpython{minor}-minimal", "python3"):
            if name in packages:
                yield packages[name].rpartition(":")[2], f"package {name} {packages[name]}"
    if prefix == "/usr/local" and "PYTHON_VERSION" in env:
        yield env["PYTHON_VERSION"], "PYTHON_VERSION"
    header = view.content(f"{prefix}/include/python{minor}/patchlevel.h") or b""
    for match in re.finditer(rb'#define\s+PY_VERSION\s+"([^"]+)"', header):
        yield match[1].decode("ascii", "replace"), "patchlevel.h"
    libraries = sorted(
        path
        for path in view.files
        if path.endswith(f"/libpython{minor}.so.1.0") and f"/{path}".startswith(f"{prefix}/lib")
    )
    own_string = re.compile(rb"\0(" + re.escape(minor.encode()) + rb"\.\d+(?:(?:a|b|rc)\d+)?)\+?\0")
    for path in (executable, *(f"/{path}" for path in libraries)):
        for match in own_string.finditer(view.content(path) or b""):
            yield match[1].decode("ascii"), f"text in {path}"


def _libc(view: RootView, packages: dict[str, str]) -> tuple[tuple[str, int, int], str]:
    for name, family in (("libc6", "glibc"), ("musl", "musl")):
        if name in packages:
            version = packages[name].rpartition(":")[2]
            if match := re.match(r"(\d+)\.(\d+)", version):
                return (family, int(match[1]), int(match[2])), f"package {name} {version}"
    for path in sorted(view.files):
        name = path.rpartition("/")[2]
        if name.startswith(("libc.so", "libc-")):
            found = re.search(
                rb"GNU C Library [^\0]*?release version (\d+)\.(\d+)", view.files[path]
            )
            family = "glibc"
        elif name.startswith("ld-musl-"):
            found = re.search(rb"\0(1)\.(\d+)\.\d+\0", view.files[path])
            family = "musl"
        else:
            continue
        if found:
            return (family, int(found[1]), int(found[2])), f"text in /{path}"
    raise ImageError(
        "the C library of the base image cannot be found",
        details=["looked for: packages libc6 and musl, libc.so.6, ld-musl-*.so.1"],
    )


def _packages(view: RootView) -> dict[str, str]:
    """Name and version of the packages that Debian's or Alpine's database lists."""
    found: dict[str, str] = {}
    for path in sorted(view.files):
        text = view.files[path]
        if path.startswith("var/lib/dpkg/status"):
            found.update(_debian_packages(text.decode("utf-8", "replace")))
        elif path.endswith("lib/apk/db/installed"):
            found.update(_alpine_packages(text.decode("utf-8", "replace")))
    return found


def _debian_packages(text: str) -> Iterator[tuple[str, str]]:
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Status): *(.*)$", paragraph, re.MULTILINE))
        # Distroless images have no Status; packages that were only unpacked are there as well.
        gone = fields.get("Status", "").endswith(("config-files", "not-installed"))
        if "Package" in fields and "Version" in fields and not gone:
            yield fields["Package"], fields["Version"]


def _alpine_packages(text: str) -> Iterator[tuple[str, str]]:
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^([PV]):(.*)$", paragraph, re.MULTILINE))
        if "P" in fields and "V" in fields:
            yield fields["P"], fields["V"]
