"""``clusters``: what is configured, and whether it would do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmslurm_repro.cli.cluster_add import add
from xmslurm_repro.cli.output import json_option, print_json, print_table
from xmslurm_repro.cli.session import run
from xmslurm_repro.model.canonical import Json

if TYPE_CHECKING:
    from xmslurm_repro.config import ClusterSettings
    from xmslurm_repro.ports.cluster import Fact
    from xmslurm_repro.services.tools import Tools


@click.group()
def clusters() -> None:
    """Describe, show and check clusters."""


clusters.add_command(add)


@clusters.command("list")
@json_option
def list_(as_json: bool) -> int:
    """List the clusters of the configuration."""
    from xmslurm_repro.config import load_settings

    settings = load_settings(environ=os.environ, start=Path(os.curdir).absolute())
    rows = [
        [name, cluster.scheduler, cluster.transport, ", ".join(cluster.hosts) or "-"]
        for name, cluster in sorted(settings.clusters.items())
    ]
    header = ["name", "scheduler", "transport", "hosts"]
    if as_json:
        print_json(
            [
                {
                    **dict(zip(header, row, strict=True)),
                    "default": row[0] == settings.default_cluster,
                }
                for row in rows
            ]
        )
    else:
        marked = [
            [f"{name} (default)" if name == settings.default_cluster else name, *rest]
            for name, *rest in rows
        ]
        print_table(header, marked)
    return 0


@clusters.command()
@click.argument("name", required=False)
@click.option("--offline", is_flag=True, help="Do not connect; show the configuration only.")
@json_option
def show(name: str | None, offline: bool, as_json: bool) -> int:
    """
    Show how NAME is configured, and in which line of which file.

    Then, from the cluster itself: partitions, accounts that you may charge, and limits.
    """
    from xmslurm_repro.config import cluster_settings_in_files, load_settings

    environ, start = os.environ, Path(os.curdir).absolute()
    configured = load_settings(environ=environ, start=start).cluster(name)
    said = cluster_settings_in_files(environ=environ, start=start, name=configured.name)
    settings = [(key, _plain(value), place) for key, value, place in said]
    settings += _defaults(configured, {key for key, _, _ in said})

    async def body(tools: Tools) -> int:
        facts = [] if offline else await tools.site(configured.name).cluster.charges()
        if as_json:
            print_json(
                {
                    "name": configured.name,
                    "settings": [
                        {"key": key, "value": value, "from": place}
                        for key, value, place in settings
                    ],
                    "facts": _facts_json(facts),
                }
            )
            return 0
        rows = [[key, _say(value), place] for key, value, place in settings]
        print_table(["setting", configured.name, "from"], rows)
        if facts:
            click.echo()
            print_table(["what", "on the cluster"], [[fact.name, fact.value] for fact in facts])
        return 0

    return run(body, is_quiet=as_json)


def _defaults(configured: ClusterSettings, said: set[str]) -> list[tuple[str, Json, str]]:
    """What counts where no file says anything."""
    otherwise: dict[str, Json] = {
        "scheduler": configured.scheduler,
        "transport": configured.transport,
        "runtime": configured.runtime,
    }
    if configured.transport != "local" and configured.state_dir is None:
        otherwise["state_dir"] = "~/.xmslurm"
    return [(key, value, "default") for key, value in otherwise.items() if key not in said]


def _plain(value: Any) -> Json:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int) else str(value)


def _say(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(map(_say, value))
    return "(a flag)" if value == "" else str(value)


@clusters.command()
@click.argument("name", required=False)
@click.option("--job", "with_job", is_flag=True, help="Look on a compute node too, by a tiny job.")
@json_option
def check(name: str | None, with_job: bool, as_json: bool) -> int:
    """Connect to NAME and report what a launch would need. Ends with 1 when something lacks."""

    async def body(tools: Tools) -> int:
        return await check_site(tools, name, with_job=with_job, as_json=as_json)

    return run(body, is_quiet=as_json)


async def check_site(tools: Tools, name: str | None, *, with_job: bool, as_json: bool) -> int:
    """Check a cluster and print what was found; 1 if something lacks."""
    site = tools.site(name)
    facts = await site.cluster.check(options=site.options, with_job=with_job)
    if as_json:
        print_json(_facts_json(facts))
    else:
        print_facts(facts)
    return 0 if all(fact.is_good for fact in facts) else 1


def print_facts(facts: Sequence[Fact]) -> None:
    """Print facts as a table."""
    marks = {True: click.style("ok", fg="green"), False: click.style("no", fg="red")}
    print_table(["", "what", "found"], [[marks[f.is_good], f.name, f.value] for f in facts])


def _facts_json(facts: Sequence[Fact]) -> list[Json]:
    return [{"name": f.name, "value": f.value, "good": f.is_good} for f in facts]
