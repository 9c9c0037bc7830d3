"""``base``: make and name base images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmslurm_repro.cli.output import json_option, print_fields, print_json, print_table
from xmslurm_repro.cli.session import run
from xmslurm_repro.errors import UsageError
from xmslurm_repro.model.canonical import Json

if TYPE_CHECKING:
    from xmslurm_repro.model.image import BaseImage
    from xmslurm_repro.services.tools import Tools


@click.group()
def base() -> None:
    """Make and name base images."""


@base.command()
@click.argument("name", default="default")
@click.option("--suite", default="bookworm", show_default=True, help="Debian release.")
@click.option(
    "--package", "-p", "packages", multiple=True, help="NAME or NAME=VERSION. Repeatable."
)
@click.option("--mirror", metavar="URL", help="Where Debian's packages come from.")
@click.option("--arch", metavar="ARCH", help="Such as arm64; this machine's otherwise.")
@json_option
def create(
    name: str,
    suite: str,
    packages: tuple[str, ...],
    mirror: str | None,
    arch: str | None,
    as_json: bool,
) -> int:
    """Make a base image with Python from Debian packages, and call it NAME."""

    async def body(tools: Tools) -> int:
        # What it finds and writes is needed by nobody before it has its name.
        with tools.guard.using():
            made = tools.bases.create(
                name=name,
                suite=suite,
                packages=packages,
                mirror=mirror,
                architecture=arch,
                progress=tools.progress,
            )
        _print_base(name, made, as_json=as_json)
        return 0

    return run(body, is_quiet=as_json)


@base.command()
@click.argument("reference")
@click.option("--name", default="default", show_default=True, help="What to call it.")
@json_option
def add(reference: str, name: str, as_json: bool) -> int:
    """
    Call the image REFERENCE by a name: a registry's tag or digest, `oci:FOLDER`, or
    `docker-daemon:NAME`. Its bytes are kept, so a tag that moves later changes nothing.
    """

    async def body(tools: Tools) -> int:
        with tools.guard.using():
            added = tools.bases.add(name=name, reference=reference, progress=tools.progress)
        _print_base(name, added, as_json=as_json)
        return 0

    return run(body, is_quiet=as_json)


@base.command()
@click.argument("name", default="default")
@json_option
def show(name: str, as_json: bool) -> int:
    """Show what base image NAME offers: Python, C library, and the packages in it."""

    async def body(tools: Tools) -> int:
        found = tools.bases.resolve(name, progress=tools.progress)
        contents = tools.bases.contents(found, progress=tools.progress)
        if as_json:
            print_json({**_base_json(name, found), "contents": contents.to_json()})
            return 0
        _print_base(name, found, as_json=False)
        system = f"{contents.distribution} {contents.release}".strip() or "unknown"
        print_fields([("system  ", system)])
        for package in contents.packages:
            click.echo(f"package   {package.name}={package.version}")
        return 0

    return run(body, is_quiet=as_json)


@base.command()
@click.option("--name", default="default", show_default=True, help="What to call it.")
@click.option("--file", default="Dockerfile", show_default=True, help="From the context.")
@click.option("--context", default=".", metavar="DIR", help="The folder to build in.")
@click.option("--target", metavar="STAGE", help="The stage to build; the last one otherwise.")
@click.option(
    "--build-arg", "arguments", multiple=True, metavar="NAME=VALUE", help="For ARG. Repeatable."
)
@click.option("--network", metavar="MODE", help="For its steps: none, host or default.")
@click.option("--no-cache", is_flag=True, help="Run every step, whatever the engine has cached.")
@click.option("--no-git", is_flag=True, help="Accept a folder that is in no git repository.")
@json_option
def build(**given: Any) -> int:
    """
    Build a Dockerfile with a Docker engine, make the result canonical, and call it a name.

    The context is a snapshot of the work tree: what git ignores is not in it. An engine other
    than that of the usual socket is named by DOCKER_HOST.
    """

    async def body(tools: Tools) -> int:
        from xmslurm_repro.model.dockerfile import BuildOptions
        from xmslurm_repro.services.build_base import build_base
        from xmslurm_repro.services.prepare import CodeRequest

        start = Path(given["context"]).absolute()
        if not start.is_dir():
            raise UsageError(f"there is no folder {given['context']}")
        name = given["name"]
        built = build_base(
            tools,
            CodeRequest(start=start, allow_unborn=True, allow_no_repository=given["no_git"]),
            name=name,
            options=BuildOptions(
                dockerfile=given["file"],
                target=given["target"],
                arguments=tuple(sorted(map(_pair, given["arguments"]))),
                network=given["network"],
                use_cache=not given["no_cache"],
            ),
        )
        if given["as_json"]:
            snapshot = str(built.snapshot.root)
            print_json({**_base_json(name, built.base), "snapshot": snapshot})
        else:
            _print_base(name, built.base, as_json=False)
            print_fields([("snapshot", str(built.snapshot.root))])
        return 0

    return run(body, is_quiet=given["as_json"])


@base.command()
@click.argument("packages", nargs=-1, metavar="[NAME[=VERSION]]...")
@click.option("--base", "reference", metavar="IMAGE", help="The base; else the configured one.")
@click.option("--file", type=click.Path(path_type=Path), help="Else system-packages.lock here.")
@click.option("--suite", help="Where the base does not say it, as sid does not.")
@click.option(
    "--source", "sources", multiple=True, metavar="LINE", help="As in sources.list. Repeatable."
)
@click.option("--trusted", is_flag=True, help="Believe archives without a known signature.")
@json_option
def lock(
    packages: tuple[str, ...],
    reference: str | None,
    file: Path | None,
    suite: str | None,
    sources: tuple[str, ...],
    trusted: bool,
    as_json: bool,
) -> int:
    """
    Pin Debian packages, and all that they need beyond a base image, by version and hash.

    Without names those of `extra_system_packages` are meant. Launches install what the file
    says; it belongs into the project. No package's scripts are ever run.
    """

    async def body(tools: Tools) -> int:
        from xmslurm_repro.cli.system_lock import write_system_lock
        from xmslurm_repro.services.system_packages import SystemSources

        asked = SystemSources(lines=sources, suite=suite, is_trusted=trusted)
        target = file or Path(os.curdir) / "system-packages.lock"
        return write_system_lock(tools, packages, reference, target, asked, as_json=as_json)

    return run(body, is_quiet=as_json)


@base.command("list")
@json_option
def list_(as_json: bool) -> int:
    """List the base images that are here."""

    async def body(tools: Tools) -> int:
        names = tools.bases.names()
        if as_json:
            print_json({name: str(found.digest) for name, found in names.items()})
        elif names:
            rows = [[name, str(found.digest)] for name, found in names.items()]
            print_table(["name", "digest"], rows)
        else:
            click.echo("No base images yet. Make one with `xmslurm-repro base create`.")
        return 0

    return run(body, is_quiet=as_json)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _print_base(name: str, image: BaseImage, *, as_json: bool) -> None:
    target = image.target
    if as_json:
        print_json(_base_json(name, image))
        return
    print_fields(
        [
            ("base", name),
            ("digest", str(image.manifest.digest)),
            ("platform", image.architecture),
            (
                "python",
                f"{target.python} at {target.python_executable}" if target else "none found",
            ),
            ("libc", "{} {}.{}".format(*target.libc) if target else "unknown"),
        ]
    )


def _base_json(name: str, image: BaseImage) -> dict[str, Json]:
    return {
        "name": name,
        "digest": str(image.manifest.digest),
        "architecture": image.architecture,
        "target": image.target.to_json() if image.target else None,
    }
