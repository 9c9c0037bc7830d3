"""Debian archives: which one a base belongs to, and the lists of packages that it signs.

DebianRepository/Format in Debian's wiki; sources.list(5).
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xmslurm_repro.errors import FetchError, UsageError
from xmslurm_repro.lock.debian_control import paragraphs
from xmslurm_repro.transport.http import Http
from xmslurm_repro.transport.http_messages import HttpError

_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<url>\S+)\s+(?P<rest>.+)")
_KEYRINGS = ("etc/apt/trusted.gpg.d/", "etc/apt/keyrings/", "usr/share/keyrings/")
_HOST_KEYRINGS = (Path("/usr/share/keyrings"), Path("/etc/apt/trusted.gpg.d"))
_HOST_APT = Path("/etc/apt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    One suite of one archive.

    Attributes:
        url: Its root, without a slash at the end.
        suite: Such as ``bookworm-updates``; with a slash at its end a folder without components.
        components: Such as ``main``.
    """

    url: str
    suite: str
    components: tuple[str, ...]

    @property
    def release_url(self) -> str:
        """The folder of its release file."""
        return f"{self.url}/{self.suite.rstrip('/') if self.is_flat else f'dists/{self.suite}'}"

    @property
    def is_flat(self) -> bool:
        """Whether it has no components."""
        return self.suite.endswith("/")

    def __str__(self) -> str:
        """As sources.list(5) has it."""
        return " ".join(("deb", self.url, self.suite, *self.components))


def parse_source(line: str) -> Source:
    """
    Read one line of sources.list(5).

    Raises:
        UsageError: If it is none for binary packages.
    """
    match = _ONE_LINE.fullmatch(line.strip())
    words = match["rest"].split() if match else []
    if match is None or not match["url"].startswith(("http://", "https://")):
        raise UsageError(
            f"{line!r} is no source of Debian packages",
            hint="Write it like `deb http://mirror.example/debian bookworm main`.",
        )
    if not words[0].endswith("/") and len(words) < 2:
        raise UsageError(f"{line!r} names no component, such as main")
    return Source(url=match["url"].rstrip("/"), suite=words[0], components=tuple(words[1:]))


def sources_of(
    files: Mapping[str, bytes], host_files: Mapping[str, bytes], suite: str | None
) -> list[Source]:
    """
    The archives that a base belongs to: those of its own apt, else this machine's for its suite.

    Args:
        files: Of the base, by path.
        host_files: Those of this machine that apt reads, likewise.
        suite: Where the base does not say it, as sid does not.

    Raises:
        UsageError: If neither knows any.
    """
    configured = list(_configured(files))
    if configured and suite is None:
        return configured
    suite = suite or _os_release(files).get("VERSION_CODENAME")
    ours = (*configured, *_configured(host_files))
    found = [one for one in ours if suite and (one.suite == suite or _is_part(one.suite, suite))]
    if not found:
        raise UsageError(
            f"it is not known which archive has packages for {suite or 'the base image'}",
            hint="Say it with `--source 'deb URL SUITE COMPONENT…'`, once for each: neither the "
            "base nor this machine is configured with any.",
        )
    return list(dict.fromkeys(found))


def _is_part(name: str, suite: str) -> bool:
    """Whether *name* is a suite that completes *suite*: ``bookworm-updates``."""
    return (
        re.fullmatch(rf"{re.escape(suite)}-(?:updates|security|security-updates)", name) is not None
    )


def host_apt_files(folder: Path = _HOST_APT) -> dict[str, bytes]:
    """What apt is configured with on this machine, by path; nothing where there is no apt."""
    found = {}
    for path in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))):
        if path.is_file():
            found[f"etc/apt/{path.relative_to(folder)}"] = path.read_bytes()
    return found


def _configured(files: Mapping[str, bytes]) -> Iterator[Source]:
    for path in sorted(files):
        text = files[path].decode("utf-8", "replace")
        if path == "etc/apt/sources.list" or re.fullmatch(r"etc/apt/sources.list.d/.*\.list", path):
            for line in text.splitlines():
                if line.strip().startswith("deb ") and "http" in line:
                    yield parse_source(line.partition("#")[0])
        elif re.fullmatch(r"etc/apt/sources.list.d/.*\.sources", path):
            for fields in paragraphs(text):
                if "deb" in fields.get("Types", "").split() and fields.get("Enabled") != "no":
                    for url in fields.get("URIs", "").split():
                        for suite in fields.get("Suites", "").split():
                            components = fields.get("Components", "")
                            yield parse_source(f"deb {url} {suite} {components}")


