"""``clusters add``: describe a cluster in a configuration file."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmslurm_repro.cli.output import json_option, print_json
from xmslurm_repro.cli.session import open_session
from xmslurm_repro.errors import ConnectionLostError, HostKeyError, ReproError, UsageError

if TYPE_CHECKING:
    from xmslurm_repro.config import Settings
    from xmslurm_repro.services.tools import Tools
    from xmslurm_repro.transport.ssh import HostKey

_RUNTIMES = "auto, bubblewrap, podman, docker, apptainer, charliecloud, …"


@click.command()
@click.argument("name")
@click.option("--host", "hosts", multiple=True, help="Login host or SSH alias. Repeatable.")
@click.option("--user", help="Your name there.")
@click.option("--port", type=click.IntRange(1, 65535), help="Where its sshd listens.")
@click.option(
    "--proxy-jump", multiple=True, metavar="HOST", help="Go through [user@]host[:port]. Repeatable."
)
@click.option("--identity-file", "identity_files", multiple=True, help="Private key. Repeatable.")
@click.option("--ssh-config", metavar="FILE", help="In place of ~/.ssh/config.")
@click.option("--known-hosts", metavar="FILE", help="In place of ~/.ssh/known_hosts.")
@click.option(
    "--host-key",
    "host_keys",
    multiple=True,
    metavar="KEY",
    help="Pin this key: its SHA256 fingerprint, or a public key. Repeatable.",
)
@click.option("--transport", type=click.Choice(["local", "ssh", "openssh"]))
@click.option("--scheduler", type=click.Choice(["slurm", "local"]))
@click.option("--state-dir", metavar="FOLDER", help="There; compute nodes must see it.")
@click.option("--runtime", metavar="NAME", help=f"What runs containers: {_RUNTIMES}")
@click.option("--registry", metavar="REPOSITORY", help="Images are pushed to it and pulled there.")
@click.option("--account", help="Whom jobs are charged to.")
@click.option("--partition", help="Where jobs run.")
@click.option(
    "--option",
    "-o",
    "options",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Of sbatch. Repeatable.",
)
@click.option("--project", is_flag=True, help="In the project's file, not in your own.")
@click.option("--default", "is_default", is_flag=True, help="Use it when no cluster is named.")
@click.option("--no-check", is_flag=True, help="Only write it down; connect to nothing.")
@json_option
def add(name: str, **given: Any) -> int:
    """
    Describe a cluster as NAME, and check it.

    The table is added to your configuration file, or with --project to the project's
    xmslurm-repro.toml. A host key that is not known is shown, and pinned only if you say so.
    """
    from xmslurm_repro.config import file_to_write, keep_file, load_settings, with_cluster
    from xmslurm_repro.config.layers import text_of

    environ, start = os.environ, Path(os.curdir).absolute()
    file = file_to_write(environ, start, for_project=given["project"])
    before = text_of(file)
    values = _values(given)

    def described(values: Mapping[str, Any]) -> tuple[str, Settings]:
        text = with_cluster(before, file, name, values, is_default=given["is_default"])
        return text, load_settings(environ=environ, start=start, changed={file: text})

    text, settings = described(values)
    if not given["no_check"]:
        pinned = _pin(settings, name, given["host_keys"])
        text, settings = described({**values, **({"host_key": pinned} if pinned else {})})
    keep_file(file, text)
    if not given["as_json"]:
        click.echo(f"Wrote [clusters.{name}] to {file}.")
    if given["no_check"]:
        if given["as_json"]:
            print_json({"name": name, "file": str(file)})
        return 0

    async def body(tools: Tools) -> int:
        from xmslurm_repro.cli.clusters import check_site

        return await check_site(tools, name, with_job=False, as_json=given["as_json"])

    return open_session(settings, body, is_quiet=given["as_json"])


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The table's keys, in the order in which they are documented."""
    from xmslurm_repro.cli.launch import name_and_value

    options: dict[str, str | bool] = {}
    for key in ("account", "partition"):
        if given[key]:
            options[key] = given[key]
    for text in given["options"]:
        key, value = name_and_value(text)
        options[key] = value or True
    hosts = list(given["hosts"])
    if not hosts and given["transport"] in {"ssh", "openssh"}:
        raise UsageError("no host was named", hint="Name the login host with `--host`.")
    paths = {key: _absolute(given[key]) for key in ("known_hosts", "ssh_config") if given[key]}
    found = {
        "scheduler": given["scheduler"],
        "transport": given["transport"],
        "hosts": hosts,
        "user": given["user"],
        "port": given["port"],
        "proxy_jump": list(given["proxy_jump"]),
        "known_hosts": paths.get("known_hosts"),
        "identity_files": [_absolute(path) for path in given["identity_files"]],
        "ssh_config": paths.get("ssh_config"),
        "state_dir": given["state_dir"],
        "runtime": given["runtime"],
        "registry": given["registry"],
        "options": options,
    }
    values = {key: value for key, value in found.items() if value}
    # A table without any key would be none.
    return values or {"scheduler": "slurm"}


def _absolute(path: str) -> str:
    """A path of the command line is relative to here; one in a file, to the file."""
    return path if path.startswith("~") else str(Path(path).absolute())


def _pin(settings: Settings, name: str, told: Sequence[str]) -> list[str]:
    """
    The keys to pin, one for each host; none where all hosts are known and none was given.

    Raises:
        HostKeyError: If a key is neither known nor accepted, naming each.
        ConnectionLostError: If a host shows no key, naming each.
    """
    from xmslurm_repro.wiring import read_host_keys

    found = asyncio.run(read_host_keys(settings, name, ask=None))
    if told and not found:
        raise UsageError("a host key can be pinned only where we make the connection ourselves")
    silent = [(host, key) for host, key in found if isinstance(key, ReproError)]
    if silent:
        raise ConnectionLostError(
            f"{len(silent)} of {len(found)} hosts of cluster {name} showed no host key",
            hint="Nothing was written. Check names and ports, or write it down with `--no-check`.",
            details=[error.message for _, error in silent],
            may_have_run=False,
        )
    shown = [(host, key) for host, key in found if not isinstance(key, ReproError)]
    refused = [item for item in shown if not _accepts(*item, told)]
    if refused:
        raise HostKeyError(
            f"host keys of cluster {name} were not accepted; nothing was written",
            hint="Compare them with those that the site publishes, then give them: "
            + " ".join(f"--host-key {key.fingerprint}" for _, key in refused),
            details=[_describe(host, key) for host, key in refused],
        )
    if not told and all(key.trust == "known" for _, key in shown):
        return []
    lines = [key.line for _, key in shown]
    return lines[:1] if len(set(lines)) == 1 else lines


def _accepts(host: str, key: HostKey, told: Sequence[str]) -> bool:
    if told:
        return any(
            text == key.fingerprint or text.split()[:2] == key.line.split()[:2] for text in told
        )
    if key.trust == "known":
        return True
    if key.trust == "changed" or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    click.echo(_describe(host, key), err=True)
    return click.confirm("Is this the right key? Then it is pinned", default=False, err=True)


def _describe(host: str, key: HostKey) -> str:
    kind = key.line.split()[0]
    changed = "; ANOTHER key than before" if key.trust == "changed" else ""
    return f"{host} shows {key.fingerprint} ({kind}){changed}"
