"""What a build of a Dockerfile is told beside its context."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """
    As ``docker build`` has them.

    Attributes:
        dockerfile: From the context.
        target: The stage to stop at; ``None`` for the last one.
        arguments: Values of ``ARG``, by name.
        labels: Of the image, by name. They are part of what it is.
        cache_from: Images whose layers the engine may take for steps.
        network: What steps may reach; ``None`` for the engine's default.
        use_cache: Whether steps that the engine ran before may be taken from its cache.
    """

    dockerfile: str = "Dockerfile"
    target: str | None = None
    arguments: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    cache_from: tuple[str, ...] = ()
    network: str | None = None
    use_cache: bool = True
