"""Making a base image from Debian packages with mmdebstrap, for sites without a registry.

Packages are unpacked, no maintainer script runs (``--variant=extract``), so a base for another
architecture needs no emulator. What scripts would have written and jobs need (users, name
service, certificates) is put there by us. Bit-reproducible as long as the mirror stands still;
for good it is the base's digest that counts, not its recipe.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from xmslurm_repro.errors import ImageError, UsageError
from xmslurm_repro.image.base import BASE_PREFIX, check_base_name
from xmslurm_repro.image.documents import CREATED, image_manifest
from xmslurm_repro.image.layer import LayerWriter
from xmslurm_repro.image.root_tar import AddedFile, RootTar
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Layer,
    LayerKind,
)
from xmslurm_repro.ports.progress import Progress
from xmslurm_repro.ports.store import BlobStore

DEFAULT_SUITE = "bookworm"
DEFAULT_PACKAGES = (
    *("base-files", "base-passwd", "bash", "ca-certificates", "coreutils", "dash", "findutils"),
    *("grep", "gzip", "libc-bin", "libgomp1", "libstdc++6", "netbase", "python3"),
    *("sed", "tar", "tzdata", "zlib1g"),
)
"""What jobs and the wheels of PyPI count on; what these need comes with them."""

_HOOKS = Path("/usr/share/mmdebstrap/hooks/maybe-merged-usr")
_STATUS = "var/lib/dpkg/status.d/"
# One file for each package, as distroless images have it and scanners read it. And the cache
# that ctypes.util.find_library looks into, written by the base's own ldconfig, which is static;
# one for another architecture does not start here, and its base goes without.
_EXTRACT_HOOK = f"""
mkdir -p "$1/{_STATUS}" || exit 1
for deb in "$1"/var/cache/apt/archives/*.deb; do
    name=$(dpkg-deb --field "$deb" Package) || exit 1
    dpkg-deb --field "$deb" > "$1/{_STATUS}$name" || exit 1
done
"$1/usr/sbin/ldconfig" -r "$1" || "$1/sbin/ldconfig" -r "$1" || true
"""
_DROPPED = re.compile(
    r"""
    dev/.* | proc/.* | sys/.* | run/.* | tmp/.* | boot/.*
    | etc/(?:hostname|resolv\.conf|machine-id|fstab|apt/.*)   # the building machine's
    | var/(?:cache|log|lib/apt|lib/dpkg(?!/status\.d(?:/|$)))/.*
    | usr/share/(?:man|info|locale|lintian|doc-base)/.*
    | usr/share/doc/.*(?<!/copyright)
    """,
    re.VERBOSE,
)
_ARCHITECTURES = {"armhf": "arm", "i386": "386", "ppc64el": "ppc64le", "mips64el": "mips64le"}
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def create_base(
    *,
    name: str,
    suite: str = DEFAULT_SUITE,
    packages: Sequence[str] = (),
    architecture: str | None = None,
    mirror: str | None = None,
    blobs: BlobStore,
    work_dir: Path,
    progress: Progress,
) -> Descriptor:
    """
    Make a base of Debian *suite* and call it *name*.

    Works as root and, where user namespaces are allowed, as anyone.

    Args:
        name: What to call it; letters, digits, ``.``, ``_`` and ``-``.
        suite: Such as ``bookworm``.
        packages: Debian packages beside `DEFAULT_PACKAGES`, such as ``git`` or, pinned,
            ``git=1:2.39.5-0+deb12u2``.
        architecture: As Debian says it; ``None`` for this machine's.
        mirror: URL; ``None`` for Debian's. A dated one may be past its validity.
        blobs: Where the base goes.
        work_dir: For the tar, some hundred MB, while it is made.
        progress: Where to report.

    Returns:
        The image manifest.

    Raises:
        UsageError: If *name* or a package's name cannot be one.
        ImageError: If mmdebstrap is missing or fails.
    """
    check_base_name(name)
    _check_words(suite, (*packages, *((architecture,) if architecture else ())))
    work_dir.mkdir(parents=True, exist_ok=True)
    task = progress.start(f"Making base image {name}", unit="steps")
    try:
        with tempfile.TemporaryDirectory(dir=work_dir) as folder:
            tar = Path(folder) / "root.tar"
            argv = _command(tar, suite, (*DEFAULT_PACKAGES, *packages), architecture, mirror)
            _run(argv, tar)
            manifest = _assemble(tar, suite, blobs)
    finally:
        task.finish()
    blobs.set_ref(BASE_PREFIX + name, manifest)
    return manifest


def _check_words(suite: str, packages: Sequence[str]) -> None:
    name = r"[a-z0-9][a-z0-9.+:-]*"
    # Debian policy 5.6.12: what a version may consist of.
    pinned = rf"{name}(?:=[A-Za-z0-9.+:~-]+)?"
    bad = [] if re.fullmatch(name, suite) else [suite]
    bad += [word for word in packages if not re.fullmatch(pinned, word)]
    if bad:
        raise UsageError(
            f"{', '.join(map(repr, bad))}: no name of a Debian suite, package or architecture"
        )


def _command(
    tar: Path,
    suite: str,
    packages: Sequence[str],
    architecture: str | None,
    mirror: str | None,
) -> tuple[str, ...]:
    """Our environment goes through `env`, so that the user's (proxies) stays beside it."""
    return (
        *(
            "env",
            "SOURCE_DATE_EPOCH=1",
            "LC_ALL=C.UTF-8",
        ),
        *("mmdebstrap", "--quiet", "--variant=extract", "--format=tar"),
        *((f"--architectures={architecture}",) if architecture else ()),
        *((f"--hook-dir={_HOOKS}",) if _HOOKS.is_dir() else ()),
        # A dated mirror's release file is past its date by design; its signature is checked.
        *(('--aptopt=Acquire::Check-Valid-Until "false"',) if mirror else ()),
        f"--include={','.join(dict.fromkeys(packages))}",
        f"--extract-hook={_EXTRACT_HOOK}",
        suite,
        str(tar),
        *((mirror,) if mirror else ()),
    )


def _run(argv: tuple[str, ...], tar: Path) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, check=False, cwd=tar.parent)
    except OSError as error:
        raise ImageError(f"mmdebstrap cannot be started: {error}") from error
    if done.returncode == 127:
        raise ImageError(
            "mmdebstrap, which makes base images, is not installed",
            hint="Install it with `sudo apt install mmdebstrap`, or name an image that there is: "
            "`--base REGISTRY/NAME@sha256:…`.",
        )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ImageError(
            f"mmdebstrap failed with exit status {done.returncode}",
            details=said[-12:],
            hint="Check the suite, the names of the packages and that the mirror can be reached.",
        )


def _assemble(tar: Path, suite: str, blobs: BlobStore) -> Descriptor:
    root = RootTar(tar, keep=lambda name: not _DROPPED.fullmatch(name))
    try:
        packages = _packages(root)
        with blobs.writer() as blob:
            writer = LayerWriter(blob)
            root.write(writer, _added(root))
            diff_id, described = writer.commit()
    finally:
        root.close()
    libc = packages.get("libc6") or packages.get("base-files")
    if libc is None:
        raise ImageError("the base has neither libc6 nor base-files; it cannot be told what it is")
    config = canonical_json(
        {
            "architecture": _ARCHITECTURES.get(libc["Architecture"], libc["Architecture"]),
            "os": "linux",
            "created": CREATED,
            "config": {"Env": [_PATH], "Cmd": ["/bin/bash"], "Labels": {"debian.suite": suite}},
            "rootfs": {"type": "layers", "diff_ids": [str(diff_id)]},
            "history": [
                {
                    "created": CREATED,
                    "created_by": f"xmslurm-repro base create --suite {suite}",
                    "comment": " ".join(f"{n}={packages[n]['Version']}" for n in sorted(packages)),
                }
            ],
        }
    )
    layer = Layer(kind=LayerKind.BASE, title="base 1 of 1", diff_id=diff_id, blob=described)
    manifest = image_manifest(_put(blobs, MEDIA_TYPE_CONFIG, config), [layer])
    return _put(blobs, MEDIA_TYPE_MANIFEST, manifest)


def _put(blobs: BlobStore, media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type=media_type, digest=blobs.put(data), size_bytes=len(data))


def _packages(root: RootTar) -> dict[str, dict[str, str]]:
    """The control fields of each package by its name."""
    found = {}
    for name in root.names():
        if name.startswith(_STATUS):
            text = (root.read(name) or b"").decode("utf-8", "replace")
            fields = dict(
                re.findall(r"^(Package|Version|Architecture): *(.*)$", text, re.MULTILINE)
            )
            found[fields["Package"]] = fields
    return found


def _added(root: RootTar) -> dict[str, AddedFile]:
    """What maintainer scripts would have made and a job needs."""
    added = {
        "etc/hostname": AddedFile(),
        "etc/resolv.conf": AddedFile(),
        "etc/hosts": AddedFile(content=b"127.0.0.1\tlocalhost\n::1\tlocalhost\n"),
        "etc/localtime": AddedFile(link="/usr/share/zoneinfo/Etc/UTC"),
        "etc/timezone": AddedFile(content=b"Etc/UTC\n"),
    }
    for wanted, sources in {
        "etc/passwd": ("usr/share/base-passwd/passwd.master",),
        "etc/group": ("usr/share/base-passwd/group.master",),
        "etc/nsswitch.conf": (
            "usr/share/libc-bin/nsswitch.conf",
            "usr/share/base-files/nsswitch.conf",
        ),
    }.items():
        content = next((data for name in sources if (data := root.read(name))), None)
        if content is not None:
            added[wanted] = AddedFile(content=content)
    certificates = [
        root.read(name) or b""
        for name in root.names()
        if name.startswith("usr/share/ca-certificates/") and name.endswith(".crt")
    ]
    if certificates:
        bundle = b"".join(each.rstrip(b"\n") + b"\n" for each in certificates)
        added["etc/ssl/certs/ca-certificates.crt"] = AddedFile(content=bundle)
    if root.read("usr/bin/mawk"):
        added["usr/bin/awk"] = AddedFile(link="mawk")
    return added
