"""Names of images in registries, as Docker writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from xmslurm_repro.model.digest import Digest

DOCKER_HUB = "docker.io"
_HUB_ALIASES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_HUB_API_HOST = "registry-1.docker.io"

# From the grammar of github.com/distribution/reference.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HOST = re.compile(
    r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """
    An image in a registry.

    Attributes:
        registry: Host and port, such as ``docker.io`` or ``localhost:5000``.
        repository: Such as ``library/python``.
        tag: Or ``None``.
        digest: Of the image manifest or index; outranks the tag.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        """Refuse what no registry would take."""
        if not _HOST.fullmatch(self.registry):
            raise ValueError(f"{self.registry!r} is no registry's host")
        if not _REPOSITORY.fullmatch(self.repository) or len(self.repository) > 255:
            raise ValueError(f"{self.repository!r} is no name for a repository (lower case only)")
        if self.tag is not None and not _TAG.fullmatch(self.tag):
            raise ValueError(f"{self.tag!r} is no tag")
        if self.digest is not None and self.digest.algorithm != "sha256":
            raise ValueError(f"{self.digest} is not a SHA-256")

    @classmethod
    def parse(cls, text: str) -> Reference:
        """
        Read a reference by Docker's rules; ``parse(str(reference))`` gives *reference* again.

        The first component is a host if it holds a dot or a colon, or is ``localhost``; without a
        host Docker Hub is meant, and there a single component is in ``library/``.

        Raises:
            ValueError: If *text* is none.
        """
        rest, at, digits = text.removeprefix("docker://").partition("@")
        digest = Digest.parse(digits) if at else None
        host, slash, path = rest.partition("/")
        if not slash or not ("." in host or ":" in host or host == "localhost"):
            host, path = DOCKER_HUB, rest
        name, colon, tag = path.rpartition(":")
        if not colon:
            name, tag = path, ""
        if host in _HUB_ALIASES:
            host = DOCKER_HUB
            name = name if "/" in name else f"library/{name}"
        if colon and not tag:
            raise ValueError(f"{text!r} ends in an empty tag")
        return cls(registry=host, repository=name, tag=tag or None, digest=digest)

    def __str__(self) -> str:
        """Write it in full, host first."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest, else the tag, else ``latest``."""
        return str(self.digest) if self.digest else self.tag or "latest"

    @property
    def api_host(self) -> str:
        """The host that speaks the protocol."""
        return _HUB_API_HOST if self.registry == DOCKER_HUB else self.registry