def _os_release(files: Mapping[str, bytes]) -> dict[str, str]:
    found = next((files[p] for p in ("etc/os-release", "usr/lib/os-release") if p in files), b"")
    pattern = re.compile(r"""(?m)^(\w+)=["']?([^"'\n]*)""")
    return dict(pattern.findall(found.decode("utf-8", "replace")))


def read_packages(
    sources: Sequence[Source],
    architecture: str,
    *,
    http: Http,
    files: Mapping[str, bytes],
    is_trusted: bool,
) -> list[dict[str, str]]:
    """
    The packages that *sources* list; each has the member ``URL`` beside a control file's.

    Every list is checked against its release file, and that by its signature.

    Args:
        sources: The archives.
        architecture: As Debian says it.
        http: The door to the network.
        files: Of the base; its keyrings are among them.
        is_trusted: Believe release files without a signature that we can check.

    Raises:
        FetchError: If a list cannot be had, or is not what was signed.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        keyrings = _keyrings(files, Path(folder))
        for source in sources:
            release = _get(http, f"{source.release_url}/InRelease")
            signed = release if is_trusted else _signed_text(release, keyrings, source)
            for text in _lists(source, signed, architecture, http):
                for fields in paragraphs(text):
                    if "Filename" in fields:
                        fields["URL"] = f"{source.url}/{fields['Filename'].removeprefix('./')}"
                        found.append(fields)
    return found


def _lists(source: Source, release: bytes, architecture: str, http: Http) -> Iterator[str]:
    sums = _sums(release.decode("utf-8", "replace"))
    folders = [""] if source.is_flat else [f"{c}/binary-{architecture}/" for c in source.components]
    for folder in folders:
        name = next(
            (n for n in (f"{folder}Packages{e}" for e in (".xz", ".gz", "")) if n in sums), None
        )
        if name is None:
            raise FetchError(f"{source} lists no packages for {architecture}")
        data = _get(http, f"{source.release_url}/{name}")
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise FetchError(
                f"{source}: {name} is not the one that was signed",
                hint="The archive may be changing, or a proxy keeps an old copy: try again.",
            )
        yield _unpacked(name, data).decode("utf-8", "replace")


def _unpacked(name: str, data: bytes) -> bytes:
    if name.endswith(".xz"):
        return lzma.decompress(data)
    return gzip.decompress(data) if name.endswith(".gz") else data


def _sums(release: str) -> dict[str, str]:
    """The SHA-256 of each file that a release file names."""
    for fields in paragraphs(release):
        if "SHA256" in fields:
            lines = (line.split() for line in fields["SHA256"].splitlines())
            return {words[2]: words[0] for words in lines if len(words) == 3}
    return {}


def _keyrings(files: Mapping[str, bytes], folder: Path) -> list[Path]:
    """The base's own keyrings, written into *folder*, and this machine's."""
    found = []
    for number, path in enumerate(sorted(files)):
        if path.startswith(_KEYRINGS):
            keyring = folder / f"{number}{Path(path).suffix}"
            keyring.write_bytes(files[path])
            found.append(keyring)
    for place in _HOST_KEYRINGS:
        if place.is_dir():
            found += sorted(path for path in place.iterdir() if "archive" in path.name)
    return found


def _signed_text(release: bytes, keyrings: Sequence[Path], source: Source) -> bytes:
    """
    What the signature of a release file covers, and nothing else.

    Raises:
        FetchError: If none of *keyrings* vouches for it.
    """
    gpgv = shutil.which("gpgv")
    hint = (
        "Name the archive's keyring in the base (/etc/apt/trusted.gpg.d), or, where the network "
        "is trusted, say `--trusted`."
    )
    if gpgv is None:
        raise FetchError(
            f"the signature of {source} cannot be checked: gpgv is not installed",
            hint="Install it (`sudo apt install gpgv`), or, where the network is trusted, say "
            "`--trusted`.",
        )
    words = [gpgv, "--quiet", "--output", "-"]
    for keyring in keyrings:
        if keyring.suffix in {".gpg", ".kbx", ".pgp"}:
            words += ["--keyring", str(keyring)]
    done = subprocess.run([*words, "-"], input=release, capture_output=True, check=False)
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise FetchError(
            f"the release file of {source} is not signed by a key that is trusted here",
            details=said[-6:],
            hint=hint,
        )
    return done.stdout


def _get(http: Http, url: str) -> bytes:
    held = bytearray()
    try:
        http.download(url, held.extend)
    except HttpError as error:
        raise FetchError(
            f"cannot read the package lists: {error}",
            hint="Check the network, or name another mirror with `--source`.",
        ) from error
    return bytes(held)
